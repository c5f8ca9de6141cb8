//! Which of several hosts is used now: what connections share with those who open them.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The position of the current host in the address.
#[derive(Debug)]
pub(super) struct CurrentHost {
    position: AtomicUsize,
    count: usize,
}

impl CurrentHost {
    pub(super) const fn first_of(count: usize) -> Self {
        Self {
            position: AtomicUsize::new(0),
            count,
        }
    }

    pub(super) fn position(&self) -> usize {
        self.position.load(Ordering::Acquire)
    }

    /// Uses a host from now on; true if it was another.
    pub(super) fn change_to(&self, host: usize) -> bool {
        self.position.swap(host, Ordering::AcqRel) != host
    }
}

/// The host that a connection leads to.
#[derive(Debug)]
pub(super) struct HostOf {
    current: Arc<CurrentHost>,
    position: usize,
}

impl HostOf {
    pub(super) const fn new(current: Arc<CurrentHost>, position: usize) -> Self {
        Self { current, position }
    }

    /// Whether connections are opened to it now.
    pub(super) fn is_current(&self) -> bool {
        self.current.position() == self.position
    }

    /// It did not answer in time: the next connection is tried elsewhere first.
    pub(super) fn note_silence(&self) {
        let next = (self.position + 1) % self.current.count;
        let (acquire, order) = (Ordering::Acquire, Ordering::AcqRel);
        // Where this fails, another host is used already.
        let position = &self.current.position;
        let _ = position.compare_exchange(self.position, next, order, acquire);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passes_over_a_host_that_was_silent() {
        let current = Arc::new(CurrentHost::first_of(2));
        let [first, second] = [0, 1].map(|host| HostOf::new(Arc::clone(&current), host));
        second.note_silence();
        assert!(first.is_current(), "the other was not used");
        first.note_silence();
        assert!(second.is_current());
        second.note_silence();
        assert!(first.is_current() && current.change_to(1));
    }
}
