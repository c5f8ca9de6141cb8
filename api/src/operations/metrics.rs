//! The metrics of this process: one recorder, and a table of all metrics.
//!
//! A test over the sources checks that every metric is in the table, and that `docs/metrics.md`,
//! which is generated from it, is current.

use std::sync::OnceLock;
use std::time::Duration;

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use engine::OverloadBound;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

use crate::response::catalog;
use crate::slots::Bound;
use crate::telemetry;

/// Buckets of the duration histograms, in seconds: from a warm download to a stall.
const DURATION_BUCKETS: [f64; 15] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 10.0,
];
/// How often recorded samples are merged into the histograms; until then each takes 8 bytes.
const UPKEEP: Duration = Duration::from_secs(5);

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Kind {
    Counter,
    Gauge,
    Histogram,
}

/// A metric of this process.
struct Metric {
    name: &'static str,
    kind: Kind,
    labels: Labels,
    /// A sentence without its full stop.
    help: &'static str,
}

/// The labels of a metric.
enum Labels {
    None,
    /// A label with all its values: each exists from the start.
    Known(&'static str, fn() -> Vec<&'static str>),
    /// Labels whose values appear with the samples.
    Open(&'static str),
}

const fn metric(kind: Kind, name: &'static str, labels: Labels, help: &'static str) -> Metric {
    Metric {
        name,
        kind,
        labels,
        help,
    }
}

fn bounds() -> Vec<&'static str> {
    OverloadBound::ALL.map(OverloadBound::name).to_vec()
}

fn connection_bounds() -> Vec<&'static str> {
    Bound::ALL.map(Bound::name).to_vec()
}

fn outcomes() -> Vec<&'static str> {
    vec!["delivered", "failed"]
}

fn subscription_states() -> Vec<&'static str> {
    vec!["active", "disabled"]
}

/// In the order of an operator's interest: requests, bounds, stages, the log, downloads, callbacks,
/// trouble.
const METRICS: &[Metric] = &[
    metric(
        Kind::Histogram,
        "efgs_request_seconds",
        Labels::Open("route and status"),
        "Time from a request to the head of its response",
    ),
    metric(
        Kind::Counter,
        "efgs_refusals_total",
        Labels::Known("code", catalog::every_code),
        "Refused requests",
    ),
    metric(
        Kind::Gauge,
        "efgs_connections_open",
        Labels::None,
        "Open connections over all ports",
    ),
    metric(
        Kind::Counter,
        "efgs_connections_displaced_total",
        Labels::Known("bound", connection_bounds),
        "Connections closed for others: the port, a participant or unidentified peers had too many",
    ),
    metric(
        Kind::Counter,
        "efgs_connections_stalled_total",
        Labels::None,
        "Connections closed because their peer stalled",
    ),
    metric(
        Kind::Counter,
        "efgs_tls_handshakes_failed_total",
        Labels::None,
        "TLS handshakes that failed",
    ),
    metric(
        Kind::Gauge,
        "efgs_admission_in_flight_batches",
        Labels::None,
        "Uploads that hold a permit",
    ),
    metric(
        Kind::Gauge,
        "efgs_admission_in_flight_bytes",
        Labels::None,
        "Body bytes of the uploads that hold a permit",
    ),
    metric(
        Kind::Counter,
        "efgs_admission_refused_total",
        Labels::Known("bound", bounds),
        "Requests refused at a bound, with 429 or 503",
    ),
    metric(
        Kind::Histogram,
        "efgs_stage_seconds",
        Labels::Open("stage"),
        "Time of a stage: decode, validate, verify, dedup and seal an upload, persist a group of \
         uploads, bundle a cut, serve a cold bundle",
    ),
    metric(
        Kind::Histogram,
        "efgs_commit_seconds",
        Labels::None,
        "Time of a group commit",
    ),
    metric(
        Kind::Histogram,
        "efgs_commit_batches",
        Labels::None,
        "Uploads in a group commit",
    ),
    metric(
        Kind::Counter,
        "efgs_keys_stored_total",
        Labels::None,
        "Keys stored through this gateway",
    ),
    metric(
        Kind::Counter,
        "efgs_log_conflicts_total",
        Labels::None,
        "Commits that lost the race for the next position to another gateway",
    ),
    metric(
        Kind::Counter,
        "efgs_log_claims_total",
        Labels::None,
        "Times that the log tail was locked after too many lost races",
    ),
    metric(
        Kind::Counter,
        "efgs_download_batches_total",
        Labels::None,
        "Download batches cut by this gateway",
    ),
    metric(
        Kind::Gauge,
        "efgs_bundle_budget",
        Labels::None,
        "Download batches that may be cut before they are full, as of the last cut",
    ),
    metric(
        Kind::Gauge,
        "efgs_bundle_cache_bytes",
        Labels::None,
        "Bytes of encoded download batches in memory",
    ),
    metric(
        Kind::Counter,
        "efgs_cold_bundles_total",
        Labels::None,
        "Download batches read back from the database",
    ),
    metric(
        Kind::Counter,
        "efgs_downloads_uncounted_total",
        Labels::None,
        "Downloads missing from the statistics because the database was unavailable for too long",
    ),
    metric(
        Kind::Gauge,
        "efgs_callback_subscriptions",
        Labels::Known("state", subscription_states),
        "Callback subscriptions over all gateways",
    ),
    metric(
        Kind::Gauge,
        "efgs_callback_batches_behind_max",
        Labels::None,
        "Download batches that the active subscription furthest behind has not been notified of",
    ),
    metric(
        Kind::Gauge,
        "efgs_callback_deliveries_in_flight",
        Labels::None,
        "Callbacks that this gateway is delivering",
    ),
    metric(
        Kind::Counter,
        "efgs_callback_attempts_total",
        Labels::Known("outcome", outcomes),
        "Callbacks attempted by this gateway",
    ),
    metric(
        Kind::Histogram,
        "efgs_callback_seconds",
        Labels::Open("outcome"),
        "Time of a callback, from resolving its host to the head of the response",
    ),
    metric(
        Kind::Counter,
        "efgs_log_lines_folded_total",
        Labels::None,
        "Log lines left out because a participant or peer caused too many of the same",
    ),
    metric(
        Kind::Counter,
        "efgs_log_lines_dropped_total",
        Labels::None,
        "Log lines dropped because standard error was blocked or could not be written",
    ),
    metric(
        Kind::Gauge,
        "efgs_database_went_back",
        Labels::None,
        "1 once the database has gone back to an earlier state: the gateway waits for its operator",
    ),
    metric(
        Kind::Counter,
        "efgs_panics_total",
        Labels::None,
        "Panics: of a job, whose request gets a 500, or of a thread, after which the gateway exits",
    ),
];

