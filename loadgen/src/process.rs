//! Resources used by processes, from /proc.

use procfs::process::Process;

use crate::results::ProcessSample;

/// CPU time and memory of a process; `None` when it does not run.
pub(crate) fn sample(id: u32) -> Option<ProcessSample> {
    let stat = process(id)?.stat().ok()?;
    #[allow(
        clippy::cast_precision_loss,
        reason = "ticks of a process are far below 2^53"
    )]
    let ticks = (stat.utime + stat.stime) as f64;
    Some(ProcessSample {
        cpu_seconds: ticks / f64::from(u32::try_from(procfs::ticks_per_second()).ok()?),
        rss_bytes: stat.rss * procfs::page_size(),
    })
}

/// Bytes that a process had the disk write; `None` when it does not run, or is another user's.
pub(crate) fn written_bytes(id: u32) -> Option<u64> {
    process(id)?.io().ok().map(|io| io.write_bytes)
}

fn process(id: u32) -> Option<Process> {
    Process::new(i32::try_from(id).ok()?).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_a_running_process_has_used_and_nothing_of_others() {
        let own = sample(std::process::id()).unwrap();
        assert!(own.rss_bytes > 1_000_000, "{own:?}");
        // Spends the CPU time that is then seen.
        let mut last = own;
        while last.cpu_seconds <= own.cpu_seconds {
            last = sample(std::process::id()).unwrap();
        }
        assert!(written_bytes(std::process::id()).is_some());
        assert_eq!((sample(u32::MAX), written_bytes(u32::MAX)), (None, None));
    }
}
