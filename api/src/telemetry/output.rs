//! Writes the log on a thread of its own, so that no other thread waits for a slow reader.

use std::io;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use tracing::Level;
use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines in the queue; more are dropped and counted. A second of downloads on the busiest day, some
/// 4 MiB.
const LINES_MAX: usize = 8192;

/// Queued lines are written together, up to this many bytes.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// How long lines accumulate after each flush. Without it, a busy gateway would wake the thread for
/// every other line.
const BATCH_DELAY: Duration = Duration::from_millis(5);

/// How long the end of the process waits for the remaining lines to be written.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Counts the lines dropped from a full queue.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Counts the lines that standard error did not take: a full disk, a closed pipe.
static UNWRITTEN: AtomicU64 = AtomicU64::new(0);

/// Counts the lines of each level, in the order of [`LEVELS`].
static WRITTEN: [AtomicU64; LEVELS.len()] = [const { AtomicU64::new(0) }; LEVELS.len()];

/// The levels that lines are counted by.
const LEVELS: [(Level, &str); 5] = [
    (Level::ERROR, "ERROR"),
    (Level::WARN, "WARN"),
    (Level::INFO, "INFO"),
    (Level::DEBUG, "DEBUG"),
    (Level::TRACE, "TRACE"),
];

/// The names of the levels.
pub(crate) fn level_names() -> Vec<&'static str> {
    LEVELS.map(|(_, name)| name).to_vec()
}

/// Counts a line, which may still be dropped.
pub(super) fn count_line(level: Level) {
    let place = LEVELS.iter().position(|(known, _)| *known == level);
    if let Some(place) = place {
        WRITTEN[place].fetch_add(1, Ordering::Relaxed);
    }
}

/// Flushes the log when it is dropped, with a timeout: keep it until the process ends.
#[derive(Debug)]
#[must_use = "lines that are still queued are lost when the process ends"]
pub struct LogGuard(Option<WorkerGuard>);

impl Drop for LogGuard {
    fn drop(&mut self) {
        let worker = self.0.take();
        // When standard error is blocked, it reports that on standard output, which may block, too.
        with_timeout(move || drop(worker));
    }
}

/// A writer to standard error with a thread of its own.
pub(super) fn standard_error() -> (NonBlocking, LogGuard) {
    let out = io::BufWriter::with_capacity(WRITE_BYTES_MAX, Batching(io::stderr()));
    let (writer, guard) = on_a_thread(out);
    DROPPED.get_or_init(|| writer.error_counter());
    (writer, guard)
}

/// Waits after each flush, so that lines accumulate. What cannot be written is counted and left out:
/// the buffer before this would keep it, and refuse all that follows.
struct Batching<W>(W);

impl<W: io::Write> io::Write for Batching<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes).or_else(|error| match error.kind() {
            io::ErrorKind::Interrupted => Err(error),
            _ => {
                let lines = bytes.iter().filter(|byte| **byte == b'\n').count();
                UNWRITTEN.fetch_add(lines as u64, Ordering::Relaxed);
                Ok(bytes.len())
            }
        })
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        thread::sleep(BATCH_DELAY);
        Ok(())
    }
}

fn on_a_thread(out: impl io::Write + Send + 'static) -> (NonBlocking, LogGuard) {
    let builder = NonBlockingBuilder::default().lossy(true);
    let builder = builder.buffered_lines_limit(LINES_MAX).thread_name("log");
    let (writer, worker) = builder.finish(out);
    (writer, LogGuard(Some(worker)))
}

/// Updates the metrics of lines.
pub(crate) fn update_metrics() {
    for ((_, name), count) in LEVELS.iter().zip(&WRITTEN) {
        let lines = metrics::counter!("efgs_log_lines_total", "level" => *name);
        lines.absolute(count.load(Ordering::Relaxed));
    }
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    let lost = (dropped as u64).saturating_add(UNWRITTEN.load(Ordering::Relaxed));
    metrics::counter!("efgs_log_lines_dropped_total").absolute(lost);
}

/// Writes a final message to standard error, past the log.
pub fn print_final(text: String) {
    with_timeout(move || engine::output::note(text));
}

/// Logs a panic. Written directly, it would make its thread wait for a slow reader.
pub(super) fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    tracing::error!(place, exception = text.unwrap_or("unknown"), "panicked");
}

/// Runs work that may block, for at most [`FLUSH_TIMEOUT`].
fn with_timeout(work: impl FnOnce() + Send + 'static) {
    let (done, finished) = mpsc::sync_channel(1);
    let spawned = thread::Builder::new().spawn(move || {
        work();
        // Fails after the timeout.
        let _ = done.send(());
    });
    if spawned.is_ok() {
        // An error is the timeout.
        let _ = finished.recv_timeout(FLUSH_TIMEOUT);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::AtomicUsize;
    use std::sync::mpsc::{Receiver, SyncSender};

    use super::*;

    /// Accepts a line per message.
    struct Pipe {
        permits: Receiver<()>,
        lines_count: Arc<AtomicUsize>,
    }

    impl Pipe {
        fn new() -> (Self, SyncSender<()>, Arc<AtomicUsize>) {
            let (permit, permits) = mpsc::sync_channel(0);
            let lines_count = Arc::new(AtomicUsize::new(0));
            let pipe = Self {
                permits,
                lines_count: Arc::clone(&lines_count),
            };
            (pipe, permit, lines_count)
        }
    }

    impl io::Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.permits.recv().map_err(io::Error::other)?;
            self.lines_count.fetch_add(1, Ordering::AcqRel);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn counts_lines_by_level() {
        let lines = || {
            WRITTEN
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed))
        };
        let before = lines();
        // No event of the tests is at TRACE.
        count_line(Level::TRACE);
        count_line(Level::ERROR);
        let after = lines();
        assert_eq!(after[4], before[4] + 1);
        assert!(after[0] > before[0]);
    }

    #[test]
    fn flushes_queued_lines() {
        let (pipe, permit, lines_count) = Pipe::new();
        let (mut writer, guard) = on_a_thread(pipe);
        for _ in 0..1000 {
            writer.write_all(b"a line\n").unwrap();
        }
        let reader = thread::spawn(move || (0..1000).for_each(|_| permit.send(()).unwrap()));
        drop(guard);
        assert_eq!(lines_count.load(Ordering::Acquire), 1000);
        reader.join().unwrap();
    }

    #[test]
    fn does_not_wait_for_a_blocked_reader() {
        let (pipe, _permit, _) = Pipe::new();
        let (mut writer, guard) = on_a_thread(pipe);
        for _ in 0..LINES_MAX + 10 {
            writer.write_all(b"a line\n").unwrap();
        }
        drop(guard);
        // The thread has taken one line, or none yet.
        assert!((9..=10).contains(&writer.error_counter().dropped_lines()));
    }
}