impl Metric {
    /// Registers the metric, and starts counters at 0: otherwise an alert on an increase would miss
    /// the first one.
    fn register(&self) {
        let help = match self.labels {
            Labels::None => self.help.to_owned(),
            Labels::Known(label, _) | Labels::Open(label) => format!("{}; by {label}", self.help),
        };
        match self.kind {
            Kind::Counter => describe_counter!(self.name, help),
            Kind::Gauge => describe_gauge!(self.name, help),
            Kind::Histogram => describe_histogram!(self.name, help),
        }
        let labels = match self.labels {
            Labels::None => vec![Vec::new()],
            Labels::Known(label, values) => {
                let pairs = values().into_iter().map(|value| vec![(label, value)]);
                pairs.collect()
            }
            Labels::Open(_) => Vec::new(),
        };
        for labels in labels {
            match self.kind {
                Kind::Counter => counter!(self.name, &labels).increment(0),
                // It may already have a value.
                Kind::Gauge => gauge!(self.name, &labels).increment(0.0),
                Kind::Histogram => {}
            }
        }
    }
}

/// The metrics of this process.
#[derive(Clone)]
pub(crate) struct Metrics(PrometheusHandle);

impl Metrics {
    /// The recorder of this process, installed the first time.
    ///
    /// # Errors
    /// When the process has another recorder.
    pub(crate) fn install() -> Result<Self, String> {
        static INSTALLED: OnceLock<Result<PrometheusHandle, String>> = OnceLock::new();
        INSTALLED.get_or_init(install_recorder).clone().map(Self)
    }

    /// In Prometheus' text format.
    pub(crate) fn render(&self) -> String {
        telemetry::update_metrics();
        self.0.render()
    }

    /// Bounds the memory of the histograms, until the shutdown signal.
    pub(crate) async fn upkeep(self, mut shutdown: watch::Receiver<bool>) {
        let mut interval = tokio::time::interval(UPKEEP);
        loop {
            tokio::select! {
                _ = interval.tick() => self.0.run_upkeep(),
                _ = shutdown.wait_for(|shutdown| *shutdown) => return,
            }
        }
    }
}

