//! CPU time and memory of processes, and the cost of the gateway's stages, from its operations
//! port.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use engine::locks::LockIgnoringPoison as _;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use crate::client::{Target, get};
use crate::process::sample;
use crate::results::{Delay, DelayBucket, ProcessSample, StageSample};

/// Poll interval and timeout of the operations port.
const ASK: Duration = Duration::from_secs(1);

/// Processes, metrics and files to watch.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Processes by name, `loadgen` excepted, which is always watched.
    pub processes: BTreeMap<String, u32>,
    /// The gateway's operations port.
    pub operations: Option<Target>,
    /// Folders with the database's files; for a file, all files whose names begin with its name,
    /// such as SQLite's WAL.
    pub database_files: Vec<PathBuf>,
}

impl Watch {
    /// What the running processes have used so far.
    pub fn processes(&self) -> BTreeMap<String, ProcessSample> {
        let own = ("loadgen".to_owned(), std::process::id());
        let others = self.processes.iter().map(|(name, id)| (name.clone(), *id));
        others
            .chain([own])
            .filter_map(|(name, id)| Some((name, sample(id)?)))
            .collect()
    }

    /// Bytes of the database's files; `None` when they are not accessible.
    pub fn disk_bytes(&self) -> Option<u64> {
        let files = &self.database_files;
        (!files.is_empty()).then(|| files.iter().map(|path| path_bytes(path)).sum())
    }
}

fn path_bytes(path: &Path) -> u64 {
    if path.is_dir() {
        return folder_bytes(path);
    }
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let siblings = path.parent().and_then(|folder| folder.read_dir().ok());
    let belongs = |entry: &std::fs::DirEntry| {
        let sibling = entry.file_name();
        sibling.to_string_lossy().starts_with(name.as_ref())
    };
    let files = siblings.into_iter().flatten().filter_map(Result::ok);
    let bytes = |entry: std::fs::DirEntry| entry.metadata().map_or(0, |metadata| metadata.len());
    files.filter(belongs).map(bytes).sum()
}

fn folder_bytes(folder: &Path) -> u64 {
    let Ok(entries) = std::fs::read_dir(folder) else {
        return 0;
    };
    let bytes = |entry: std::fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => folder_bytes(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.filter_map(Result::ok).map(bytes).sum()
}

/// Delays until delivery that the gateway has counted so far, in no bucket before its first upload; `None`
/// when it does not answer.
pub(super) async fn delays(operations: &Target) -> Option<Delay> {
    let text = timeout(ASK, ask(operations)).await.ok().flatten()?;
    Some(read_delays(&text))
}

/// The buckets of the histogram of delays, but for the last, which has no bound.
fn read_delays(text: &str) -> Delay {
    let bucket = |line: &str| {
        let (bound, count) = line
            .strip_prefix("efgs_delivery_delay_seconds_bucket{le=\"")?
            .split_once("\"} ")?;
        Some(DelayBucket {
            at_most_seconds: bound.parse().ok().filter(|bound: &f64| bound.is_finite())?,
            uploads: count.parse().ok()?,
        })
    };
    Delay {
        uploads: 0,
        buckets: text.lines().filter_map(bucket).collect(),
    }
}

/// Polls the operations port every second until it is dropped.
#[derive(Debug)]
pub(super) struct Scraper {
    last: Arc<Mutex<BTreeMap<String, StageSample>>>,
    task: Option<JoinHandle<()>>,
}

impl Scraper {
    pub(super) fn start(operations: Option<Target>) -> Self {
        let last = Arc::new(Mutex::default());
        let task = operations.map(|target| {
            let last = Arc::clone(&last);
            tokio::spawn(async move { keep_asking(&target, &last).await })
        });
        Self { last, task }
    }

    pub(super) fn stages(&self) -> BTreeMap<String, StageSample> {
        self.last.lock_ignoring_poison().clone()
    }
}

impl Drop for Scraper {
    fn drop(&mut self) {
        if let Some(task) = &self.task {
            task.abort();
        }
    }
}

async fn keep_asking(target: &Target, last: &Mutex<BTreeMap<String, StageSample>>) {
    let mut ticks = interval(ASK);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        ticks.tick().await;
        // Without a response the figures of the last second stay.
        if let Ok(Some(text)) = timeout(ASK, ask(target)).await {
            *last.lock_ignoring_poison() = stages(&text);
        }
    }
}

async fn ask(target: &Target) -> Option<String> {
    let answer = get(target, "/metrics").await.ok()?;
    String::from_utf8(answer.body.to_vec()).ok()
}

