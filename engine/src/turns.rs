//! A queue in which participants take turns: who brings much at once waits behind its own, not the
//! others behind it.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use crate::domain::Country;

/// A queue a participant; the participants that have something in it take turns. Bounded by whoever
/// fills it: admission, a permit each.
pub(crate) struct Turns<T> {
    /// None of them is empty.
    waiting: HashMap<Country, VecDeque<T>>,
    turns: VecDeque<Country>,
}

impl<T> Default for Turns<T> {
    fn default() -> Self {
        Self {
            waiting: HashMap::new(),
            turns: VecDeque::new(),
        }
    }
}

impl<T> fmt::Debug for Turns<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Turns").field(&self.turns).finish()
    }
}

impl<T> Turns<T> {
    /// Adds something behind the participant's own.
    pub(crate) fn push(&mut self, country: Country, item: T) {
        let own = self.waiting.entry(country).or_default();
        if own.is_empty() {
            self.turns.push_back(country);
        }
        own.push_back(item);
    }

    /// Takes from the participant whose turn it is.
    pub(crate) fn pop(&mut self) -> Option<T> {
        let country = self.turns.pop_front()?;
        let own = self.waiting.get_mut(&country)?;
        let item = own.pop_front();
        if own.is_empty() {
            self.waiting.remove(&country);
        } else {
            self.turns.push_back(country);
        }
        item
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_participant_its_turn_and_keeps_its_order() {
        let mut turns = Turns::default();
        for job in ["DE 1", "DE 2", "DE 3", "FR 1", "IT 1", "FR 2"] {
            turns.push(Country::parse(&job[..2]).unwrap(), job);
        }
        let order: Vec<_> = std::iter::from_fn(|| turns.pop()).collect();
        assert_eq!(order, ["DE 1", "FR 1", "IT 1", "DE 2", "FR 2", "DE 3"]);
        assert!(turns.is_empty());
    }
}
