//! Threads beside the gateway: one that attacks, and one that only takes as much processor time, so
//! that what the attack does to the gateway can be told from what it does to a machine that both share.

use std::fs;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use tokio::sync::oneshot;

use super::Running;

/// A thread that works until this is dropped.
pub(super) struct Beside {
    stop: Stop,
    thread: Option<JoinHandle<()>>,
    /// Its directory in `/proc`.
    task: String,
    began: Instant,
}

enum Stop {
    Attack(Option<oneshot::Sender<()>>),
    Burn(Arc<AtomicBool>),
}

impl Beside {
    /// Attacks.
    pub(super) fn attack(running: Running) -> Self {
        let (stop, stopped) = oneshot::channel();
        let work = move || {
            let runtime = tokio::runtime::Builder::new_current_thread();
            let runtime = { runtime }.enable_all().build().unwrap();
            runtime.block_on(async {
                tokio::select! {
                    () = running => {}
                    _ = stopped => {}
                }
            });
        };
        Self::start(Stop::Attack(Some(stop)), work)
    }

    /// Takes this part of a core.
    pub(super) fn burn(cores: f64) -> Self {
        let is_over = Arc::new(AtomicBool::new(false));
        let seen = Arc::clone(&is_over);
        let work = move || {
            let share = Duration::from_micros(500).mul_f64(cores.min(1.0));
            while !seen.load(Ordering::Relaxed) {
                let begun = Instant::now();
                while begun.elapsed() < share {
                    std::hint::spin_loop();
                }
                thread::sleep(Duration::from_micros(500).saturating_sub(share));
            }
        };
        Self::start(Stop::Burn(is_over), work)
    }

    fn start(stop: Stop, work: impl FnOnce() + Send + 'static) -> Self {
        let (tell, told) = std::sync::mpsc::channel();
        let thread = thread::spawn(move || {
            let task = fs::read_link("/proc/thread-self").unwrap();
            tell.send(format!("/proc/{}", task.display())).unwrap();
            work();
        });
        Self {
            stop,
            thread: Some(thread),
            task: told.recv().unwrap(),
            began: Instant::now(),
        }
    }

    /// How many cores it has taken since its start.
    pub(super) fn cores(&self) -> f64 {
        let times = fs::read_to_string(format!("{}/schedstat", self.task)).unwrap();
        let run = times.split(' ').next().unwrap().parse().unwrap();
        Duration::from_nanos(run).as_secs_f64() / self.began.elapsed().as_secs_f64()
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        match &mut self.stop {
            Stop::Attack(stop) => drop(stop.take()),
            Stop::Burn(is_over) => is_over.store(true, Ordering::Relaxed),
        }
        if let Some(thread) = self.thread.take() {
            let _ended = thread.join();
        }
    }
}
