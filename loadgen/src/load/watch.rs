//! What processes use, from `/proc`, and what the gateway's stages cost, from its operations port.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http::header::HOST;
use http_body_util::{BodyExt, Empty, Limited};
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio::time::{MissedTickBehavior, interval, timeout};

use super::tally::lock;
use crate::client::Target;
use crate::results::{ProcessSample, StageSample};

/// Ticks of `/proc/PID/stat` in a second: Linux shows every program 100.
const TICKS_PER_SECOND: f64 = 100.0;
/// How often the operations port is asked, and how long it may take.
const ASK: Duration = Duration::from_secs(1);
/// Largest answer that is read.
const ANSWER_BYTES_MAX: usize = 4 << 20;

/// What is watched.
#[derive(Debug, Clone, Default)]
pub struct Watch {
    /// Processes by name, `loadgen` excepted, which is always watched.
    pub processes: BTreeMap<String, u32>,
    /// The gateway's operations port.
    pub operations: Option<Target>,
    /// Folders with the database's files; of a file, those that begin with its name, as SQLite's
    /// log does.
    pub database_files: Vec<PathBuf>,
}

impl Watch {
    /// What the processes that run have used so far.
    pub fn processes(&self) -> BTreeMap<String, ProcessSample> {
        let own = ("loadgen".to_owned(), std::process::id());
        let others = self.processes.iter().map(|(name, id)| (name.clone(), *id));
        others
            .chain([own])
            .filter_map(|(name, id)| Some((name, sample(id)?)))
            .collect()
    }

    /// Bytes of the database's files; nothing when they are not at hand.
    pub fn disk_bytes(&self) -> Option<u64> {
        let files = &self.database_files;
        (!files.is_empty()).then(|| files.iter().map(|path| path_bytes(path)).sum())
    }
}

/// What a process has used so far; nothing when it does not run.
pub(crate) fn sample(id: u32) -> Option<ProcessSample> {
    let read = |name: &str| std::fs::read_to_string(format!("/proc/{id}/{name}")).ok();
    Some(ProcessSample {
        cpu_seconds: cpu_seconds(&read("stat")?)?,
        rss_bytes: rss_bytes(&read("status")?)?,
    })
}

/// Fields 14 and 15 of `/proc/PID/stat` (proc(5)); the second, the program's name, may hold blanks
/// and ends with the last parenthesis.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let mut fields = after_name.split_ascii_whitespace().skip(11);
    let mut ticks = || fields.next()?.parse::<f64>().ok();
    Some((ticks()? + ticks()?) / TICKS_PER_SECOND)
}

fn rss_bytes(status: &str) -> Option<u64> {
    let line = status
        .lines()
        .find_map(|line| line.strip_prefix("VmRSS:"))?;
    let kilobytes: u64 = line.trim().strip_suffix(" kB")?.trim().parse().ok()?;
    Some(kilobytes * 1024)
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

/// Asks the operations port every second until it is dropped.
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
        lock(&self.last).clone()
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
        // Without an answer the figures of this second stay those of the last.
        if let Ok(Some(text)) = timeout(ASK, ask(target)).await {
            *lock(last) = stages(&text);
        }
    }
}

async fn ask(target: &Target) -> Option<String> {
    let tcp = TcpStream::connect((target.host.as_str(), target.port)).await;
    let (mut sender, driver) = http1::handshake(TokioIo::new(tcp.ok()?)).await.ok()?;
    let driver = tokio::spawn(driver);
    let request = Request::get("/metrics")
        .header(HOST, target.authority())
        .body(Empty::<Bytes>::new());
    let answer = sender.send_request(request.ok()?).await.ok()?;
    let body = Limited::new(answer.into_body(), ANSWER_BYTES_MAX);
    let body = body.collect().await.ok()?.to_bytes();
    driver.abort();
    String::from_utf8(body.to_vec()).ok()
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
    fn reads_what_linux_says_about_a_process() {
        let stat = "42 (a (b) c) S 1 42 42 0 -1 4194560 1 0 0 0 150 50 0 0 20 0 9 0 100 1 1";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        let status = "Name:\tx\nVmRSS:\t    2048 kB\nThreads:\t9\n";
        assert_eq!(rss_bytes(status), Some(2 << 20));
        assert_eq!(cpu_seconds("42"), None);
    }

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
