//! A participant's due requests of one stream: the timetable puts them in, connections take them
//! out. What waits is bounded by who puts in: uploads by the memory of prepared ones, others by
//! [`RequestQueue::len`].

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Semaphore;

pub(super) struct RequestQueue<T> {
    due: Mutex<VecDeque<T>>,
    count: Semaphore,
}

impl<T> RequestQueue<T> {
    pub(super) fn new() -> Self {
        Self {
            due: Mutex::new(VecDeque::new()),
            count: Semaphore::new(0),
        }
    }

    pub(super) fn push(&self, request: T) {
        self.lock().push_back(request);
        self.count.add_permits(1);
    }

    /// The next request, when there is one; nothing after the end.
    pub(super) async fn pop(&self) -> Option<T> {
        if let Ok(permit) = self.count.acquire().await {
            permit.forget();
        }
        self.lock().pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.lock().len()
    }

    /// Nothing comes any more; what is in it can still be taken.
    pub(super) fn close(&self) {
        self.count.close();
    }

    /// Nothing can be taken any more.
    pub(super) fn clear(&self) {
        self.close();
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<T>> {
        // A queue is whole between any two calls.
        self.due.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
