//! How long uploads took to become downloadable, as the gateway's metrics count it.

use serde::{Deserialize, Serialize};

/// Uploads by the time from their acceptance until they could be downloaded: what the histogram
/// `efgs_delivery_delay_seconds` counted during the run.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Delay {
    /// Uploads that the run has stored; those that are in no bucket were not seen to become downloadable.
    pub uploads: u64,
    /// From the shortest time to the longest.
    pub buckets: Vec<DelayBucket>,
}

/// A bucket of the histogram.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DelayBucket {
    /// Its upper bound; the last, without one, is not kept.
    pub at_most_seconds: f64,
    /// Uploads with this delay or a shorter one.
    pub uploads: u64,
}

impl Delay {
    /// What has been counted since, of a run that has stored so many uploads; `None` when the gateway has
    /// begun to count anew, or with other buckets.
    pub fn since(&self, before: &Self, uploads: u64) -> Option<Self> {
        if before.buckets.is_empty() {
            let buckets = self.buckets.clone();
            return Some(Self { uploads, buckets });
        }
        let both = self.buckets.iter().zip(&before.buckets);
        let differences = both.map(|(now, before)| {
            let same = (now.at_most_seconds - before.at_most_seconds).abs() < f64::EPSILON;
            let counted = now.uploads.checked_sub(before.uploads).filter(|_| same)?;
            Some(DelayBucket {
                uploads: counted,
                ..*now
            })
        });
        let buckets = differences.collect::<Option<Vec<_>>>()?;
        let same = buckets.len() == before.buckets.len();
        same.then_some(Self { uploads, buckets })
    }

    /// Uploads that were seen to become downloadable within the longest time that is told apart.
    pub fn seen(&self) -> u64 {
        self.buckets.last().map_or(0, |bucket| bucket.uploads)
    }

    /// The upper bound of the bucket with this share (0 to 1) of the uploads, in seconds; uploads that were
    /// not seen count as slower than all. `None` when that many were not seen, or there were none.
    #[allow(
        clippy::cast_precision_loss,
        reason = "uploads of a run are far below 2^53"
    )]
    pub fn seconds_at(&self, share: f64) -> Option<f64> {
        let wanted = (self.uploads as f64 * share).ceil();
        let bucket = self
            .buckets
            .iter()
            .find(|bucket| bucket.uploads as f64 >= wanted);
        bucket
            .filter(|_| self.uploads > 0)
            .map(|bucket| bucket.at_most_seconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn delay(uploads: u64, counts: [u64; 3]) -> Delay {
        let bounds = [0.5, 2.0, 5.0];
        let buckets = bounds.into_iter().zip(counts);
        Delay {
            uploads,
            buckets: buckets
                .map(|(at_most_seconds, uploads)| DelayBucket {
                    at_most_seconds,
                    uploads,
                })
                .collect(),
        }
    }

    #[test]
    fn takes_the_upper_bound_of_a_bucket_and_counts_the_unseen_as_slowest() {
        let delay = delay(100, [50, 90, 98]);
        for (share, expected) in [
            (0.5, Some(0.5)),
            (0.51, Some(2.0)),
            (0.98, Some(5.0)),
            (0.99, None),
        ] {
            assert_eq!(delay.seconds_at(share), expected, "{share}");
        }
        assert_eq!(Delay::default().seconds_at(0.5), None);
    }

    #[test]
    fn counts_only_what_the_run_has_added() {
        let before = delay(0, [1, 2, 3]);
        assert_eq!(
            delay(0, [5, 7, 8]).since(&before, 6),
            Some(delay(6, [4, 5, 5]))
        );
        assert_eq!(delay(0, [0, 1, 1]).since(&before, 6), None, "restarted");
        assert_eq!(Delay::default().since(&before, 6), None, "restarted");
        let first = delay(0, [5, 7, 8]).since(&Delay::default(), 9);
        assert_eq!(
            first,
            Some(delay(9, [5, 7, 8])),
            "nothing was counted before"
        );
    }
}
