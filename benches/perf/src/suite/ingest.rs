//! Durable ingest over HTTP, with an empty database and with many keys stored.

use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::deployment::{
    Deployment, MAX_DELAY_MS, RunningGateway, UploadTimes, quantile, send_uploads,
};
use crate::http::Route;
use benches::FULL;
use loadgen::local::MariaDb;

use super::cpu::Yardstick;
use super::rates::{ROUNDS, UPLOADS_PER_ROUND, as_f64, mebibytes, rate, ratio_of};
use crate::ratios::{Figure, Ratio};
use crate::run::Run;
use crate::visible;

/// Approximate memory of the set per key: 21 to 32 bytes.
const SET_BYTES_PER_KEY: u64 = 27;
/// Uploads one after the other, for the latency of an idle gateway.
const UNLOADED_UPLOADS: usize = 300;

/// Durable ingest over HTTP, in proxy mode, on one database.
pub(super) struct Ingest<'a> {
    pub(super) name: &'static str,
    pub(super) program: &'a Path,
    pub(super) server: Option<&'a MariaDb>,
    pub(super) yardstick: &'a Yardstick,
}

impl Ingest<'_> {
    fn deployment(&self, what: &str) -> anyhow::Result<Deployment> {
        let name = format!("{}_{what}", self.name);
        Deployment::create(
            self.program,
            self.server.map(|server| (server, name.as_str())),
        )
    }

    /// Keys per second starting with an empty database, and the latency of an idle gateway.
    pub(super) fn empty(&self, run: &mut Run) -> anyhow::Result<()> {
        let deployment = self.deployment("empty")?;
        let running = deployment.start()?;
        let latencies = unloaded(&deployment, &running)?;
        let (mut rates, mut walks) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            walks.push(1e9 / self.yardstick.walk());
            rates.push(rate(&deployment, &running)?);
        }
        let (ratio, must, goal) = match self.server {
            None => ("ingest_sqlite/walk", 1e6, 2e6),
            Some(_) => ("ingest_mariadb/walk", 1e6, 2.5e6),
        };
        run.ratios.push(Ratio::new(ratio, ratio_of(&rates, &walks)));
        let name = self.name;
        drop(running);
        let peak = self.peak_memory()?;
        if self.server.is_none() {
            run.ratios.push(Ratio::new("peak_memory_mib", vec![peak]));
        }
        let millis = |share| vec![quantile(&latencies.latencies, share).as_secs_f64() * 1e3];
        run.figures.extend([
            Figure::new(format!("ingest over HTTP, {name}"), "keys/s", rates).against(must, goal),
            Figure::new(
                format!("one upload, unloaded, p50, {name}"),
                "ms",
                millis(0.5),
            )
            .against(20.0, 4.0),
            Figure::new(
                format!("one upload, unloaded, p99, {name}"),
                "ms",
                millis(0.99),
            )
            .against(20.0, 4.0),
            Figure::new(format!("peak memory under load, {name}"), "MiB", vec![peak])
                .against(256.0, 128.0),
        ]);
        Ok(())
    }

    /// Peak memory at full rate, in MiB, without the bundle cache, which is minimised, and without the
    /// set, which is subtracted.
    fn peak_memory(&self) -> anyhow::Result<f64> {
        let deployment = self.deployment("memory")?;
        let running = deployment.start_with(&[("EFGS__BUNDLE__CACHE_BYTES_MAX", "1048576")])?;
        for _ in 0..3 {
            rate(&deployment, &running)?;
        }
        let set = 3 * UPLOADS_PER_ROUND as u64 * u64::from(FULL) * SET_BYTES_PER_KEY;
        Ok(mebibytes(
            running.peak_resident_bytes()?.saturating_sub(set),
        ))
    }

    /// From an answer to the download of its keys: on an idle gateway, and during ingest at full rate.
    pub(super) fn visible(&self, run: &mut Run) -> anyhow::Result<()> {
        let deployment = self.deployment("visible")?;
        let running = deployment.start()?;
        let mut next = 1;
        let idle = visible::delays(&deployment, &running, 0, &mut next)?;
        let done = AtomicBool::new(false);
        let busy = std::thread::scope(|scope| {
            let load = scope.spawn(|| -> anyhow::Result<()> {
                while !done.load(Ordering::Acquire) {
                    rate(&deployment, &running)?;
                }
                Ok(())
            });
            let busy = visible::delays(&deployment, &running, 1, &mut next);
            done.store(true, Ordering::Release);
            load.join().expect("no panic")?;
            busy
        })?;
        for (when, delays) in [("idle", idle), ("beside ingest", busy)] {
            let late = |share: f64| vec![quantile(&delays, share).as_secs_f64() * 1e3];
            let name = self.name;
            run.figures.extend([
                Figure::new(
                    format!("answered to downloadable, {when}, p50, {name}"),
                    "ms",
                    late(0.5),
                ),
                Figure::new(
                    format!("answered to downloadable, {when}, p99, {name}"),
                    "ms",
                    late(0.99),
                )
                .against(
                    f64::from(MAX_DELAY_MS) + 250.0,
                    f64::from(MAX_DELAY_MS) + 50.0,
                ),
            ]);
        }
        Ok(())
    }

    /// The same with a database that holds many keys; and the cost of a start with them.
    pub(super) fn stored(&self, stored: u64, run: &mut Run) -> anyhow::Result<()> {
        let (empty, full) = (self.deployment("beside")?, self.deployment("full")?);
        let filling = full.fill(stored)?;
        let disk = full.disk_bytes();
        let beside = empty.start()?;
        let (mut starts, mut rebuilds) = (Vec::new(), Vec::new());
        let keys = as_f64(stored);
        let mut running = full.start()?;
        for round in 0..3 {
            let nanos = running
                .started_in
                .saturating_sub(beside.started_in)
                .as_secs_f64()
                * 1e9;
            rebuilds.push(nanos / keys / self.yardstick.sha256());
            starts.push(running.started_in.as_secs_f64());
            if round < 2 {
                drop(running);
                running = full.start()?;
            }
        }
        let memory = as_f64(
            running
                .resident_bytes()?
                .saturating_sub(beside.resident_bytes()?),
        ) / keys;
        // The first round of each is a warm-up.
        let (mut rates, mut rates_beside) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let pair = [rate(&full, &running)?, rate(&empty, &beside)?];
            if round > 0 {
                rates.push(pair[0]);
                rates_beside.push(pair[1]);
            }
        }
        let name = self.name;
        let kept = ratio_of(&rates, &rates_beside);
        let ratio = match self.server {
            None => "ingest_sqlite_stored/empty",
            Some(_) => "ingest_mariadb_stored/empty",
        };
        run.ratios.push(Ratio::new(ratio, kept.clone()));
        if self.server.is_none() {
            run.ratios.push(Ratio::new("set_rebuild/sha256", rebuilds));
            run.ratios
                .push(Ratio::new("set_bytes_per_key", vec![memory]));
        }
        let millions = keys / 1e6;
        let rebuilt: Vec<f64> = starts
            .iter()
            .map(|start| keys / (start - beside.started_in.as_secs_f64()))
            .collect();
        run.figures.extend([
            Figure::new(
                format!("ingest with {millions} M stored, {name}"),
                "keys/s",
                rates,
            ),
            Figure::new(format!("… against empty, {name}"), "ratio", kept).against(0.85, 0.95),
            Figure::new(
                format!("start with {millions} M stored, {name}"),
                "s",
                starts,
            ),
            // 100 M keys in 15 s, and in 6.
            Figure::new(format!("set rebuilt, {name}"), "keys/s", rebuilt).against(6.67e6, 16.7e6),
            Figure::new(format!("set in memory, {name}"), "bytes/key", vec![memory]),
            Figure::new(
                format!("stored without HTTP, {name}"),
                "keys/s",
                vec![keys / filling.as_secs_f64()],
            ),
        ]);
        if let Some(disk) = disk {
            let disk = as_f64(disk) / keys;
            run.ratios
                .push(Ratio::new("disk_bytes_per_key_sqlite", vec![disk]));
            run.figures
                .push(Figure::new("on the disk, sqlite", "bytes/key", vec![disk]));
        }
        Ok(())
    }
}

fn unloaded(deployment: &Deployment, running: &RunningGateway) -> anyhow::Result<UploadTimes> {
    let uploads = deployment.uploads(UNLOADED_UPLOADS, FULL);
    let route = [Route::Plain(running.proxy)];
    send_uploads(&route, 1, &uploads)
}
