//! The log's way out: a thread writes it, so that nobody else waits for whoever reads it.

use std::io;
use std::panic::PanicHookInfo;
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::Duration;

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};

/// Lines that wait to be written; those beyond are dropped and counted. A second of the downloads of
/// the worst day, some 4 MiB.
const LINES_MAX: usize = 8192;

/// Lines that wait are written together, up to so many bytes.
const WRITE_BYTES_MAX: usize = 64 << 10;

/// After a line that nothing follows, which is written at once, the next ones gather for so long: a
/// busy gateway would wake the thread for every other line.
const GATHER: Duration = Duration::from_millis(5);

/// How long the end of the process waits for what is still to be written.
const LAST_WAIT: Duration = Duration::from_secs(2);

/// Knows the lines that were dropped.
static DROPPED: OnceLock<ErrorCounter> = OnceLock::new();

/// Writes what waits when it is dropped, and waits for that, but not for long: keep it until the
/// process ends.
#[derive(Debug)]
#[must_use = "what is still to be written is lost when the process ends"]
pub struct LogEnd(Option<WorkerGuard>);

impl Drop for LogEnd {
    fn drop(&mut self) {
        let worker = self.0.take();
        // It says so on standard output when the log takes nothing, where nobody may read either.
        without_waiting_for_ever(move || drop(worker));
    }
}

/// What writes to standard error on a thread of its own.
pub(super) fn standard_error() -> (NonBlocking, LogEnd) {
    let out = io::BufWriter::with_capacity(WRITE_BYTES_MAX, Gathering(io::stderr()));
    let (writer, end) = beside(out);
    DROPPED.get_or_init(|| writer.error_counter());
    (writer, end)
}

/// Lets lines gather after each time that they were written.
struct Gathering<W>(W);

impl<W: io::Write> io::Write for Gathering<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()?;
        thread::sleep(GATHER);
        Ok(())
    }
}

fn beside(out: impl io::Write + Send + 'static) -> (NonBlocking, LogEnd) {
    let builder = NonBlockingBuilder::default().lossy(true);
    let builder = builder.buffered_lines_limit(LINES_MAX).thread_name("log");
    let (writer, worker) = builder.finish(out);
    (writer, LogEnd(Some(worker)))
}

/// Brings the metric of dropped lines up to date.
pub(crate) fn measure() {
    let dropped = DROPPED.get().map_or(0, ErrorCounter::dropped_lines);
    metrics::counter!("efgs_log_lines_dropped_total").absolute(dropped as u64);
}

/// Writes to standard error what does not go through the log, as the last words of a process.
pub fn say_last(text: String) {
    without_waiting_for_ever(move || eprintln!("{text}"));
}

/// A panic is a line of the log: written directly, its thread would wait for whoever reads.
pub(super) fn log_panic(panic: &PanicHookInfo<'_>) {
    let place = panic.location().map(ToString::to_string);
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text = text.or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    tracing::error!(place, exception = text.unwrap_or("unknown"), "panicked");
}

fn without_waiting_for_ever(work: impl FnOnce() + Send + 'static) {
    let (done, ends) = mpsc::sync_channel(1);
    let begun = thread::Builder::new().spawn(move || {
        work();
        // Fails when nobody waits any more.
        let _ = done.send(());
    });
    if begun.is_ok() {
        // An error means that the time is over.
        let _ = ends.recv_timeout(LAST_WAIT);
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, SyncSender};

    use super::*;

    /// Takes a line whenever it is told to.
    struct Pipe {
        told: Receiver<()>,
        lines_count: Arc<AtomicUsize>,
    }

    impl Pipe {
        fn new() -> (Self, SyncSender<()>, Arc<AtomicUsize>) {
            let (tell, told) = mpsc::sync_channel(0);
            let lines_count = Arc::new(AtomicUsize::new(0));
            let pipe = Self {
                told,
                lines_count: Arc::clone(&lines_count),
            };
            (pipe, tell, lines_count)
        }
    }

    impl io::Write for Pipe {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.told.recv().map_err(io::Error::other)?;
            self.lines_count.fetch_add(1, Ordering::AcqRel);
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn waits_for_what_is_still_to_be_written() {
        let (pipe, tell, lines_count) = Pipe::new();
        let (mut writer, end) = beside(pipe);
        for _ in 0..1000 {
            writer.write_all(b"a line\n").unwrap();
        }
        let reader = thread::spawn(move || (0..1000).for_each(|_| tell.send(()).unwrap()));
        drop(end);
        assert_eq!(lines_count.load(Ordering::Acquire), 1000);
        reader.join().unwrap();
    }

    #[test]
    fn waits_for_nobody_who_takes_nothing() {
        let (pipe, _tell, _) = Pipe::new();
        let (mut writer, end) = beside(pipe);
        for _ in 0..LINES_MAX + 10 {
            writer.write_all(b"a line\n").unwrap();
        }
        drop(end);
        // The thread holds one, or none yet.
        assert!((9..=10).contains(&writer.error_counter().dropped_lines()));
    }
}
