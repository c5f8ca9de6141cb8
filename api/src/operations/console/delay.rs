//! The delay from upload to downloadable, estimated from the buckets of its histogram.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::reading::label_of;
use crate::operations::metrics::DELAY_BUCKETS;

/// Uploads by bucket; the last bucket has those beyond all bounds. From another version of the program,
/// there may be other buckets: then they are left out.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Delays(Vec<f64>);

impl Delays {
    /// What samples of `efgs_delivery_delay_seconds_bucket` have gained, which count what is below each bound.
    pub(super) fn from_gains<'a>(gains: impl Iterator<Item = (&'a Arc<str>, f64)>) -> Self {
        let mut below = [0.0; DELAY_BUCKETS.len() + 1];
        for (sample, gained) in gains {
            if let Some(index) = label_of(sample, "le").and_then(bucket) {
                below[index] += gained;
            }
        }
        let mut counted = 0.0;
        let counts = below.map(|below| {
            let count = f64::max(below - counted, 0.0);
            counted += count;
            count
        });
        Self(counts.to_vec())
    }

    /// Adds others'.
    pub(super) fn add(&mut self, other: &Self) {
        if other.0.len() != DELAY_BUCKETS.len() + 1 {
            return;
        }
        self.0.resize(other.0.len(), 0.0);
        for (count, more) in self.0.iter_mut().zip(&other.0) {
            *count += more.max(0.0);
        }
    }

    /// Uploads in all buckets.
    pub(super) fn count(&self) -> f64 {
        self.0.iter().sum()
    }

    /// The delay in seconds below which this share of the uploads stayed, as Prometheus estimates it: evenly
    /// distributed within a bucket. Nothing without uploads.
    pub(super) fn quantile(&self, share: f64) -> Option<f64> {
        let wanted = self.count() * share;
        if wanted <= 0.0 {
            return None;
        }
        let (mut below, mut from) = (0.0, 0.0);
        for (count, to) in self.0.iter().zip(DELAY_BUCKETS) {
            if *count > 0.0 && below + count >= wanted {
                return Some(from + (to - from) * (wanted - below) / count);
            }
            (below, from) = (below + count, to);
        }
        Some(from)
    }
}

fn bucket(bound: &str) -> Option<usize> {
    if bound == "+Inf" {
        return Some(DELAY_BUCKETS.len());
    }
    let bound: f64 = bound.parse().ok()?;
    DELAY_BUCKETS
        .iter()
        .position(|known| (known - bound).abs() < 1e-9)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(below: &[(&str, f64)]) -> Delays {
        let gains: Vec<(Arc<str>, f64)> = below
            .iter()
            .map(|(le, count)| {
                let sample = format!("efgs_delivery_delay_seconds_bucket{{le=\"{le}\"}}");
                (Arc::from(sample), *count)
            })
            .collect();
        Delays::from_gains(gains.iter().map(|(sample, count)| (sample, *count)))
    }

    #[test]
    fn estimates_quantiles_within_a_bucket() {
        let all = ["5", "10", "30", "60", "150", "300", "330", "900", "+Inf"];
        let mut below = vec![("0.5", 0.0), ("1", 50.0), ("2", 90.0), ("3", 100.0)];
        below.extend(all.map(|le| (le, 100.0)));
        let delays = of(&below);
        assert_eq!(delays.count(), 100.0);
        assert_eq!(delays.quantile(0.25), Some(0.75));
        assert_eq!(delays.quantile(0.5), Some(1.0));
        assert_eq!(delays.quantile(0.99), Some(2.9));
        assert_eq!(of(&[("+Inf", 3.0)]).quantile(0.5), Some(900.0), "at least");
        assert_eq!(Delays::default().quantile(0.5), None);
    }

    #[test]
    fn adds_what_has_the_same_buckets() {
        let mut sum = Delays::default();
        sum.add(&of(&[("0.5", 2.0), ("+Inf", 2.0)]));
        sum.add(&Delays(vec![7.0]));
        assert_eq!(sum.count(), 2.0);
    }
}
