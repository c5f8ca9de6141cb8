//! A participant's due requests of one stream: the timetable enqueues them, connections dequeue
//! them. The producer bounds the queue: uploads by the memory limit, others by
//! [`RequestQueue::len`].

use std::collections::VecDeque;
use std::sync::Mutex;

use engine::locks::LockIgnoringPoison as _;
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
        self.due.lock_ignoring_poison().push_back(request);
        self.count.add_permits(1);
    }

    /// Waits for the next request; `None` after the end.
    pub(super) async fn pop(&self) -> Option<T> {
        if let Ok(permit) = self.count.acquire().await {
            permit.forget();
        }
        self.due.lock_ignoring_poison().pop_front()
    }

    pub(super) fn len(&self) -> usize {
        self.due.lock_ignoring_poison().len()
    }

    /// Closes the queue to producers; queued requests can still be taken.
    pub(super) fn close(&self) {
        self.count.close();
    }

    /// Drops all queued requests.
    pub(super) fn clear(&self) {
        self.close();
        self.due.lock_ignoring_poison().clear();
    }
}
