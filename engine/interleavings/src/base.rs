//! In the place of `engine/src/dedup/base.rs`: loom's atomics, which note where an ordering stronger
//! than `Relaxed` is asked for, and weaken it where that is planted; and a set of a few slots.

use std::cell::RefCell;
use std::fmt;
use std::panic::Location;
use std::sync::{Arc, Mutex, PoisonError};

use loom::sync::atomic;

pub(crate) use loom::sync::atomic::Ordering;

// The identities of the cases choose one of these by their ninth byte.
pub(crate) const SHARDS: usize = 2;
pub(crate) const SLOTS_PER_BUCKET: usize = 2;
// A shard grows at its third identity.
pub(crate) const BUCKETS_MIN: usize = 2;

/// Where an ordering is written: file, line and column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Site(&'static str, u32, u32);

impl fmt::Display for Site {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let file = self.0.rsplit('/').next().unwrap_or(self.0);
        write!(f, "{file}:{}:{}", self.1, self.2)
    }
}

/// What was seen while a case was explored.
#[derive(Debug, Clone, Default)]
pub(crate) struct Observed {
    pub(crate) interleavings: u64,
    pub(crate) violations: u64,
    pub(crate) sites: Vec<Site>,
}

impl fmt::Display for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (interleavings, violations) = (self.interleavings, self.violations);
        write!(f, "{interleavings} interleavings, {violations} violations")
    }
}

// Loom runs all threads of an interleaving on one thread of the system.
thread_local! {
    static PLANTED: RefCell<Option<Site>> = const { RefCell::new(None) };
    static OBSERVED: RefCell<Observed> = RefCell::default();
}

/// Begins to observe, with one ordering weakened, if any.
pub(crate) fn begin(planted: Option<Site>) {
    PLANTED.set(planted);
    OBSERVED.take();
}

pub(crate) fn observed() -> Observed {
    OBSERVED.take()
}

pub(crate) fn count_interleaving() {
    OBSERVED.with_borrow_mut(|observed| observed.interleavings += 1);
}

/// Counts a violation unless something holds. No panic: loom cannot be left in the middle.
pub(crate) fn check(holds: bool) {
    OBSERVED.with_borrow_mut(|observed| observed.violations += u64::from(!holds));
}

#[track_caller]
fn ordering(wanted: Ordering) -> Ordering {
    if wanted == Ordering::Relaxed {
        return wanted;
    }
    let at = Location::caller();
    let site = Site(at.file(), at.line(), at.column());
    OBSERVED.with_borrow_mut(|observed| {
        if !observed.sites.contains(&site) {
            observed.sites.push(site);
        }
    });
    match PLANTED.with_borrow(|planted| *planted == Some(site)) {
        true => Ordering::Relaxed,
        false => wanted,
    }
}

#[derive(Debug)]
pub(crate) struct AtomicU64(atomic::AtomicU64);

impl AtomicU64 {
    pub(crate) fn new(value: u64) -> Self {
        Self(atomic::AtomicU64::new(value))
    }

    #[track_caller]
    pub(crate) fn load(&self, wanted: Ordering) -> u64 {
        self.0.load(ordering(wanted))
    }

    #[track_caller]
    pub(crate) fn store(&self, value: u64, wanted: Ordering) {
        self.0.store(value, ordering(wanted));
    }

    #[track_caller]
    pub(crate) fn fetch_add(&self, value: u64, wanted: Ordering) -> u64 {
        self.0.fetch_add(value, ordering(wanted))
    }

    #[track_caller]
    pub(crate) fn fetch_sub(&self, value: u64, wanted: Ordering) -> u64 {
        self.0.fetch_sub(value, ordering(wanted))
    }

    #[track_caller]
    pub(crate) fn fetch_max(&self, value: u64, wanted: Ordering) -> u64 {
        self.0.fetch_max(value, ordering(wanted))
    }
}

/// As the real one: what was done before a value was stored is seen by who loads it. All values are
/// kept until the end, where loom does not look.
#[derive(Debug)]
pub(crate) struct ArcSwap<T> {
    values: Mutex<Vec<Arc<T>>>,
    newest: AtomicU64,
}

impl<T> ArcSwap<T> {
    pub(crate) fn from_pointee(value: T) -> Self {
        Self {
            values: Mutex::new(vec![Arc::new(value)]),
            newest: AtomicU64::new(0),
        }
    }

    pub(crate) fn load(&self) -> Arc<T> {
        let newest = self.newest.load(Ordering::Acquire);
        let index = usize::try_from(newest).expect("a few values");
        let values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(&values[index])
    }

    pub(crate) fn store(&self, value: Arc<T>) {
        let index = {
            let mut values = self.values.lock().unwrap_or_else(PoisonError::into_inner);
            values.push(value);
            values.len() - 1
        };
        self.newest.store(index as u64, Ordering::Release);
    }
}