fn install_recorder() -> Result<PrometheusHandle, String> {
    let durations = Matcher::Suffix("_seconds".to_owned());
    let builder = PrometheusBuilder::new().set_buckets_for_metric(durations, &DURATION_BUCKETS);
    let installed = builder.and_then(PrometheusBuilder::install_recorder);
    let handle = installed.map_err(|error| error.to_string())?;
    METRICS.iter().for_each(Metric::register);
    Ok(handle)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::fs;
    use std::path::{Path, PathBuf};

    use super::*;

    fn workspace() -> PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
    }

    /// The code of all sources below a folder, without unit tests and without this table.
    fn collect(folder: &Path, code: &mut String) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            let name = path.file_name().unwrap().to_str().unwrap();
            if path.is_dir() {
                collect(&path, code);
            } else if name.ends_with(".rs") && name != "tests.rs" && !path.ends_with(file!()) {
                let text = fs::read_to_string(&path).unwrap();
                let end = text.find("#[cfg(test)]\nmod tests");
                code.push_str(&text[..end.unwrap_or(text.len())]);
            }
        }
    }

    /// The names in quotes, each with the macro that takes it where one does.
    fn names_in(code: &str) -> BTreeSet<(String, Option<Kind>)> {
        let mut names = BTreeSet::new();
        for (at, _) in code.match_indices("\"efgs_") {
            let name: String = code[at + 1..].chars().take_while(|c| *c != '"').collect();
            let before = code[..at].trim_end();
            let kinds = [
                ("counter!(", Kind::Counter),
                ("gauge!(", Kind::Gauge),
                ("histogram!(", Kind::Histogram),
            ];
            let kind = kinds.iter().find(|(text, _)| before.ends_with(text));
            names.insert((name, kind.map(|(_, kind)| *kind)));
        }
        names
    }

    #[test]
    fn lists_exactly_the_metrics_of_the_sources() {
        let mut code = String::new();
        for package in ["api/src", "engine/src"] {
            collect(&workspace().join(package), &mut code);
        }
        let counted = names_in(&code);
        for (name, kind) in &counted {
            let listed = METRICS.iter().find(|metric| metric.name == name);
            let listed = listed.unwrap_or_else(|| panic!("{name} is not in the table"));
            assert_eq!(kind.unwrap_or(listed.kind), listed.kind, "{name}");
        }
        for metric in METRICS {
            let is_counted = counted.iter().any(|(name, _)| metric.name == name);
            assert!(is_counted, "{} is never recorded", metric.name);
        }
        let names: BTreeSet<_> = METRICS.iter().map(|metric| metric.name).collect();
        assert_eq!(names.len(), METRICS.len(), "a name is listed twice");
    }

    #[test]
    fn reads_names_and_macros_from_code() {
        let code = "let name = \"efgs_a\";\n metrics::gauge!(\n    \"efgs_b\").set(1.0);";
        let expected = [
            ("efgs_a".to_owned(), None),
            ("efgs_b".to_owned(), Some(Kind::Gauge)),
        ];
        assert_eq!(names_in(code), BTreeSet::from(expected));
    }

    fn document() -> String {
        let mut text = String::from(
            "# Metrics\n\n\
             The metrics at `/metrics` of the operations port, in Prometheus' text format. Counters begin at \
             0 when the\ngateway starts, with every value of their label. Generated from \
             `api/src/operations/metrics.rs`:\n\
             `EFGS_WRITE_METRICS=1 cargo test -p efgs-api --lib metrics`.\n\n\
             | name | kind | labels | meaning |\n| --- | --- | --- | --- |\n",
        );
        for metric in METRICS {
            let kind = format!("{:?}", metric.kind).to_lowercase();
            let labels = match metric.labels {
                Labels::None => String::new(),
                Labels::Open(labels) => labels.to_owned(),
                // The codes are in the API description, with their meaning.
                Labels::Known(label @ "code", _) => label.to_owned(),
                Labels::Known(label, values) => format!("{label}: {}", values().join(", ")),
            };
            text += &format!(
                "| `{}` | {kind} | {labels} | {} |\n",
                metric.name, metric.help
            );
        }
        text
    }

    #[test]
    fn match_the_document() {
        let path = workspace().join("docs/metrics.md");
        if std::env::var_os("EFGS_WRITE_METRICS").is_some() {
            fs::write(&path, document()).unwrap();
        }
        let written = fs::read_to_string(path).unwrap_or_default();
        assert!(
            written == document(),
            "docs/metrics.md is outdated: generate it again, as it says"
        );
    }

    #[test]
    fn installs_one_recorder_for_any_number_of_servers() {
        let first = Metrics::install().unwrap();
        let second = Metrics::install().unwrap();
        counter!("efgs_refusals_total", "code" => "seen").increment(2);
        let line = "efgs_refusals_total{code=\"seen\"} 2";
        assert!(first.render().contains(line));
        assert!(second.render().contains(line));
    }
}
