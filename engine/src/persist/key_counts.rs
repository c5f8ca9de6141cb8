//! How many keys each participant has stored on each day, as far as the log has been followed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, MutexGuard};

use crate::domain::{Country, Day};
use crate::locks::LockIgnoringPoison;

/// Stored keys by day and participant.
#[derive(Debug, Default)]
pub(crate) struct KeyCounts(Mutex<BTreeMap<Day, HashMap<Country, u64>>>);

impl KeyCounts {
    /// Counts an upload.
    pub(super) fn add(&self, country: Country, day: Day, keys: u32) {
        *self
            .lock()
            .entry(day)
            .or_default()
            .entry(country)
            .or_default() += u64::from(keys);
    }

    /// Forgets the days before one.
    pub(super) fn forget_before(&self, day: Day) {
        let mut days = self.lock();
        let kept = days.split_off(&day);
        *days = kept;
    }

    /// Keys that a participant has stored on a day.
    pub(crate) fn of(&self, country: Country, day: Day) -> u64 {
        let days = self.lock();
        let counted = days.get(&day).and_then(|day| day.get(&country));
        counted.copied().unwrap_or_default()
    }

    /// Keys that all participants have stored on a day, by participant.
    pub(crate) fn on(&self, day: Day) -> HashMap<Country, u64> {
        self.lock().get(&day).cloned().unwrap_or_default()
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Day, HashMap<Country, u64>>> {
        self.0.lock_ignoring_poison()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::domain::UnixMillis;

    #[test]
    fn counts_each_participant_per_day_and_forgets_the_days_before() {
        let country = |code| Country::parse(code).unwrap();
        let (de, fr) = (country("DE"), country("FR"));
        let today = UnixMillis(1_602_028_800_000).day();
        let counts = KeyCounts::default();
        for (country, day, keys) in [
            (de, today, 5),
            (de, today, 2),
            (fr, today, 1),
            (de, today.next(), 9),
        ] {
            counts.add(country, day, keys);
        }
        assert_eq!((counts.of(de, today), counts.of(fr, today)), (7, 1));
        assert_eq!(counts.on(today), HashMap::from([(de, 7), (fr, 1)]));
        counts.forget_before(today.next());
        assert_eq!((counts.of(de, today), counts.of(de, today.next())), (0, 9));
        assert!(counts.on(today).is_empty());
    }
}
