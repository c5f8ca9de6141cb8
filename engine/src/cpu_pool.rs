//! Where CPU work runs: rayon threads, one job per batch, from one fair queue over all participants. A
//! panic ends its batch, not the pool.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex};

use rayon::{ThreadPool, ThreadPoolBuilder};

use crate::domain::Country;
use crate::failure::StartError;
use crate::fair_queue::FairQueue;
use crate::locks::LockIgnoringPoison;

type Job = Box<dyn FnOnce() + Send>;

/// The pool of CPU threads. Admission bounds how many jobs wait: one per permit.
#[derive(Debug)]
pub(crate) struct CpuPool {
    threads: ThreadPool,
    waiting: Arc<Mutex<FairQueue<Job>>>,
}

impl CpuPool {
    /// Starts `threads` threads; 0 means one per core.
    pub(crate) fn start(threads: usize) -> Result<Self, StartError> {
        let builder = ThreadPoolBuilder::new().num_threads(threads);
        let pool = builder.thread_name(|index| format!("cpu-{index}")).build();
        let threads = pool.map_err(|error| StartError::Threads(std::io::Error::other(error)))?;
        Ok(Self {
            threads,
            waiting: Arc::default(),
        })
    }

    /// Queues `work` for a fair share of the CPU threads, then hands its result to `done`, or nothing if it
    /// panicked.
    pub(crate) fn run<T>(
        &self,
        country: Country,
        work: impl FnOnce() -> T + Send + 'static,
        done: impl FnOnce(Option<T>) + Send + 'static,
    ) {
        let job = move || {
            let result = catch_unwind(AssertUnwindSafe(work));
            if result.is_err() {
                metrics::counter!("efgs_panics_total").increment(1);
            }
            done(result.ok());
        };
        lock(&self.waiting).push(country, Box::new(job));
        let waiting = Arc::clone(&self.waiting);
        // As many rayon jobs as queued ones; which of them runs is decided when a thread is free.
        self.threads.spawn(move || {
            let next = lock(&waiting).pop();
            if let Some(job) = next {
                job();
            }
        });
    }
}

fn lock(waiting: &Mutex<FairQueue<Job>>) -> std::sync::MutexGuard<'_, FairQueue<Job>> {
    waiting.lock_ignoring_poison()
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
            country("DE"),
            || -> u32 { panic!("on purpose") },
            move |result| sender.send(result).unwrap(),
        );
        let send = move |result| second.send(result).unwrap();
        pool.run(country("DE"), || 7, send);
        assert_eq!(receiver.iter().collect::<Vec<_>>(), [None, Some(7)]);
    }

    fn country(code: &str) -> Country {
        Country::parse(code).unwrap()
    }

    #[test]
    fn serves_participants_round_robin() {
        let pool = CpuPool::start(1).unwrap();
        let (open, gate) = crossbeam::channel::bounded::<()>(0);
        let (sender, receiver) = crossbeam::channel::bounded(6);
        // Holds the only thread until all others wait.
        pool.run(country("AT"), move || gate.recv().unwrap(), |_| {});
        for job in ["DE 1", "DE 2", "DE 3", "FR 1", "IT 1", "FR 2"] {
            let sender = sender.clone();
            let done = move |_| sender.send(job).unwrap();
            pool.run(country(&job[..2]), || {}, done);
        }
        drop(sender);
        open.send(()).unwrap();
        let order: Vec<_> = receiver.iter().collect();
        assert_eq!(order, ["DE 1", "FR 1", "IT 1", "DE 2", "FR 2", "DE 3"]);
    }
}
