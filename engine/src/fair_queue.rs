//! A fair queue: one queue per participant, served round-robin, so that a participant
//! that sends much at once waits behind its own uploads and does not delay others.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::hash::Hash;

use crate::domain::Country;

/// One queue per participant, served round-robin. Its users bound it: admission lets in one
/// item per permit, and a fair channel has places.
pub(crate) struct FairQueue<T, K = Country> {
    /// Invariant: none of the queues is empty.
    queues: HashMap<K, VecDeque<T>>,
    /// Participants with something queued, next one first.
    round: VecDeque<K>,
}

impl<T, K> Default for FairQueue<T, K> {
    fn default() -> Self {
        Self {
            queues: HashMap::new(),
            round: VecDeque::new(),
        }
    }
}

impl<T, K: fmt::Debug> fmt::Debug for FairQueue<T, K> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("FairQueue").field(&self.round).finish()
    }
}

impl<T, K: Copy + Eq + Hash> FairQueue<T, K> {
    /// Adds an item at the end of the participant's own queue.
    pub(crate) fn push(&mut self, participant: K, item: T) {
        let own = self.queues.entry(participant).or_default();
        if own.is_empty() {
            self.round.push_back(participant);
        }
        own.push_back(item);
    }

    /// Takes an item of the participant that is next.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let participant = self.round.pop_front()?;
        let own = self.queues.get_mut(&participant)?;
        let item = own.pop_front();
        if own.is_empty() {
            self.queues.remove(&participant);
        } else {
            self.round.push_back(participant);
        }
        item
    }

    /// Takes the newest item of the participant that has most.
    pub(crate) fn pop_newest_of_longest(&mut self) -> Option<T> {
        let longest = self.queues.iter().max_by_key(|(_, queue)| queue.len())?;
        let participant = *longest.0;
        let own = self.queues.get_mut(&participant)?;
        let item = own.pop_back();
        self.drop_empty();
        item
    }

    /// Takes all items that fit, whoever's they are.
    pub(crate) fn extract(&mut self, fits: impl Fn(&T) -> bool) -> Vec<T> {
        let mut taken = Vec::new();
        for own in self.queues.values_mut() {
            for item in std::mem::take(own) {
                match fits(&item) {
                    true => taken.push(item),
                    false => own.push_back(item),
                }
            }
        }
        self.drop_empty();
        taken
    }

    fn drop_empty(&mut self) {
        self.queues.retain(|_, own| !own.is_empty());
        let Self { queues, round } = self;
        round.retain(|participant| queues.contains_key(participant));
    }

    pub(crate) fn len_of(&self, participant: K) -> usize {
        self.queues.get(&participant).map_or(0, VecDeque::len)
    }

    pub(crate) fn len(&self) -> usize {
        self.queues.values().map(VecDeque::len).sum()
    }

    /// What the participant has that has most, of those that count.
    pub(crate) fn longest(&self, counts: impl Fn(&K) -> bool) -> usize {
        let counted = self.queues.iter().filter(|(of, _)| counts(of));
        let lens = counted.map(|(_, queue)| queue.len());
        lens.max().unwrap_or_default()
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.round.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn queue(jobs: &[&'static str]) -> FairQueue<&'static str> {
        let mut queue = FairQueue::default();
        for job in jobs {
            queue.push(Country::parse(&job[..2]).unwrap(), *job);
        }
        queue
    }

    fn order(mut queue: FairQueue<&'static str>) -> Vec<&'static str> {
        std::iter::from_fn(|| queue.pop()).collect()
    }

    #[test]
    fn serves_participants_round_robin_and_keeps_the_order_of_each() {
        let queue = queue(&["DE 1", "DE 2", "DE 3", "FR 1", "IT 1", "FR 2"]);
        assert_eq!(queue.len(), 6);
        let expected = ["DE 1", "FR 1", "IT 1", "DE 2", "FR 2", "DE 3"];
        assert_eq!(order(queue), expected);
    }

    #[test]
    fn takes_the_newest_item_of_the_longest_queue() {
        let mut queue = queue(&["FR 1", "DE 1", "DE 2", "IT 1"]);
        assert_eq!(queue.pop_newest_of_longest(), Some("DE 2"));
        assert_eq!(order(queue), ["FR 1", "DE 1", "IT 1"]);
        assert_eq!(
            FairQueue::<(), Country>::default().pop_newest_of_longest(),
            None
        );
    }

    #[test]
    fn extracts_what_fits_and_forgets_whoever_has_nothing_left() {
        let mut queue = queue(&["DE 1", "DE 2", "FR 1", "IT 2"]);
        let mut taken = queue.extract(|job| job.ends_with('1'));
        taken.sort_unstable();
        assert_eq!(taken, ["DE 1", "FR 1"]);
        assert_eq!(queue.len_of(Country::parse("FR").unwrap()), 0);
        assert_eq!(order(queue), ["DE 2", "IT 2"]);
    }
}
