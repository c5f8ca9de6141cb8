//! An hour of rates, in the memory of the gateway.
//!
//! - *In*: one sample per [`STEP`].
//! - *Out*: columns for the charts.
//! - *Assumes*: nothing; a gateway that was just started has a short history.
//! - *Runs on*: the sampling task; 90 KB when it is full.

use std::collections::VecDeque;
use std::time::Duration;

use schemars::JsonSchema;
use serde::Serialize;

/// Between two samples.
pub(super) const STEP: Duration = Duration::from_secs(5);
/// Samples that are kept: an hour of them.
pub(super) const SAMPLES_MAX: usize = 720;

/// The installation at an instant, all gateways together.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub(super) struct Sample {
    /// In milliseconds.
    pub(super) at: u64,
    pub(super) keys: f64,
    pub(super) uploads: f64,
    pub(super) downloads: f64,
    pub(super) download_bytes: f64,
    pub(super) refusals: f64,
    pub(super) delay_p50: Option<f64>,
    pub(super) delay_p99: Option<f64>,
    pub(super) uploads_in_flight: f64,
}

/// The samples of the last hour.
#[derive(Debug, Default)]
pub(super) struct History(VecDeque<Sample>);

/// The history as columns of equal length, the oldest sample first. Rates are per second.
#[derive(Debug, Default, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Columns {
    step_seconds: u64,
    /// Seconds since the Unix epoch.
    at: Vec<u64>,
    keys_per_second: Vec<f64>,
    uploads_per_second: Vec<f64>,
    downloads_per_second: Vec<f64>,
    download_bytes_per_second: Vec<f64>,
    refusals_per_second: Vec<f64>,
    /// Of the uploads that became downloadable in the minute before; null without any.
    delay_p50_seconds: Vec<Option<f64>>,
    delay_p99_seconds: Vec<Option<f64>>,
    uploads_in_flight: Vec<f64>,
}

impl History {
    /// Adds a sample; the oldest goes.
    pub(super) fn push(&mut self, sample: Sample) {
        if self.0.len() == SAMPLES_MAX {
            self.0.pop_front();
        }
        self.0.push_back(sample);
    }

    /// All samples.
    pub(super) fn columns(&self) -> Columns {
        let column = |value: fn(&Sample) -> f64| -> Vec<f64> {
            let values = self.0.iter().map(value);
            values.map(rounded).collect()
        };
        let delays = |value: fn(&Sample) -> Option<f64>| -> Vec<Option<f64>> {
            let values = self.0.iter().map(value);
            values.map(|value| value.map(rounded)).collect()
        };
        Columns {
            step_seconds: STEP.as_secs(),
            at: self.0.iter().map(|sample| sample.at / 1000).collect(),
            keys_per_second: column(|sample| sample.keys),
            uploads_per_second: column(|sample| sample.uploads),
            downloads_per_second: column(|sample| sample.downloads),
            download_bytes_per_second: column(|sample| sample.download_bytes),
            refusals_per_second: column(|sample| sample.refusals),
            delay_p50_seconds: delays(|sample| sample.delay_p50),
            delay_p99_seconds: delays(|sample| sample.delay_p99),
            uploads_in_flight: column(|sample| sample.uploads_in_flight),
        }
    }
}

/// To a thousandth: nobody sees more on a chart.
pub(super) fn rounded(value: f64) -> f64 {
    (value * 1000.0).round() / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_an_hour_the_oldest_first() {
        let mut history = History::default();
        for at in 0..=SAMPLES_MAX as u64 {
            history.push(Sample {
                at: at * 5000,
                keys: 0.123_456,
                ..Sample::default()
            });
        }
        let columns = history.columns();
        assert_eq!(columns.at.len(), SAMPLES_MAX);
        assert_eq!((columns.at[0], columns.at[719]), (5, 3600));
        assert_eq!(columns.keys_per_second[0], 0.123);
        assert_eq!(columns.delay_p50_seconds[0], None);
        let hour = STEP.as_secs() * SAMPLES_MAX as u64;
        assert_eq!(hour, 3600);
    }
}
