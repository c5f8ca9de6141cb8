//! What counters have gained in the last hour, minute by minute.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::Arc;

use super::reading::Reading;

/// Minutes that are kept.
pub(super) const MINUTES: u64 = 60;

/// Counters whose gains are kept.
const COUNTED: [&str; 5] = [
    "efgs_delivery_delay_seconds_bucket",
    "efgs_keys_total",
    "efgs_participant_refusals_total",
    "efgs_refusals_total",
    "efgs_uploads_total",
];

/// Gains by minute; only of those counters that have gained anything.
#[derive(Debug, Default)]
pub(super) struct LastHour(VecDeque<(u64, HashMap<Arc<str>, f64>)>);

impl LastHour {
    /// Adds what was gained between two readings, of which the second is of this minute.
    pub(super) fn add(&mut self, minute: u64, reading: &Reading, before: &Reading) {
        while self
            .0
            .front()
            .is_some_and(|(old, _)| *old + MINUTES <= minute)
        {
            self.0.pop_front();
        }
        if self.0.back().is_none_or(|(newest, _)| *newest < minute) {
            self.0.push_back((minute, HashMap::new()));
        }
        let Some((_, gains)) = self.0.back_mut() else {
            return;
        };
        for (sample, value) in COUNTED.iter().flat_map(|name| reading.of(name)) {
            let gained = value - before.value(sample);
            if gained > 0.0 {
                *gains.entry(Arc::clone(sample)).or_default() += gained;
            }
        }
    }

    /// The gains of all minutes together.
    pub(super) fn gains(&self) -> BTreeMap<Arc<str>, f64> {
        let mut all = BTreeMap::new();
        for (sample, gained) in self.0.iter().flat_map(|(_, gains)| gains) {
            *all.entry(Arc::clone(sample)).or_default() += gained;
        }
        all
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn adds_up_an_hour_and_forgets_what_was_before() {
        let sample = "efgs_refusals_total{code=\"a\"}";
        let reading = |count: u32| {
            let text = format!("{sample} {count}\nefgs_epoch {count}\n");
            Reading::parse(&text, &Reading::default())
        };
        let mut hour = LastHour::default();
        hour.add(10, &reading(5), &reading(0));
        hour.add(10, &reading(6), &reading(5));
        hour.add(40, &reading(6), &reading(6));
        let gained = |hour: &LastHour| hour.gains().get(sample).copied();
        assert_eq!(gained(&hour), Some(6.0));
        assert_eq!(hour.gains().len(), 1, "no gauge");
        hour.add(69, &reading(8), &reading(6));
        assert_eq!(gained(&hour), Some(8.0));
        hour.add(70, &reading(8), &reading(8));
        assert_eq!(gained(&hour), Some(2.0));
        // The clock was set back.
        hour.add(50, &reading(9), &reading(8));
        assert_eq!(gained(&hour), Some(3.0));
    }
}
