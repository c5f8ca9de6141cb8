//! Locks whose poison is ignored.
//!
//! A lock is poisoned when a thread panics while it holds it. Here nothing panics while it holds one,
//! and what the locks guard is whole after every statement; so a panic elsewhere in the same thread
//! must not stop all the others.

use std::sync::{Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};

/// Locks a mutex, poisoned or not.
pub trait LockIgnoringPoison<T> {
    /// Waits for the lock.
    fn lock_ignoring_poison(&self) -> MutexGuard<'_, T>;
}

impl<T> LockIgnoringPoison<T> for Mutex<T> {
    fn lock_ignoring_poison(&self) -> MutexGuard<'_, T> {
        self.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The same for a lock with many readers.
pub(crate) trait RwLockIgnoringPoison<T> {
    /// Waits for the lock, to read.
    fn read_ignoring_poison(&self) -> RwLockReadGuard<'_, T>;

    /// Waits for the lock, to write.
    fn write_ignoring_poison(&self) -> RwLockWriteGuard<'_, T>;
}

impl<T> RwLockIgnoringPoison<T> for RwLock<T> {
    fn read_ignoring_poison(&self) -> RwLockReadGuard<'_, T> {
        self.read().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_ignoring_poison(&self) -> RwLockWriteGuard<'_, T> {
        self.write().unwrap_or_else(PoisonError::into_inner)
    }
}
