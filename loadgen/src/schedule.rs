//! Timetables: when requests become due, and whose they are. Made from a seed before the clock
//! starts, so that nothing that the gateway does can delay what comes next.

use std::time::Duration;

use rand::Rng;
use rand::distr::Distribution as _;
use rand::distr::weighted::WeightedIndex;
use rand_chacha::ChaCha8Rng;

use crate::scenario::{Arrivals, Burst, Rate};

/// A request that becomes due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arrival {
    /// When, since the start of the phase.
    pub at: Duration,
    /// Whose, as an index into the weights.
    pub participant: usize,
}

/// Where a timetable ends.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum End {
    /// Nowhere.
    Never,
    /// At this time.
    After(Duration),
    /// After so many requests.
    Count(u64),
}

/// Requests as they become due, in order. A clone continues as the original does.
#[derive(Debug, Clone)]
pub struct Timetable {
    rate: Rate,
    poisson: bool,
    end: End,
    whose: WeightedIndex<u64>,
    random: ChaCha8Rng,
    /// Time as if requests came evenly: bunching only moves them within their period.
    even_seconds: f64,
    count: u64,
}

impl Timetable {
    /// A timetable; `None` for closed arrivals. Participants come at random in proportion to
    /// their `weights`, of which one at least is not 0.
    pub fn new(arrivals: Arrivals, end: End, weights: &[u64], random: ChaCha8Rng) -> Option<Self> {
        let (rate, poisson) = match arrivals {
            Arrivals::Poisson(rate) => (rate, true),
            Arrivals::Fixed(rate) => (rate, false),
            Arrivals::Closed => return None,
        };
        Some(Self {
            rate,
            poisson,
            end,
            whose: WeightedIndex::new(weights).expect("a participant has a weight"),
            random,
            even_seconds: 0.0,
            count: 0,
        })
    }

    /// Requests per second of the whole timetable.
    pub const fn per_second(&self) -> f64 {
        self.rate.per_second
    }
}

impl Iterator for Timetable {
    type Item = Arrival;

    fn next(&mut self) -> Option<Arrival> {
        self.even_seconds = if self.poisson {
            // 1 - x is in (0, 1]: its logarithm is finite.
            let gap = -(1.0 - self.random.random::<f64>()).ln();
            self.even_seconds + gap / self.rate.per_second
        } else {
            // From the start on, so that a second has as many as the rate says.
            #[allow(clippy::cast_precision_loss, reason = "far below 2^53 requests")]
            let count = self.count as f64;
            count / self.rate.per_second
        };
        let arrival = Arrival {
            at: Duration::from_secs_f64(bunch(self.even_seconds, self.rate)),
            participant: self.whose.sample(&mut self.random),
        };
        let over = match self.end {
            End::Never => false,
            End::After(time) => arrival.at >= time,
            End::Count(count) => self.count >= count,
        };
        self.count += 1;
        (!over).then_some(arrival)
    }
}

/// Moves a time within its period so that the burst gets its share. Order is kept.
fn bunch(even: f64, rate: Rate) -> f64 {
    let Some(Burst {
        every_seconds,
        lasts_seconds,
        share,
    }) = rate.burst
    else {
        return even;
    };
    let period = (even / every_seconds).floor();
    let part = even / every_seconds - period;
    let within = if part < share {
        part / share * lasts_seconds
    } else {
        lasts_seconds + (part - share) / (1.0 - share) * (every_seconds - lasts_seconds)
    };
    period * every_seconds + within
}

#[cfg(test)]
mod tests {
    use rand::SeedableRng;

    use super::*;

    const MINUTE: End = End::After(Duration::from_secs(60));

    fn rate(per_second: f64) -> Rate {
        Rate {
            per_second,
            burst: None,
        }
    }

    fn made(seed: u64, arrivals: Arrivals, end: End) -> Vec<Arrival> {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let table = Timetable::new(arrivals, end, &[3, 1], random);
        table.into_iter().flatten().collect()
    }

    #[test]
    fn keeps_the_rate_and_the_weights() {
        let table = made(1, Arrivals::Poisson(rate(100.0)), MINUTE);
        // 6000 expected; the deviation of a Poisson count is its root, 77.
        assert!((5600..6400).contains(&table.len()), "{}", table.len());
        assert!(table.is_sorted_by_key(|arrival| arrival.at));
        assert!(table.iter().all(|arrival| arrival.at.as_secs() < 60));
        let first = table.iter().filter(|arrival| arrival.participant == 0);
        let share = first.count() * 100 / table.len();
        assert!((72..=78).contains(&share), "{share} % of 75 %");
    }

    #[test]
    fn keeps_slow_rates_over_many_seeds() {
        let end = End::After(Duration::from_secs(3));
        let of = |seed| made(seed, Arrivals::Poisson(rate(4.0)), end).len();
        let sum: usize = (0..1000).map(of).sum();
        // 12,000 expected, with a deviation of 110.
        assert!((11_500..12_500).contains(&sum), "{sum}");
    }

    #[test]
    fn spreads_gaps_exponentially() {
        let table = made(2, Arrivals::Poisson(rate(1000.0)), MINUTE);
        let gaps = table.windows(2).map(|pair| pair[1].at - pair[0].at);
        let short = gaps.filter(|gap| *gap < Duration::from_millis(1)).count();
        // 1 - 1/e = 63.2 % of the gaps are shorter than the mean.
        let share = short * 1000 / table.len();
        assert!((620..=644).contains(&share), "{share} in 1000");
    }

    #[test]
    fn makes_the_same_table_from_the_same_seed_only() {
        let table = |seed| made(seed, Arrivals::Poisson(rate(50.0)), MINUTE);
        assert_eq!(table(7), table(7));
        assert_ne!(table(7), table(8));
    }

    #[test]
    fn comes_at_equal_distances_when_fixed() {
        let table = made(1, Arrivals::Fixed(rate(4.0)), End::Count(3));
        let at: Vec<_> = table.iter().map(|arrival| arrival.at.as_millis()).collect();
        assert_eq!(at, [0, 250, 500]);
    }

    #[test]
    fn bunches_the_share_of_a_burst_and_keeps_the_rate() {
        let burst = Burst {
            every_seconds: 30.0,
            lasts_seconds: 1.0,
            share: 0.9,
        };
        let rate = Rate {
            per_second: 10.0,
            burst: Some(burst),
        };
        let table = made(1, Arrivals::Fixed(rate), MINUTE);
        assert_eq!(table.len(), 600);
        let in_burst = |arrival: &&Arrival| arrival.at.as_millis() % 30_000 < 1000;
        assert_eq!(table.iter().filter(in_burst).count(), 540);
        assert!(table.is_sorted_by_key(|arrival| arrival.at));
    }

    #[test]
    fn has_no_table_for_closed_arrivals() {
        assert_eq!(made(1, Arrivals::Closed, MINUTE), []);
    }
}
