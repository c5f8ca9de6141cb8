//! What a process has used, read from `/proc`; what a folder takes on the disk.

use std::fs;
use std::io::{self, Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::Path;
use std::time::Duration;

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
        let read = |name: &str| fs::read_to_string(format!("/proc/{process}/{name}"));
        Self {
            cpu_s: cpu_s(&read("stat").unwrap_or_default()).unwrap_or(0.0),
            rss_bytes: field(&read("status").unwrap_or_default(), "VmRSS:") * 1024.0,
            written_bytes: field(&read("io").unwrap_or_default(), "write_bytes:"),
        }
    }
}

/// Fields 14 and 15 of `stat`, counted after the name in parentheses.
fn cpu_s(stat: &str) -> Option<f64> {
    let (_, after_name) = stat.rsplit_once(')')?;
    let fields: Vec<_> = after_name.split_ascii_whitespace().collect();
    let ticks = |index: usize| fields.get(index)?.parse::<f64>().ok();
    Some((ticks(11)? + ticks(12)?) / ticks_per_second())
}

#[allow(clippy::cast_precision_loss, reason = "a hundred, everywhere")]
fn ticks_per_second() -> f64 {
    rustix::param::clock_ticks_per_second() as f64
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
    fn reads_what_linux_writes_of_a_process() {
        let stat = "42 (a ) name) S 1 42 42 0 -1 4194560 9 0 0 0 250 150 0 0 20 0 8 0 100 0 0";
        let seconds = cpu_s(stat).unwrap() * ticks_per_second();
        assert!((seconds - 400.0).abs() < 1e-9, "{seconds}");
        assert!((field("VmPeak:\t9 kB\nVmRSS:\t  128 kB\n", "VmRSS:") - 128.0).abs() < 1e-9);
        let here = Usage::of(std::process::id());
        assert!(here.rss_bytes > 1e6, "{here:?}");
    }

    #[test]
    fn reads_a_metric_and_not_one_whose_name_begins_alike() {
        let text = "# TYPE a_sum counter\na_sum_total 7\na_sum{x=\"1\"} 8\na_sum 2.5\n";
        assert!((metric(text, "a_sum") - 2.5).abs() < 1e-9);
        assert!(metric(text, "b").abs() < 1e-9);
    }
}
