//! Shares: how much of something one participant may have at once, and all of them together.
//!
//! A participant without a share always gets one, however many the others hold, so no participant
//! waits for another. What is used beyond the bound is at most one per participant, and participants are
//! as many as the certificate list has countries.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};

use engine::domain::Country;
use engine::locks::LockIgnoringPoison;

/// Gives out shares; refuses at once, never waits.
#[derive(Debug, Clone)]
pub(crate) struct Shares(Arc<Held>);

#[derive(Debug)]
struct Held {
    limits: ShareLimits,
    by_country: Mutex<HashMap<Country, usize>>,
}

/// How many shares there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ShareLimits {
    /// Of all participants; each one's first does not count.
    pub(crate) all_max: usize,
    /// Of one participant.
    pub(crate) participant_max: usize,
}

impl ShareLimits {
    /// One part in [`engine::limits::PARTICIPANT_SHARE_DIVISOR`] for each participant.
    pub(crate) fn of(all_max: usize) -> Self {
        let participant_max = (all_max / engine::limits::PARTICIPANT_SHARE_DIVISOR).max(1);
        Self {
            all_max,
            participant_max,
        }
    }
}

impl Shares {
    pub(crate) fn new(limits: ShareLimits) -> Self {
        let by_country = Mutex::default();
        Self(Arc::new(Held { limits, by_country }))
    }

    /// Takes one for a participant, if it may have another.
    pub(crate) fn try_take(&self, country: Country) -> Option<Share> {
        let ShareLimits {
            all_max,
            participant_max,
        } = self.0.limits;
        let mut by_country = self.0.lock();
        let own = by_country.get(&country).copied().unwrap_or_default();
        let others_left = || by_country.values().sum::<usize>() < all_max;
        if own > 0 && (own >= participant_max || !others_left()) {
            return None;
        }
        by_country.insert(country, own + 1);
        let held = Arc::clone(&self.0);
        Some(Share { held, country })
    }

    /// What the participant has that has most.
    pub(crate) fn largest(&self) -> usize {
        self.0.lock().values().copied().max().unwrap_or_default()
    }

    pub(crate) fn limits(&self) -> ShareLimits {
        self.0.limits
    }
}

impl Held {
    fn lock(&self) -> MutexGuard<'_, HashMap<Country, usize>> {
        self.by_country.lock_ignoring_poison()
    }
}

/// Given back when it is dropped.
#[derive(Debug)]
pub(crate) struct Share {
    held: Arc<Held>,
    country: Country,
}

impl Drop for Share {
    fn drop(&mut self) {
        let mut by_country = self.held.lock();
        if let Some(own) = by_country.get_mut(&self.country) {
            *own -= 1;
            if *own == 0 {
                by_country.remove(&self.country);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_participant_its_first_whatever_the_others_have() {
        let shares = Shares::new(ShareLimits {
            all_max: 4,
            participant_max: 3,
        });
        let take = |code: &str| shares.try_take(Country::parse(code).unwrap());
        let de = ["DE"; 4].map(take);
        assert_eq!(
            de.each_ref().map(Option::is_some),
            [true, true, true, false]
        );
        let fr = ["FR"; 2].map(take);
        assert_eq!(fr.each_ref().map(Option::is_some), [true, false]);
        let late = ["IT", "ES"].map(take);
        assert!(late.iter().all(Option::is_some), "each has its first");
        assert_eq!(shares.largest(), 3);
        drop((de, late));
        assert!(take("FR").is_some());
        drop(fr);
        assert_eq!(shares.largest(), 0);
    }
}
