//! A reading of the metrics: the same text that Prometheus reads, so that the console cannot differ from it.

use std::collections::HashMap;
use std::sync::Arc;

/// The metrics that the console uses; others are passed over.
const USED: [&str; 31] = [
    "efgs_admission_in_flight_batches",
    "efgs_admission_in_flight_batches_max",
    "efgs_admission_in_flight_bytes",
    "efgs_admission_in_flight_bytes_max",
    "efgs_audit_cache_bytes",
    "efgs_audit_cache_bytes_max",
    "efgs_bundle_cache_bytes",
    "efgs_bundle_cache_bytes_max",
    "efgs_callback_deliveries_in_flight",
    "efgs_callback_deliveries_in_flight_max",
    "efgs_connections_max",
    "efgs_connections_open",
    "efgs_database_disk_bytes",
    "efgs_database_disk_free_bytes",
    "efgs_delivery_delay_seconds_bucket",
    "efgs_download_bytes_total",
    "efgs_downloads_total",
    "efgs_epoch",
    "efgs_identities",
    "efgs_keys_total",
    "efgs_newest_download_batch_timestamp_seconds",
    "efgs_participant_refusals_total",
    "efgs_refusals_total",
    "efgs_stored_memory_bytes",
    "efgs_stored_memory_bytes_max",
    "efgs_uploads_total",
    "efgs_uploads_waiting",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
];

/// Values by sample, as `efgs_uploads_total{country="DE",outcome="stored"}`.
#[derive(Debug, Clone, Default)]
pub(super) struct Reading(HashMap<Arc<str>, f64>);

impl Reading {
    /// Reads Prometheus' text format, as our own exporter writes it: no blanks and no escapes in labels.
    /// Names are shared with the reading before.
    pub(super) fn parse(text: &str, before: &Self) -> Self {
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        let samples = lines.filter_map(|line| {
            let (sample, value) = line.rsplit_once(' ')?;
            if !USED.contains(&name_of(sample)) {
                return None;
            }
            let known = before.0.get_key_value(sample);
            let sample = known.map_or_else(|| Arc::from(sample), |(known, _)| Arc::clone(known));
            Some((sample, value.parse().ok()?))
        });
        Self(samples.collect())
    }

    /// The value of a sample; 0 where there is none.
    pub(super) fn value(&self, sample: &str) -> f64 {
        self.0.get(sample).copied().unwrap_or_default()
    }

    /// The samples of a metric.
    pub(super) fn of<'a>(&'a self, name: &'a str) -> impl Iterator<Item = (&'a Arc<str>, f64)> {
        let samples = self
            .0
            .iter()
            .filter(move |(sample, _)| name_of(sample) == name);
        samples.map(|(sample, value)| (sample, *value))
    }

    /// The sum over those samples of a metric that have this text among their labels.
    pub(super) fn sum(&self, name: &str, label: &str) -> f64 {
        let samples = self.of(name).filter(|(sample, _)| sample.contains(label));
        samples.map(|(_, value)| value).sum()
    }

    /// What a counter has gained since a reading before.
    pub(super) fn gained(&self, before: &Self, name: &str, label: &str) -> f64 {
        (self.sum(name, label) - before.sum(name, label)).max(0.0)
    }
}

/// The metric of a sample.
pub(super) fn name_of(sample: &str) -> &str {
    sample.split('{').next().unwrap_or(sample)
}

/// The value of a sample's label.
pub(super) fn label_of<'a>(sample: &'a str, label: &str) -> Option<&'a str> {
    let (_, labels) = sample.split_once('{')?;
    let labels = labels.strip_suffix('}')?;
    let mut labels = labels.split(',').filter_map(|pair| pair.split_once('='));
    let (_, value) = labels.find(|(name, _)| *name == label)?;
    Some(value.trim_matches('"'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_values_sums_and_labels() {
        let text = "# TYPE efgs_uploads_total counter\n\
             efgs_uploads_total{country=\"DE\",outcome=\"stored\"} 7\n\
             efgs_uploads_total{country=\"IT\",outcome=\"stored\"} 2\n\
             efgs_uploads_total{country=\"IT\",outcome=\"rejected\"} 1\n\
             efgs_epoch 3\nefgs_unknown_total 9\nefgs_database_disk_bytes NaN\n";
        let reading = Reading::parse(text, &Reading::default());
        assert_eq!(reading.value("efgs_epoch"), 3.0);
        assert_eq!(reading.value("efgs_unknown_total"), 0.0);
        assert!(reading.value("efgs_database_disk_bytes").is_nan());
        let stored = "outcome=\"stored\"";
        assert_eq!(reading.sum("efgs_uploads_total", stored), 9.0);
        assert_eq!(reading.sum("efgs_uploads_total", ""), 10.0);
        let sample = "efgs_uploads_total{country=\"IT\",outcome=\"rejected\"}";
        assert_eq!(label_of(sample, "country"), Some("IT"));
        assert_eq!(label_of(sample, "outcome"), Some("rejected"));
        assert_eq!(label_of(sample, "kind"), None);
        let later = Reading::parse(&text.replace("} 7", "} 12"), &reading);
        assert_eq!(later.gained(&reading, "efgs_uploads_total", stored), 5.0);
        let (name, _) = reading.0.get_key_value(sample).unwrap();
        assert!(
            Arc::ptr_eq(name, later.0.get_key_value(sample).unwrap().0),
            "shared"
        );
    }

    #[test]
    fn uses_metrics_that_exist() {
        for name in USED {
            let base = ["_bucket", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let is_listed = |name| crate::operations::metrics::is_listed(name);
            assert!(is_listed(name) || base.is_some_and(is_listed), "{name}");
        }
    }
}
