//! Curves out of the seconds of a run.

use super::axis::{Axis, Scale};
use super::chart::{Line, Mark};
use crate::objective::Quantile;
use crate::results::{Counts, Latency, Results, Second, Summary};

/// Points over time; nothing where nothing was measured.
pub(super) type Points = Vec<(f64, Option<f64>)>;

/// A phase ends between full seconds: a rate over less than this part of one is noise.
const PART_MIN_S: f64 = 0.2;

/// Uploads or downloads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    Upload,
    Download,
}

impl Kind {
    fn of(self, counts: &Counts) -> Option<&Latency> {
        let latency = match self {
            Self::Upload => &counts.upload_latency,
            Self::Download => &counts.download_latency,
        };
        latency.as_ref().filter(|latency| !latency.is_empty())
    }
}

/// Each second with the time that it covers.
fn lengths(run: &Results) -> impl Iterator<Item = (&Second, f64)> {
    let begins = std::iter::once(0.0).chain(run.seconds.iter().map(|second| second.at));
    run.seconds
        .iter()
        .zip(begins)
        .map(|(second, begin)| (second, second.at - begin))
}

/// Where each phase begins; none when there is only one.
pub(super) fn phases(run: &Results) -> Vec<Mark> {
    let mut marks: Vec<Mark> = Vec::new();
    for (second, length) in lengths(run) {
        if marks.last().is_none_or(|mark| mark.name != second.phase) {
            marks.push(Mark {
                at: second.at - length,
                name: second.phase.clone(),
            });
        }
    }
    match marks.len() {
        0 | 1 => Vec::new(),
        _ => marks,
    }
}

/// Latency of uploads in milliseconds by the rate that each phase offered, at these percentiles; one line
/// each, from the lowest rate to the highest.
pub(super) fn latency_by_rate(summary: &Summary, quantiles: &[Quantile]) -> Vec<Line> {
    let mut steps: Vec<_> = summary
        .phases
        .iter()
        .filter_map(|phase| Some((phase.offered_uploads_per_second?, phase.all.upload)))
        .collect();
    steps.sort_by(|one, other| one.0.total_cmp(&other.0));
    let line = |quantile: &Quantile| Line {
        name: quantile.name().to_owned(),
        points: steps
            .iter()
            .map(|(rate, upload)| {
                let micros = upload.map(|upload| quantile.of(&upload.corrected));
                (*rate, micros.map(millis))
            })
            .collect(),
    };
    quantiles.iter().map(line).collect()
}

/// A count per second; empty if it was never counted.
pub(super) fn rate(run: &Results, of: fn(&Counts) -> u64) -> Points {
    if run.seconds.iter().all(|second| of(&second.all) == 0) {
        return Vec::new();
    }
    let long_enough = lengths(run).filter(|(_, length)| *length >= PART_MIN_S);
    long_enough
        .map(|(second, length)| (second.at, Some(float(of(&second.all)) / length)))
        .collect()
}

/// Requests that were due and not sent; `None` when there never were any.
pub(super) fn behind(run: &Results) -> Points {
    if run.seconds.iter().all(|second| second.behind == 0) {
        return Vec::new();
    }
    over(run, |second| Some(float(second.behind)))
}

/// A percentile of the latency in each second, in milliseconds.
pub(super) fn latency(run: &Results, kind: Kind, quantile: f64) -> Points {
    over(run, |second| {
        kind.of(&second.all)
            .map(|latency| millis(latency.micros_at(quantile)))
    })
}

/// Latency in milliseconds by the logarithm of 1 / (1 − quantile), from the median on: each step is
/// a nine more.
pub(super) fn percentiles(run: &Results, kind: Kind) -> Points {
    let mut all = Latency::default();
    for latency in run.seconds.iter().filter_map(|second| kind.of(&second.all)) {
        all.add(latency);
    }
    if all.is_empty() {
        return Vec::new();
    }
    // The smallest share is one request: beyond it there is no data.
    let half = 2f64.log10();
    let last = float(all.count()).log10().max(half);
    let steps = (4..=60u8).map(|step| f64::from(step) / 10.0);
    let nines = [half]
        .into_iter()
        .chain(steps)
        .take_while(|nines| *nines <= last);
    let point = |nines: f64| {
        let quantile = 1.0 - 10f64.powf(-nines);
        (nines, Some(millis(all.micros_at(quantile))))
    };
    let end = (last, Some(millis(all.histogram().max())));
    nines.map(point).chain([end]).collect()
}

