//! A fair channel: hands work from any thread to a few threads, round-robin over the participants,
//! each of which has a share of the places.
//!
//! Weighed against a bounded channel per participant: threads would have to wait for all of them,
//! and the places that others leave free could not be used.

use std::fmt;
use std::hash::Hash;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

use crate::domain::Country;
use crate::fair_queue::FairQueue;
use crate::locks::LockIgnoringPoison;

/// How much may wait.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Places {
    /// Over all participants.
    pub(crate) all_max: usize,
    /// Of one of them.
    pub(crate) participant_max: usize,
}

/// What became of an item.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sent<T> {
    /// It waits in its queue.
    Queued,
    /// The channel is full. This item is refused: the one that was sent, or one that it displaced.
    Refused(T),
    /// The channel is closed.
    Closed(T),
}

/// A bounded queue between threads. When it is full, the newest item of the longest queue is
/// displaced, so that a participant with few items can always queue one.
pub(crate) struct FairChannel<T, K = Country> {
    places: Places,
    state: Mutex<State<T, K>>,
    changed: Condvar,
}

struct State<T, K> {
    queue: FairQueue<T, K>,
    is_closed: bool,
}

impl<T, K> fmt::Debug for FairChannel<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FairChannel").field(&self.places).finish()
    }
}

impl<T, K: Copy + Eq + Hash> FairChannel<T, K> {
    pub(crate) fn new(places: Places) -> Self {
        let state = State {
            queue: FairQueue::default(),
            is_closed: false,
        };
        Self {
            places,
            state: Mutex::new(state),
            changed: Condvar::new(),
        }
    }

    /// Queues an item; never waits.
    pub(crate) fn send(&self, participant: K, item: T) -> Sent<T> {
        let mut state = self.lock();
        if state.is_closed {
            return Sent::Closed(item);
        }
        if state.queue.len_of(participant) >= self.places.participant_max {
            return Sent::Refused(item);
        }
        state.queue.push(participant, item);
        let displaced = match state.queue.len() > self.places.all_max {
            true => state.queue.pop_newest_of_longest(),
            false => None,
        };
        drop(state);
        self.changed.notify_one();
        displaced.map_or(Sent::Queued, Sent::Refused)
    }

    /// Waits for the next item in rotation; `None` when the channel is closed and empty.
    pub(crate) fn receive(&self) -> Option<T> {
        let mut state = self.lock();
        loop {
            let item = state.queue.pop();
            if item.is_some() || state.is_closed {
                return item;
            }
            let woken = self.changed.wait(state);
            state = woken.unwrap_or_else(PoisonError::into_inner);
        }
    }

    /// Takes all queued items that fit.
    pub(crate) fn extract(&self, fits: impl Fn(&T) -> bool) -> Vec<T> {
        self.lock().queue.extract(fits)
    }

    /// How much waits of the participant that has most, of those that count.
    pub(crate) fn longest(&self, counts: impl Fn(&K) -> bool) -> usize {
        self.lock().queue.longest(counts)
    }

    /// Takes nothing more; what is queued can still be received.
    pub(crate) fn close(&self) {
        self.lock().is_closed = true;
        self.changed.notify_all();
    }

    fn lock(&self) -> MutexGuard<'_, State<T, K>> {
        self.state.lock_ignoring_poison()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, mpsc};
    use std::time::Duration;

    use super::*;

    const PLACES: Places = Places {
        all_max: 6,
        participant_max: 3,
    };

    fn channel(items: &[&'static str]) -> (FairChannel<&'static str>, Vec<Sent<&'static str>>) {
        let channel = FairChannel::new(PLACES);
        let country = |item: &str| Country::parse(&item[..2]).unwrap();
        let sent = items.iter().map(|item| channel.send(country(item), *item));
        let sent = sent.collect();
        (channel, sent)
    }

    #[test]
    fn refuses_who_has_its_share_and_nobody_else() {
        let (channel, sent) = channel(&["DE 1", "DE 2", "DE 3", "DE 4", "FR 1"]);
        assert_eq!(sent[3], Sent::Refused("DE 4"));
        assert_eq!(sent[4], Sent::Queued);
        channel.close();
        let order: Vec<_> = std::iter::from_fn(|| channel.receive()).collect();
        assert_eq!(order, ["DE 1", "FR 1", "DE 2", "DE 3"]);
    }

    #[test]
    fn displaces_the_newest_item_of_the_longest_queue_when_full() {
        let (channel, sent) = channel(&["DE 1", "DE 2", "DE 3", "FR 1", "FR 2", "IT 1", "ES 1"]);
        assert!(sent[..6].iter().all(|sent| *sent == Sent::Queued));
        assert_eq!(sent[6], Sent::Refused("DE 3"));
        let es = Country::parse("ES").unwrap();
        channel.close();
        assert_eq!(channel.send(es, "ES 2"), Sent::Closed("ES 2"));
        let order: Vec<_> = std::iter::from_fn(|| channel.receive()).collect();
        assert_eq!(order, ["DE 1", "FR 1", "IT 1", "ES 1", "DE 2", "FR 2"]);
    }

    #[test]
    fn wakes_all_who_wait_when_it_is_closed() {
        // Several rounds, since both may come when it is closed already.
        for _ in 0..50 {
            let channel = Arc::new(FairChannel::<u8>::new(PLACES));
            let (over, ended) = mpsc::channel();
            for _ in 0..2 {
                let (channel, over) = (Arc::clone(&channel), over.clone());
                std::thread::spawn(move || over.send(channel.receive()));
            }
            for _ in 0..100 {
                std::thread::yield_now();
            }
            channel.close();
            for _ in 0..2 {
                assert_eq!(ended.recv_timeout(Duration::from_secs(10)), Ok(None));
            }
        }
    }
}
