//! The metrics of this process: one recorder, and a table of all metrics.
//!
//! A test over the sources checks that every metric is in the table, and that `docs/metrics.md`,
//! which is generated from it, is current.

mod process;
mod table;

use std::sync::OnceLock;
use std::time::Duration;

use ::metrics::{counter, describe_counter, describe_gauge, describe_histogram, gauge};
use metrics_exporter_prometheus::{BuildError, Matcher, PrometheusBuilder, PrometheusHandle};
use tokio::sync::watch;

use crate::telemetry;

use table::{Kind, Labels, METRICS, Metric};

/// Buckets of the duration histograms, in seconds: from a warm download to a stall.
const DURATION_BUCKETS: [f64; 16] = [
    0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0,
    10.0,
];
/// Buckets of the delay from upload to download: around the 2 s of a quiet day and the 300 s of the
/// reference's rhythm.
pub(super) const DELAY_BUCKETS: [f64; 12] = [
    0.5, 1.0, 2.0, 3.0, 5.0, 10.0, 30.0, 60.0, 150.0, 300.0, 330.0, 900.0,
];
/// Buckets of numbers of uploads, up to the most that are in flight.
const COUNT_BUCKETS: [f64; 11] = [
    1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0, 256.0, 512.0, 1024.0,
];
/// How often recorded samples are merged into the histograms; until then each takes 8 bytes.
const UPKEEP: Duration = Duration::from_secs(5);

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
        process::update_metrics();
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

/// Whether there is a metric of this name.
#[cfg(test)]
pub(super) fn is_listed(name: &str) -> bool {
    METRICS.iter().any(|metric| metric.name == name)
}

fn install_recorder() -> Result<PrometheusHandle, String> {
    let builder = with_buckets(PrometheusBuilder::new());
    let installed = builder.and_then(PrometheusBuilder::install_recorder);
    let handle = installed.map_err(|error| error.to_string())?;
    METRICS.iter().for_each(Metric::register);
    gauge!("efgs_build_info", "version" => env!("CARGO_PKG_VERSION")).set(1.0);
    Ok(handle)
}

/// Without buckets, a histogram would be a summary, which cannot be added up over gateways. The
/// more exact matcher counts.
fn with_buckets(builder: PrometheusBuilder) -> Result<PrometheusBuilder, BuildError> {
    let named = |name: &str| Matcher::Full(name.to_owned());
    builder
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &DURATION_BUCKETS)?
        .set_buckets_for_metric(named("efgs_delivery_delay_seconds"), &DELAY_BUCKETS)?
        .set_buckets_for_metric(named("efgs_commit_batches"), &COUNT_BUCKETS)
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
                // The console reads metrics, and has a test of its own for that.
                if name != "console" {
                    collect(&path, code);
                }
            } else if name.ends_with(".rs") && !["tests.rs", "table.rs"].contains(&name) {
                let text = fs::read_to_string(&path).unwrap();
                let end = text.find("#[cfg(test)]\nmod tests");
                code.push_str(&text[..end.unwrap_or(text.len())]);
            }
        }
    }

    /// The names in quotes, each with the macro that takes it where one does.
    fn names_in(code: &str) -> BTreeSet<(String, Option<Kind>)> {
        let mut names = BTreeSet::new();
        let starts = ["\"efgs_", "\"process_"];
        for (at, _) in starts.iter().flat_map(|start| code.match_indices(start)) {
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

    /// The names of metrics in a text: words that begin as ours do, without what histograms add.
    fn metrics_in(text: &str) -> BTreeSet<String> {
        // With a colon, it is a recording rule.
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_' && c != ':');
        let ours = words.filter(|word| word.starts_with("efgs_") || word.starts_with("process_"));
        ours.map(|word| {
            let suffixes = ["_bucket", "_count", "_sum"];
            let base = suffixes.iter().find_map(|suffix| word.strip_suffix(suffix));
            let is_listed = METRICS.iter().any(|metric| metric.name == word);
            base.filter(|_| !is_listed).unwrap_or(word).to_owned()
        })
        .collect()
    }

    fn read(path: &str) -> String {
        fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    /// The anchor that GitHub and others make of a heading.
    fn anchor(heading: &str) -> String {
        let heading = heading.trim().to_lowercase().replace(' ', "-");
        heading.replace(|c: char| !c.is_alphanumeric() && c != '-', "")
    }

    #[test]
    fn are_what_alerts_and_dashboards_ask_for() {
        for path in [
            "deploy/prometheus/efgs.rules.yml",
            "deploy/prometheus/efgs.test.yml",
            "deploy/prometheus/efgs.long.test.yml",
            "deploy/grafana/efgs.json",
            "docs/operate/runbook.md",
        ] {
            let named = metrics_in(&read(path));
            assert!(!named.is_empty(), "{path}");
            for name in named {
                let exists = METRICS.iter().any(|metric| metric.name == name);
                assert!(exists, "{path}: there is no metric {name}");
            }
        }
    }

    #[test]
    fn alerts_each_have_a_test_and_a_section_of_the_runbook_which_has_no_others() {
        let rules = read("deploy/prometheus/efgs.rules.yml");
        let runbook = read("docs/operate/runbook.md");
        let headings = runbook.lines().filter_map(|line| line.strip_prefix("## "));
        let sections: BTreeSet<_> = headings.map(anchor).collect();
        let tests =
            read("deploy/prometheus/efgs.test.yml") + &read("deploy/prometheus/efgs.long.test.yml");
        let values = |key: &str| -> Vec<String> {
            let lines = rules
                .lines()
                .filter_map(|line| line.trim().strip_prefix(key));
            lines.map(|value| value.trim().to_owned()).collect()
        };
        let alerts = values("- alert:");
        for alert in &alerts {
            let fires = format!("alertname: {alert}\n        exp_alerts:");
            assert!(tests.contains(&fires), "no test has {alert} fire");
            assert!(
                runbook.contains(&format!("`{alert}`")),
                "the runbook lacks {alert}"
            );
        }
        let urls = values("runbook_url:");
        assert_eq!(urls.len(), alerts.len(), "an alert has no runbook_url");
        let linked = urls.iter().map(|url| {
            let anchor = url.strip_prefix("docs/operate/runbook.md#");
            anchor.unwrap_or_else(|| panic!("{url}")).to_owned()
        });
        assert_eq!(linked.collect::<BTreeSet<_>>(), sections);
    }

    #[test]
    fn alerts_pass_their_tests() {
        let installed = workspace().join("target/tools/bin/promtool");
        let program = if installed.exists() {
            fs::canonicalize(installed).unwrap()
        } else {
            "promtool".into()
        };
        let output = std::process::Command::new(program)
            .args(["test", "rules", "efgs.test.yml", "efgs.long.test.yml"])
            .current_dir(workspace().join("deploy/prometheus"))
            .output()
            .expect("promtool is installed by `make packages`");
        let said = String::from_utf8([output.stdout, output.stderr].concat()).unwrap();
        assert!(output.status.success(), "{said}");
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