/// The axis of [`percentiles`], as long as the longest of the lines.
pub(super) fn percentile_axis(lines: &[Line]) -> Axis {
    let points = lines.iter().flat_map(|line| &line.points);
    let longest = points.map(|(nines, _)| *nines).fold(1.0, f64::max);
    let named = [
        (2f64.log10(), "50 %"),
        (1.0, "90 %"),
        (2.0, "99 %"),
        (3.0, "99.9 %"),
        (4.0, "99.99 %"),
        (5.0, "99.999 %"),
        (6.0, "99.9999 %"),
    ];
    let mut ticks: Vec<_> = named
        .iter()
        .filter(|(nines, _)| *nines <= longest)
        .map(|(nines, name)| (*nines, (*name).to_owned()))
        .collect();
    // The axis ends where the lines do.
    if ticks
        .last()
        .is_some_and(|(nines, _)| longest - nines > 1e-6)
    {
        ticks.push((longest, String::new()));
    }
    Axis {
        label: "percentile".to_owned(),
        scale: Scale::Named(ticks),
    }
}

/// Cores that a process kept busy.
pub(super) fn cores(run: &Results, process: &str) -> Points {
    let used = |second: &Second| {
        let sample = second.processes.get(process);
        sample.map(|sample| (second.at, sample.cpu_seconds))
    };
    let samples: Vec<_> = run.seconds.iter().filter_map(used).collect();
    let between = samples
        .windows(2)
        .filter(|pair| pair[1].0 - pair[0].0 >= PART_MIN_S);
    between
        .map(|pair| {
            // A restarted process counts from zero.
            let busy = pair[1].1 - pair[0].1;
            (
                pair[1].0,
                (busy >= 0.0).then(|| busy / (pair[1].0 - pair[0].0)),
            )
        })
        .collect()
}

/// A process's resident set, in MB.
pub(super) fn resident(run: &Results, process: &str) -> Points {
    if run
        .seconds
        .iter()
        .all(|second| !second.processes.contains_key(process))
    {
        return Vec::new();
    }
    over(run, |second| {
        let sample = second.processes.get(process);
        sample.map(|sample| float(sample.rss_bytes) / 1e6)
    })
}

/// The database's files, in MB.
pub(super) fn disk(run: &Results) -> Points {
    over(run, |second| {
        second.disk_bytes.map(|bytes| float(bytes) / 1e6)
    })
}

/// Keys that the run has stored.
pub(super) fn stored(run: &Results) -> Points {
    over(run, |second| Some(float(second.stored_keys)))
}

/// Nanoseconds per stored key in each stage, between the first and the last second with data.
pub(super) fn stages(run: &Results) -> Vec<(String, f64)> {
    let known: Vec<_> = run
        .seconds
        .iter()
        .filter(|second| !second.stages.is_empty())
        .collect();
    let (Some(first), Some(last)) = (known.first(), known.last()) else {
        return Vec::new();
    };
    let keys = float(last.stored_keys.saturating_sub(first.stored_keys));
    if keys <= 0.0 {
        return Vec::new();
    }
    let spent = |name: &&str| {
        let before = first.stages.get(*name);
        let before = before.map_or(0.0, |sample| sample.seconds_total);
        let nanos = (last.stages.get(*name)?.seconds_total - before) / keys * 1e9;
        (nanos > 0.0).then(|| ((*name).to_owned(), nanos))
    };
    // A commit is part of persisting, if that stage is reported.
    let whole = last.stages.contains_key("persist");
    let names = WALK.iter().filter(|name| !(whole && **name == "commit"));
    names.filter_map(spent).collect()
}

/// The stages in the order of the walk. Other timings of the gateway (whole requests, callbacks)
/// are not part of a key's path.
const WALK: [&str; 10] = [
    "admission",
    "decode",
    "validate",
    "verify",
    "dedup",
    "seal",
    "persist",
    "commit",
    "bundle",
    "serve",
];

fn over(run: &Results, of: impl Fn(&Second) -> Option<f64>) -> Points {
    run.seconds
        .iter()
        .map(|second| (second.at, of(second)))
        .collect()
}

fn millis(micros: u64) -> f64 {
    float(micros) / 1000.0
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people to see")]
const fn float(count: u64) -> f64 {
    count as f64
}