/// Every histogram of durations in Prometheus' text: `efgs_commit_seconds` is `commit`, one with a
/// stage or a route is named for it.
fn stages(text: &str) -> BTreeMap<String, StageSample> {
    let mut stages: BTreeMap<String, StageSample> = BTreeMap::new();
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        let Some((series, value)) = line.rsplit_once(' ') else {
            continue;
        };
        let (name, labels) = series.split_once('{').unwrap_or((series, ""));
        let Some((metric, part)) = name.rsplit_once('_') else {
            continue;
        };
        let Some(metric) = metric.strip_suffix("_seconds") else {
            continue;
        };
        let stage = stages.entry(stage_name(metric, labels));
        let zero = StageSample {
            seconds_total: 0.0,
            count: 0,
        };
        match part {
            "sum" => stage.or_insert(zero).seconds_total += value.parse().unwrap_or(0.0),
            "count" => stage.or_insert(zero).count += value.parse().unwrap_or(0),
            _ => {}
        }
    }
    stages
}

fn stage_name(metric: &str, labels: &str) -> String {
    let metric = metric.strip_prefix("efgs_").unwrap_or(metric);
    let label = |name: &str| {
        labels.split(',').find_map(|pair| {
            let (key, value) = pair.trim_end_matches('}').split_once('=')?;
            (key == name).then(|| value.trim_matches('"').to_owned())
        })
    };
    match (label("stage"), label("route")) {
        (Some(stage), _) => stage,
        (None, Some(route)) => format!("{metric} {route}"),
        (None, None) => metric.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn watches_itself() {
        let samples = Watch::default().processes();
        assert_eq!(samples.keys().collect::<Vec<_>>(), ["loadgen"]);
        assert!(samples["loadgen"].rss_bytes > 0);
    }

    #[test]
    fn reads_stages_from_the_metrics() {
        let text = "# TYPE efgs_commit_seconds histogram\n\
            efgs_commit_seconds_bucket{le=\"0.1\"} 3\n\
            efgs_commit_seconds_sum 0.25\n\
            efgs_commit_seconds_count 3\n\
            efgs_stage_seconds_sum{stage=\"verify\"} 1.5\n\
            efgs_stage_seconds_count{stage=\"verify\"} 7\n\
            efgs_request_seconds_sum{route=\"upload\",status=\"201\"} 1\n\
            efgs_request_seconds_count{route=\"upload\",status=\"201\"} 4\n\
            efgs_request_seconds_sum{route=\"upload\",status=\"400\"} 2\n\
            efgs_request_seconds_count{route=\"upload\",status=\"400\"} 5\n\
            efgs_keys_stored_total 9\n";
        let read: Vec<_> = stages(text)
            .into_iter()
            .map(|(name, stage)| (name, stage.seconds_total, stage.count))
            .collect();
        let expected = [
            ("commit", 0.25, 3),
            ("request upload", 3.0, 9),
            ("verify", 1.5, 7),
        ];
        assert_eq!(
            read,
            expected.map(|(name, seconds, count)| (name.to_owned(), seconds, count))
        );
    }

    #[test]
    fn reads_the_delays_from_the_metrics() {
        let text = "# TYPE efgs_delivery_delay_seconds histogram\n\
            efgs_delivery_delay_seconds_bucket{le=\"0.5\"} 3\n\
            efgs_delivery_delay_seconds_bucket{le=\"2\"} 7\n\
            efgs_delivery_delay_seconds_bucket{le=\"+Inf\"} 9\n\
            efgs_delivery_delay_seconds_sum 12\n";
        let buckets: Vec<_> = read_delays(text)
            .buckets
            .iter()
            .map(|bucket| (bucket.at_most_seconds, bucket.uploads))
            .collect();
        assert_eq!(buckets, [(0.5, 3), (2.0, 7)]);
        let none = read_delays("efgs_keys_stored_total 9\n");
        assert_eq!(none, Delay::default());
    }

    #[test]
    fn counts_the_bytes_of_folders_and_of_files_with_their_logs() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join("inner")).unwrap();
        std::fs::write(folder.path().join("a"), [0; 100]).unwrap();
        std::fs::write(folder.path().join("inner/b"), [0; 23]).unwrap();
        let watch = Watch {
            database_files: vec![folder.path().to_owned()],
            ..Watch::default()
        };
        assert_eq!(watch.disk_bytes(), Some(123));
        std::fs::write(folder.path().join("a-wal"), [0; 7]).unwrap();
        let watch = Watch {
            database_files: vec![folder.path().join("a")],
            ..Watch::default()
        };
        assert_eq!(watch.disk_bytes(), Some(107));
        assert_eq!(Watch::default().disk_bytes(), None);
    }
}
