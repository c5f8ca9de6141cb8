//! Results in readable form: a few lines per phase.

use std::collections::BTreeMap;
use std::fmt;

use super::figures::{Figures, LatencySummary, PhaseSummary, Summary};
use super::latency::Percentiles;

/// Bytes in a MiB.
const MIB: f64 = 1_048_576.0;

#[allow(clippy::cast_precision_loss, reason = "a figure for people to read")]
const fn real(count: u64) -> f64 {
    count as f64
}

fn millis(micros: u64) -> f64 {
    real(micros) / 1000.0
}

/// The figures of a phase: its streams, if it has several, and what they cost.
impl fmt::Display for PhaseSummary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            name,
            all,
            streams,
            stored_keys,
            ..
        } = self;
        let (seconds, keys) = (all.seconds, all.upload_keys);
        write!(f, "{name}: {seconds:.1} s, {keys} keys stored")?;
        match keys == *stored_keys {
            true => writeln!(f)?,
            false => writeln!(f, " ({stored_keys} by the run so far)")?,
        }
        if let Some(keys) = self.offered_keys_per_second {
            let uploads = self.offered_uploads_per_second.unwrap_or(0.0);
            writeln!(f, "  offered     {uploads:.1} uploads/s, {keys:.0} keys/s")?;
        }
        match streams.is_empty() {
            true => show_figures(f, "", all)?,
            false => {
                for (stream, figures) in streams {
                    show_figures(f, stream, figures)?;
                }
            }
        }
        if all.behind_max > 0 {
            writeln!(f, "  behind      at most {} requests", all.behind_max)?;
        }
        show_processes(f, &self.cpu_seconds, &self.rss_bytes, all.seconds)?;
        if let Some(bytes) = self.disk_bytes {
            let each = real(bytes) / real(stored_keys.max(&1).to_owned());
            writeln!(
                f,
                "  disk        {:.0} MiB, {each:.0} bytes per key",
                real(bytes) / MIB
            )?;
        }
        if let Some(seconds) = self.restart_seconds {
            writeln!(f, "  restart     ready after {seconds:.2} s")?;
        }
        Ok(())
    }
}

fn show_figures(f: &mut fmt::Formatter<'_>, stream: &str, figures: &Figures) -> fmt::Result {
    let Figures {
        uploads,
        upload_keys,
        downloads,
        download_keys,
        seconds,
        ..
    } = figures;
    if !stream.is_empty() {
        writeln!(f, "  {stream}: {} due", figures.due)?;
    }
    if let Some(latency) = &figures.upload {
        let each = real(*uploads) / seconds.max(0.001);
        let rate = figures.upload_keys_per_second;
        writeln!(
            f,
            "  uploads     {uploads} stored, {upload_keys} keys, {each:.1}/s, {rate:.0} keys/s"
        )?;
        show_latency(f, latency)?;
    }
    if let Some(latency) = &figures.download {
        let each = real(*downloads) / seconds.max(0.001);
        let rate = figures.download_keys_per_second;
        writeln!(
            f,
            "  downloads   {downloads} batches, {download_keys} keys, {each:.1}/s, {rate:.0} keys/s"
        )?;
        show_latency(f, latency)?;
    }
    let refused = figures.refused.iter();
    let mut others: Vec<_> = refused
        .map(|(status, count)| format!("{count} x {status}"))
        .collect();
    if figures.failed > 0 {
        others.push(format!("{} without answer", figures.failed));
    }
    if figures.dropped > 0 {
        writeln!(f, "  never sent  {} due requests", figures.dropped)?;
    }
    if !others.is_empty() {
        let unexpected = figures.unexpected;
        writeln!(
            f,
            "  answers     {}; {unexpected} unexpected",
            others.join(", ")
        )?;
    }
    Ok(())
}

fn show_latency(f: &mut fmt::Formatter<'_>, latency: &LatencySummary) -> fmt::Result {
    let of = |p: &Percentiles| [p.p50, p.p90, p.p99, p.p999, p.max].map(millis);
    let [p50, p90, p99, p999, max] = of(&latency.corrected);
    writeln!(
        f,
        "   latency    p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1} ms"
    )?;
    let [p50, p90, p99, p999, max] = of(&latency.service);
    writeln!(
        f,
        "   service    p50 {p50:.1}, p90 {p90:.1}, p99 {p99:.1}, p99.9 {p999:.1}, max {max:.1} ms"
    )
}

fn show_processes(
    f: &mut fmt::Formatter<'_>,
    cpu_seconds: &BTreeMap<String, f64>,
    rss_bytes: &BTreeMap<String, u64>,
    seconds: f64,
) -> fmt::Result {
    let one = |(name, used): (&String, &f64)| {
        let cores = used / seconds.max(0.001);
        let resident = real(rss_bytes.get(name).copied().unwrap_or(0)) / MIB;
        format!("{name} {cores:.2} cores, {resident:.0} MiB")
    };
    let all: Vec<_> = cpu_seconds.iter().map(one).collect();
    if all.is_empty() {
        return Ok(());
    }
    writeln!(f, "  processes   {}", all.join("; "))
}

/// The summary, without the phases.
impl fmt::Display for Summary {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.phases.len() > 1 {
            writeln!(f, "total: {:.1} s", self.total.seconds)?;
            show_figures(f, "", &self.total)?;
        }
        let own = &self.loadgen;
        write!(
            f,
            "loadgen itself: {:.0} ns per key to make and sign ({:.1} s ahead of the clock), \
             {:.0} ns per key to send and receive",
            own.signing_ns_per_key, own.ahead_seconds, own.sending_ns_per_key
        )
    }
}
