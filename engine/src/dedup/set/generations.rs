//! The days for which the set keeps identities, and what is forgotten of them.

use std::collections::BTreeMap;

use crate::domain::Day;

/// As many as eight bits can name.
pub(super) const GENERATIONS: usize = 256;

/// Which day each generation stands for.
pub(super) struct Generations {
    /// One per day for which identities are kept, and a few more.
    by_day: BTreeMap<Day, u8>,
    free: Vec<u8>,
}

/// Forgetting under way.
pub(super) struct Sweep {
    pub(super) before: Day,
    /// By generation.
    pub(super) expired: Box<[bool; GENERATIONS]>,
    pub(super) next_shard: usize,
}

impl Generations {
    pub(super) fn new() -> Self {
        Self {
            by_day: BTreeMap::new(),
            free: (0..=u8::MAX).rev().collect(),
        }
    }

    /// The generation of a day. When all are taken (clocks that jump), that of another day, a
    /// later one if there is: an identity that is kept too long does no harm.
    pub(super) fn of(&mut self, day: Day) -> u8 {
        if let Some(&generation) = self.by_day.get(&day) {
            return generation;
        }
        if let Some(generation) = self.free.pop() {
            self.by_day.insert(day, generation);
            return generation;
        }
        let later = self.by_day.range(day..).next();
        let nearest = later.or_else(|| self.by_day.last_key_value());
        *nearest
            .expect("all generations are taken, so there are some")
            .1
    }

    pub(super) fn day_of(&self, generation: u8) -> Option<Day> {
        let mut taken = self.by_day.iter();
        taken
            .find(|&(_, &of)| of == generation)
            .map(|(&day, _)| day)
    }

    /// What to forget, if anything.
    pub(super) fn sweep(&self, before: Day) -> Option<Sweep> {
        let mut expired = Box::new([false; GENERATIONS]);
        for (_, &generation) in self.by_day.range(..before) {
            expired[usize::from(generation)] = true;
        }
        expired.contains(&true).then_some(Sweep {
            before,
            expired,
            next_shard: 0,
        })
    }

    /// Frees the generations that no slot has any more.
    pub(super) fn release(&mut self, sweep: &Sweep) {
        let expired = |generation: u8| sweep.expired[usize::from(generation)];
        self.by_day
            .retain(|&day, &mut generation| day >= sweep.before || !expired(generation));
        self.free
            .extend((0..=u8::MAX).filter(|&generation| expired(generation)));
    }
}
