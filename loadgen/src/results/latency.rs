//! Latencies, each a `HdrHistogram` in microseconds; in files in that library's V2 encoding
//! (uncompressed), in base64, which its ports to other languages read, too.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hdrhistogram::Histogram;
use hdrhistogram::serialization::{Deserializer as HdrDeserializer, Serializer as _, V2Serializer};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// Latencies are counted up to an hour, in microseconds.
const MICROS_MAX: u64 = 3_600_000_000;
/// Significant digits that are kept.
const DIGITS: u8 = 3;

/// The text is not a latency.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a latency is an HdrHistogram, V2 encoding, in base64")]
pub struct LatencyError;

/// A latency histogram in microseconds, with three significant digits, up to an hour.
#[derive(Clone, PartialEq)]
pub struct Latency(Histogram<u64>);

impl Default for Latency {
    fn default() -> Self {
        let histogram = Histogram::new_with_bounds(1, MICROS_MAX, DIGITS);
        Self(histogram.expect("the bounds are in order and three digits are allowed"))
    }
}

impl Latency {
    /// Counts a request.
    pub fn record(&mut self, micros: u64) {
        self.0.saturating_record(micros);
    }

    /// Adds another histogram's counts.
    pub fn add(&mut self, other: &Self) {
        // Both have the same bounds, so nothing can be out of range.
        self.0.add(&other.0).ok();
    }

    /// How many requests were counted.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Whether no requests were counted.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The latency that this share of the requests (0 to 1) did not exceed.
    pub fn micros_at(&self, quantile: f64) -> u64 {
        self.0.value_at_quantile(quantile)
    }

    /// The percentiles of a summary.
    pub fn percentiles(&self) -> Percentiles {
        Percentiles {
            count: self.count(),
            p50: self.micros_at(0.5),
            p90: self.micros_at(0.9),
            p99: self.micros_at(0.99),
            p999: self.micros_at(0.999),
            max: self.0.max(),
        }
    }

    /// The histogram, for plots.
    pub const fn histogram(&self) -> &Histogram<u64> {
        &self.0
    }

    fn to_base64(&self) -> Result<String, LatencyError> {
        let mut bytes = Vec::new();
        let written = V2Serializer::new().serialize(&self.0, &mut bytes);
        written.map_err(|_| LatencyError)?;
        Ok(STANDARD.encode(bytes))
    }

    fn from_base64(text: &str) -> Result<Self, LatencyError> {
        let bytes = STANDARD.decode(text).map_err(|_| LatencyError)?;
        let read = HdrDeserializer::new().deserialize::<u64, _>(&mut bytes.as_slice());
        let mut latency = Self::default();
        let added = read.map(|read| latency.0.add(read));
        match added {
            Ok(Ok(())) => Ok(latency),
            _ => Err(LatencyError),
        }
    }
}

impl fmt::Debug for Latency {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Latency").field(&self.percentiles()).finish()
    }
}

impl Serialize for Latency {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.to_base64().map_err(serde::ser::Error::custom)?;
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Latency {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::from_base64(&text).map_err(de::Error::custom)
    }
}

/// Percentiles of a latency, in microseconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Percentiles {
    /// How many requests were counted.
    pub count: u64,
    /// 50th percentile.
    pub p50: u64,
    /// 90th percentile.
    pub p90: u64,
    /// 99th percentile.
    pub p99: u64,
    /// 99.9th percentile.
    pub p999: u64,
    /// Maximum.
    pub max: u64,
}
