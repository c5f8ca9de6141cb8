//! Panics of the driver, at answers that no server gives.

use std::panic::{AssertUnwindSafe, catch_unwind};

use mysql::Error;

pub(super) const PANICKED: &str = "the driver cannot read the server's response";

/// Runs what may panic; nothing if it did, and what it owned is gone.
pub(super) fn without_panic<T>(work: impl FnOnce() -> T) -> Option<T> {
    let done = catch_unwind(AssertUnwindSafe(work)).ok();
    if done.is_none() {
        metrics::counter!("efgs_panics_total").increment(1);
    }
    done
}

pub(super) fn panicked() -> Error {
    Error::IoError(std::io::Error::other(PANICKED))
}
