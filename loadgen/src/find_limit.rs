//! Raises the rate until an objective fails, and narrows down the limit between the highest rate
//! that held and the lowest that failed.

use std::time::Duration;

use crate::objective::Objective;
use crate::results::{Figures, Limit, PhaseSummary};
use crate::scenario::{Arrivals, Operation, Phase, Rate, Stream};

/// Requests that may be due and not yet sent at the end of a step, in seconds of its rate. More
/// means that arrivals fall behind.
const BEHIND_SECONDS_MAX: f64 = 0.5;

/// What to look for, and how.
#[derive(Debug, Clone, PartialEq)]
pub struct FindLimitOptions {
    /// The objective for the latency of uploads, measured from the scheduled arrival.
    pub objective: Objective,
    /// Share of the requests that may be answered other than with 201, 0 to 1.
    pub errors_max: f64,
    /// Uploads per second of the first step.
    pub start: f64,
    /// Length of a step.
    pub step: Duration,
    /// The search stops when the highest rate that held and the lowest that failed differ by at
    /// most this share.
    pub precision: f64,
    /// Keys per upload.
    pub upload_keys: u32,
    /// Connections per participant.
    pub connections: usize,
}

impl FindLimitOptions {
    /// A step at that rate, in uploads per second.
    pub fn phase(&self, number: usize, per_second: f64) -> Phase {
        let rate = Rate {
            per_second,
            burst: None,
        };
        let stream = Stream {
            name: "uploads".to_owned(),
            does: Operation::Upload {
                upload_keys: self.upload_keys,
                keys: None,
                duplicates: 0.0,
            },
            arrivals: Arrivals::Poisson(rate),
            participants: None,
            skip: 0,
            connections: self.connections,
            bytes_per_second: 0,
            retry_seconds: 0.0,
            expect: [429, 503].into(),
            expect_broken: false,
        };
        Phase {
            name: format!("step-{number}"),
            seconds: Some(self.step.as_secs_f64()),
            ahead: true,
            restart: false,
            streams: vec![stream],
        }
    }

    /// Why the objective failed in a step; `None` if it held.
    pub fn broken_by(&self, step: &PhaseSummary) -> Option<String> {
        let Figures {
            due,
            uploads,
            behind_max,
            ..
        } = &step.all;
        let errors = share(due.saturating_sub(*uploads), *due);
        if errors > self.errors_max {
            return Some(format!("{:.1} % were not stored", errors * 100.0));
        }
        let measure = self.objective.measure();
        let Some(latency) = measure.of(&step.all) else {
            return Some("nothing was stored".to_owned());
        };
        if !self.objective.holds(latency) {
            return Some(format!(
                "{} was {}",
                measure.words(),
                measure.shown(latency)
            ));
        }
        let offered = step.offered_uploads_per_second.unwrap_or(0.0);
        #[allow(clippy::cast_precision_loss, reason = "compared with an estimate")]
        let behind = *behind_max as f64;
        // A few requests may always be on their way from the timetable to a connection.
        (behind > (offered * BEHIND_SECONDS_MAX).max(8.0))
            .then(|| format!("{behind_max} requests were due and not sent"))
    }
}

#[allow(clippy::cast_precision_loss, reason = "a share for people to read")]
fn share(part: u64, whole: u64) -> f64 {
    if whole == 0 {
        0.0
    } else {
        part as f64 / whole as f64
    }
}

/// Doubles the rate until it fails, then bisects.
#[derive(Debug, Clone, PartialEq)]
pub struct Search {
    held: Option<f64>,
    broke: Option<(f64, String)>,
    start: f64,
    precision: f64,
}

/// Lowest rate that is tried, in uploads per second.
const RATE_MIN: f64 = 0.1;
/// Highest rate that is tried.
const RATE_MAX: f64 = 100_000.0;

