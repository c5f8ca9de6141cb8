//! Where CPU work runs: rayon threads, one job a batch. A panic ends its batch, not the pool.

use std::panic::{AssertUnwindSafe, catch_unwind};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::error::StartError;

/// The pool of CPU threads. How many jobs wait is bounded by admission: one a permit.
#[derive(Debug)]
pub(crate) struct CpuPool(ThreadPool);

impl CpuPool {
    /// Starts `threads` threads; 0 means one a core.
    pub(crate) fn start(threads: usize) -> Result<Self, StartError> {
        let builder = ThreadPoolBuilder::new().num_threads(threads);
        let pool = builder.thread_name(|index| format!("cpu-{index}")).build();
        pool.map(Self)
            .map_err(|error| StartError::Threads(std::io::Error::other(error)))
    }

    /// Runs `work`, then hands its result to `done`; nothing in place of the result of a panic.
    pub(crate) fn run<T>(
        &self,
        work: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(Option<T>) + Send + 'static,
    ) {
        self.0.spawn(move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            if result.is_err() {
                metrics::counter!("efgs_panics_total").increment(1);
            }
            done(result.ok());
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn survives_a_panic_and_reports_it() {
        let pool = CpuPool::start(1).unwrap();
        let (sender, receiver) = crossbeam::channel::bounded(2);
        let second = sender.clone();
        pool.run(
            || -> u32 { panic!("on purpose") },
            move |result| sender.send(result).unwrap(),
        );
        pool.run(|| 7, move |result| second.send(result).unwrap());
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [None, Some(7)]);
    }
}
