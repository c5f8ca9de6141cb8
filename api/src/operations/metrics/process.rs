//! What the process uses, under the names that Prometheus' clients have agreed on.

use std::sync::OnceLock;

use metrics::{counter, gauge};
use procfs::process::{LimitValue, Process};

/// Reads the metrics from `/proc`. What cannot be read stays as it was.
pub(super) fn update_metrics() {
    let Ok(process) = Process::myself() else {
        return;
    };
    if let Ok(stat) = process.stat() {
        let ticks = procfs::ticks_per_second().max(1);
        counter!("process_cpu_seconds_total").absolute((stat.utime + stat.stime) / ticks);
        let resident = stat.rss * procfs::page_size();
        set("process_resident_memory_bytes", resident);
        set("process_virtual_memory_bytes", stat.vsize);
        let threads = u64::try_from(stat.num_threads);
        set("process_threads", threads.unwrap_or_default());
        if let Some(booted) = booted_at() {
            let started = booted + stat.starttime / ticks;
            set("process_start_time_seconds", started);
        }
    }
    if let Ok(open) = process.fd_count() {
        set("process_open_fds", open as u64);
    }
    let limits = process.limits().map(|limits| limits.max_open_files);
    if let Ok(LimitValue::Value(max)) = limits.map(|limit| limit.soft_limit) {
        set("process_max_fds", max);
    }
}

/// Seconds since the Unix epoch; read once.
fn booted_at() -> Option<u64> {
    static BOOTED: OnceLock<Option<u64>> = OnceLock::new();
    *BOOTED.get_or_init(|| procfs::boot_time_secs().ok())
}

#[allow(
    clippy::cast_precision_loss,
    reason = "bytes and counts are far below 2^53"
)]
fn set(name: &'static str, value: u64) {
    gauge!(name).set(value as f64);
}