impl Search {
    /// Starts at a rate.
    pub const fn new(start: f64, precision: f64) -> Self {
        Self {
            held: None,
            broke: None,
            start,
            precision,
        }
    }

    /// The next rate to try; `None` when the limit is found.
    pub fn next(&self) -> Option<f64> {
        let rate = match (self.held, &self.broke) {
            (None, None) => self.start,
            (Some(held), None) => held * 2.0,
            (None, Some((broke, _))) => broke / 2.0,
            (Some(held), Some((broke, _))) => {
                if broke - held <= held * self.precision {
                    return None;
                }
                f64::midpoint(held, *broke)
            }
        };
        (RATE_MIN..=RATE_MAX).contains(&rate).then_some(rate)
    }

    /// Records the outcome at that rate: why it failed, or `None` if it held.
    pub fn tell(&mut self, rate: f64, broke: Option<String>) {
        match broke {
            Some(reason) => self.broke = Some((rate, reason)),
            None => self.held = Some(rate),
        }
    }

    /// The result.
    pub fn limit(&self, options: &FindLimitOptions) -> Limit {
        let held = self.held.unwrap_or(0.0);
        Limit {
            objective: options.objective.to_string(),
            uploads_per_second: held,
            keys_per_second: held * f64::from(options.upload_keys),
            broke_at_uploads_per_second: self.broke.as_ref().map(|broke| broke.0),
            reason: self.broke.as_ref().map(|broke| broke.1.clone()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::results::{LatencySummary, Percentiles};

    fn options() -> FindLimitOptions {
        FindLimitOptions {
            objective: "p99=250ms".parse().unwrap(),
            errors_max: 0.01,
            start: 10.0,
            step: Duration::from_secs(1),
            precision: 0.05,
            upload_keys: 5000,
            connections: 1,
        }
    }

    fn step(due: u64, uploads: u64, p99: u64, behind_max: u64) -> PhaseSummary {
        let percentiles = Percentiles {
            p99,
            ..Percentiles::default()
        };
        PhaseSummary {
            offered_uploads_per_second: Some(100.0),
            all: Figures {
                due,
                uploads,
                behind_max,
                upload: Some(LatencySummary {
                    corrected: percentiles,
                    service: Percentiles::default(),
                }),
                ..Figures::default()
            },
            ..PhaseSummary::default()
        }
    }

    #[test]
    fn evaluates_a_step_by_errors_latency_and_arrears() {
        let options = options();
        assert_eq!(options.broken_by(&step(1000, 990, 250_000, 50)), None);
        for (step, expected) in [
            (step(1000, 989, 1000, 0), "1.1 % were not stored"),
            (step(1000, 1000, 251_000, 0), "upload p99 was 251 ms"),
            (
                step(1000, 1000, 1000, 51),
                "51 requests were due and not sent",
            ),
        ] {
            assert_eq!(options.broken_by(&step).as_deref(), Some(expected));
        }
    }

    #[test]
    fn finds_the_knee_by_doubling_and_halving() {
        let mut search = Search::new(10.0, 0.05);
        let mut tried = Vec::new();
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.tell(rate, (rate > 100.0).then(|| "too slow".to_owned()));
        }
        assert_eq!(tried[..5], [10.0, 20.0, 40.0, 80.0, 160.0]);
        let limit = search.limit(&options());
        assert!(
            (95.0..=100.0).contains(&limit.uploads_per_second),
            "{limit:?}"
        );
        assert!(limit.broke_at_uploads_per_second.unwrap() <= 105.0);
        assert!(tried.len() < 10, "{tried:?}");
    }

    #[test]
    fn goes_down_when_the_first_rate_breaks_and_gives_up_at_the_bottom() {
        let mut search = Search::new(10.0, 0.05);
        while let Some(rate) = search.next() {
            search.tell(rate, Some("always".to_owned()));
        }
        assert!(search.limit(&options()).uploads_per_second == 0.0);
    }
}
