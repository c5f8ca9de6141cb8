//! Resources used by a process, and disk space used by a folder.

use std::fs;
use std::net::SocketAddr;
use std::path::Path;

use crate::client::{ClientError, Target, get};
use crate::process::{sample, written_bytes};

/// Resources that a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// CPU time of all threads, in seconds.
    pub(super) cpu_s: f64,
    /// Resident set.
    pub(super) rss_bytes: f64,
    /// Bytes written to the disk.
    pub(super) written_bytes: f64,
}

impl Usage {
    /// Reads them; zero for what the system does not report.
    pub(super) fn of(process: u32) -> Self {
        let sample = sample(process);
        Self {
            cpu_s: sample.map_or(0.0, |sample| sample.cpu_seconds),
            rss_bytes: sample.map_or(0.0, |sample| real(sample.rss_bytes)),
            written_bytes: written_bytes(process).map_or(0.0, real),
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "bytes of a process are far below 2^53"
)]
const fn real(bytes: u64) -> f64 {
    bytes as f64
}

/// Bytes of all files below a folder, as they lie on the disk.
pub(super) fn disk_bytes(folder: &Path) -> f64 {
    use std::os::unix::fs::MetadataExt;
    let Ok(entries) = fs::read_dir(folder) else {
        return 0.0;
    };
    let size = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => disk_bytes(&entry.path()),
        #[allow(
            clippy::cast_precision_loss,
            reason = "disks are smaller than 2^53 bytes"
        )]
        Ok(metadata) => metadata.blocks() as f64 * 512.0,
        Err(_) => 0.0,
    };
    entries.flatten().map(size).sum()
}

/// The gateway's metrics, as Prometheus reads them.
pub(super) async fn metrics(operations: SocketAddr) -> Result<String, ClientError> {
    let target = Target {
        tls: false,
        host: operations.ip().to_string(),
        port: operations.port(),
    };
    let answer = get(&target, "/metrics").await?;
    Ok(String::from_utf8_lossy(&answer.body).into_owned())
}

/// The value of a metric without labels; 0 when it is not there yet.
pub(super) fn metric(text: &str, name: &str) -> f64 {
    let mut lines = text.lines();
    let number = lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_process_has_used() {
        let here = Usage::of(std::process::id());
        assert!(here.rss_bytes > 1e6, "{here:?}");
        assert_eq!(Usage::of(u32::MAX), Usage::default());
    }

    #[test]
    fn reads_a_metric_and_not_one_whose_name_begins_alike() {
        let text = "# TYPE a_sum counter\na_sum_total 7\na_sum{x=\"1\"} 8\na_sum 2.5\n";
        assert!((metric(text, "a_sum") - 2.5).abs() < 1e-9);
        assert!(metric(text, "b").abs() < 1e-9);
    }
}
