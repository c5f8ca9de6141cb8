//! A fair queue: one queue per participant, served round-robin, so that a participant
//! that sends much at once waits behind its own uploads and does not delay others.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::domain::Country;

/// One queue per participant, served round-robin. The caller bounds it: admission lets in one item
/// per permit.
pub(crate) struct FairQueue<T> {
    /// Invariant: none of the queues is empty.
    queues: HashMap<Country, VecDeque<T>>,
    /// Participants with something queued, next one first.
    round: VecDeque<Country>,
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            round: VecDeque::new(),
        }
    }
}

impl<T> fmt::Debug for FairQueue<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FairQueue").field(&self.round).finish()
    }
}

impl<T> FairQueue<T> {
    /// Adds an item at the end of the participant's own queue.
    pub(crate) fn push(&mut self, country: Country, item: T) {
        let own = self.queues.entry(country).or_default();
        if own.is_empty() {
            self.round.push_back(country);
        }
        own.push_back(item);
    }

    /// Takes an item of the participant that is next.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let country = self.round.pop_front()?;
        let own = self.queues.get_mut(&country)?;
        let item = own.pop_front();
        if own.is_empty() {
            self.queues.remove(&country);
        } else {
            self.round.push_back(country);
        }
        item
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.round.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serves_participants_round_robin_and_keeps_the_order_of_each() {
        let mut queue = FairQueue::default();
        for job in ["DE 1", "DE 2", "DE 3", "FR 1", "IT 1", "FR 2"] {
            queue.push(Country::parse(&job[..2]).unwrap(), job);
        }
        let order: Vec<_> = std::iter::from_fn(|| queue.pop()).collect();
        assert_eq!(order, ["DE 1", "FR 1", "IT 1", "DE 2", "FR 2", "DE 3"]);
        assert!(queue.is_empty());
    }
}
