//! What a process has used, read from `/proc`; what a folder takes on the disk.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

use crate::load::sample;

/// What a process has used so far.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Usage {
    /// Processor time of all threads, in seconds.
    pub(super) cpu_s: f64,
    /// Resident set.
    pub(super) rss_bytes: f64,
    /// What it had the disk write.
    pub(super) written_bytes: f64,
}

impl Usage {
    /// Reads it; zeros for what the system does not tell.
    pub(super) fn of(process: u32) -> Self {
        let io = fs::read_to_string(format!("/proc/{process}/io")).unwrap_or_default();
        let sample = sample(process);
        Self {
            cpu_s: sample.map_or(0.0, |sample| sample.cpu_seconds),
            rss_bytes: sample.map_or(0.0, |sample| sample.rss_bytes as f64),
            written_bytes: field(&io, "write_bytes:"),
        }
    }
}

fn field(text: &str, name: &str) -> f64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    let number = line.and_then(|line| line.split_ascii_whitespace().next());
    number.and_then(|number| number.parse().ok()).unwrap_or(0.0)
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
pub(super) fn metrics(operations: SocketAddr) -> io::Result<String> {
    let mut stream = TcpStream::connect(operations)?;
    stream.set_read_timeout(Some(Duration::from_secs(10)))?;
    stream.write_all(b"GET /metrics HTTP/1.0\r\nHost: localhost\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}

/// The value of a metric without labels; 0 when it is not there yet.
pub(super) fn metric(text: &str, name: &str) -> f64 {
    field(text, &format!("{name} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_process_has_used() {
        let io = "rchar: 9\nwrite_bytes: 4096\ncancelled_write_bytes: 7\n";
        assert!((field(io, "write_bytes:") - 4096.0).abs() < 1e-9);
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
