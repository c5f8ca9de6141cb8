//! Tables of a report: figures in rows, runs in columns.

use super::chart::Bar;
use super::named::{Named, PROCESSES};
use super::page::{Page, Table};
use crate::quantity::{bytes, digits, memory, scaled, seconds};
use crate::results::{Authentication, Figures, Http, Percentiles, Summary};

/// In place of a figure that a run or a phase does not have.
const ABSENT: &str = "–";

/// The summary of each run.
pub(super) fn totals(page: &mut Page, runs: &[Named]) {
    page.section("Totals");
    let cut_off: Vec<_> = runs
        .iter()
        .filter(|run| run.results.summary.is_none())
        .map(|run| run.label.as_str())
        .collect();
    if !cut_off.is_empty() {
        page.text(&format!(
            "Cut off before its end, so that it has no totals: {}.",
            cut_off.join(", ")
        ));
    }
    let mut rows = Rows::new(runs);
    rows.total("time", |all| Some(seconds(all.seconds)));
    rows.total("uploads stored", |all| Some(scaled(float(all.uploads))));
    rows.total("keys stored", |all| Some(scaled(float(all.upload_keys))));
    rows.total("keys stored per second", |all| {
        some(all.upload_keys_per_second)
    });
    rows.total("downloads", |all| Some(scaled(float(all.downloads))));
    rows.total("keys delivered", |all| {
        Some(scaled(float(all.download_keys)))
    });
    rows.total("keys delivered per second", |all| {
        some(all.download_keys_per_second)
    });
    rows.total("bytes sent", |all| Some(bytes(float(all.bytes_sent))));
    rows.total("bytes received", |all| {
        Some(bytes(float(all.bytes_received)))
    });
    rows.total("other answers", |all| Some(refused(all)));
    rows.total("without an answer", |all| Some(all.failed.to_string()));
    rows.total("not as expected", |all| Some(all.unexpected.to_string()));
    rows.total("never sent", |all| Some(all.dropped.to_string()));
    rows.total("due and not sent, at most", |all| {
        Some(all.behind_max.to_string())
    });
    latencies(&mut rows);
    for process in PROCESSES {
        rows.row(&format!("{process}, processor time"), |all| {
            all.cpu_seconds.get(process).map(|used| seconds(*used))
        });
        rows.row(&format!("{process}, resident set at most"), |all| {
            all.rss_bytes_max
                .get(process)
                .map(|most| memory(float(*most)))
        });
    }
    rows.row("load generator, making, per key", |all| {
        nanos(all.loadgen.signing_ns_per_key)
    });
    rows.row("load generator, sending, per key", |all| {
        nanos(all.loadgen.sending_ns_per_key)
    });
    rows.row("highest rate within the objective", |all| {
        let limit = all.limit.as_ref()?;
        Some(format!(
            "{} keys/s ({})",
            scaled(limit.keys_per_second),
            limit.objective
        ))
    });
    page.table(&rows.table);
}

fn latencies(rows: &mut Rows<'_>) {
    type Of = fn(&Percentiles) -> u64;
    let quantiles: [(&str, Of); 5] = [
        ("p50", |all| all.p50),
        ("p90", |all| all.p90),
        ("p99", |all| all.p99),
        ("p99.9", |all| all.p999),
        ("max", |all| all.max),
    ];
    for (name, of) in quantiles {
        rows.total(&format!("upload, {name}"), |all| {
            all.upload.map(|latency| micros(of(&latency.corrected)))
        });
    }
    rows.total("upload, p99 from sending", |all| {
        all.upload.map(|one| micros(one.service.p99))
    });
    for (name, of) in quantiles {
        rows.total(&format!("download, {name}"), |all| {
            all.download.map(|latency| micros(of(&latency.corrected)))
        });
    }
    rows.total("download, p99 from sending", |all| {
        all.download.map(|one| micros(one.service.p99))
    });
}

/// Rows of figures, one column per run. Rows that no run has are left out.
struct Rows<'a> {
    runs: &'a [Named],
    table: Table,
}

impl<'a> Rows<'a> {
    fn new(runs: &'a [Named]) -> Self {
        let labels = runs.iter().map(|run| run.label.as_str());
        let head: Vec<_> = std::iter::once("").chain(labels).collect();
        Self {
            runs,
            table: Table::new(&head, &[]),
        }
    }

    fn row(&mut self, name: &str, of: impl Fn(&Summary) -> Option<String>) {
        let cell = |run: &Named| run.results.summary.as_ref().and_then(&of);
        let cells: Vec<_> = self.runs.iter().map(cell).collect();
        if cells.iter().any(Option::is_some) {
            let cells = cells
                .into_iter()
                .map(|cell| cell.unwrap_or_else(|| ABSENT.to_owned()));
            self.table
                .row(std::iter::once(name.to_owned()).chain(cells));
        }
    }

    fn total(&mut self, name: &str, of: impl Fn(&Figures) -> Option<String>) {
        self.row(name, |summary| of(&summary.total));
    }
}

/// The summary of each phase, if a run has several.
pub(super) fn phases(page: &mut Page, runs: &[Named]) {
    let several = |run: &&Named| {
        run.results
            .summary
            .as_ref()
            .is_some_and(|all| all.phases.len() > 1)
    };
    if !runs.iter().any(|run| several(&run)) {
        return;
    }
    page.section("Phases");
    let head = [
        "phase",
        "time",
        "offered keys/s",
        "stored keys/s",
        "delivered keys/s",
        "upload p50",
        "upload p99",
        "download p99",
        "gateway CPU",
        "database CPU",
        "keys stored so far",
        "restart",
    ];
    for run in runs.iter().filter(several) {
        page.subsection(&run.label);
        let mut table = Table::new(&head, &[]);
        for phase in run.results.summary.iter().flat_map(|all| &all.phases) {
            let all = &phase.all;
            let cpu = |name: &str| phase.cpu_seconds.get(name).map(|used| seconds(*used));
            let cells = [
                Some(phase.name.clone()),
                Some(seconds(all.seconds)),
                phase.offered_keys_per_second.map(scaled),
                some(all.upload_keys_per_second),
                some(all.download_keys_per_second),
                all.upload.map(|one| micros(one.corrected.p50)),
                all.upload.map(|one| micros(one.corrected.p99)),
                all.download.map(|one| micros(one.corrected.p99)),
                cpu("gateway"),
                cpu("database"),
                Some(scaled(float(phase.stored_keys))),
                phase.restart_seconds.map(seconds),
            ];
            table.row(cells.map(|cell| cell.unwrap_or_else(|| ABSENT.to_owned())));
        }
        page.table(&table.without_empty_columns(ABSENT));
    }
}

/// Nanoseconds per key, stage by stage.
pub(super) fn stages(page: &mut Page, runs: &[Named], names: &[String], bars: &[Bar]) {
    let labels = runs.iter().map(|run| run.label.as_str());
    let head: Vec<_> = std::iter::once("stage, ns per stored key")
        .chain(labels)
        .collect();
    let mut table = Table::new(&head, &[]);
    for (index, name) in names.iter().enumerate() {
        let cells = bars.iter().map(|bar| digits(bar.parts[index]));
        table.row(std::iter::once(name.clone()).chain(cells));
    }
    page.table(&table);
}

/// The machine of each run, and how to repeat it.
pub(super) fn origins(page: &mut Page, runs: &[Named]) {
    page.section("Where the figures come from");
    for Named {
        label,
        file,
        results,
    } in runs
    {
        let run = &results.run;
        page.subsection(label);
        let mut table = Table::new::<&str>(&[], &[1]);
        let machine = &run.machine;
        let mut row = |name: &str, value: String| table.row([name.to_owned(), value]);
        row("results", file.clone());
        row("started", run.started.clone());
        row("command", run.command.join(" "));
        row(
            "machine",
            format!(
                "{} x {}, {}, Linux {}",
                machine.cpus,
                machine.cpu_model,
                memory(float(machine.memory_bytes)),
                machine.kernel
            ),
        );
        row(
            "database",
            run.database
                .clone()
                .unwrap_or_else(|| "not known".to_owned()),
        );
        row("gateways", run.targets.join(", "));
        let authentication = match run.transport.authentication {
            Authentication::Mtls => "mutual TLS",
            Authentication::Proxy => "identity headers of a proxy",
        };
        let http = match run.transport.http {
            Http::Http1 => "HTTP/1.1",
            Http::Http2 => "HTTP/2",
        };
        row("transport", format!("{authentication}, {http}"));
        let commit = run.commit.clone().unwrap_or_else(|| "not known".to_owned());
        row(
            "loadgen",
            format!("version {}, commit {commit}", run.program_version),
        );
        row("seed", run.seed.to_string());
        page.table(&table);
        if !run.scenario.is_empty() {
            page.preformatted(&run.scenario);
        }
    }
}

fn refused(all: &Figures) -> String {
    if all.refused.is_empty() {
        return "none".to_owned();
    }
    let each = all
        .refused
        .iter()
        .map(|(status, count)| format!("{count} x {status}"));
    each.collect::<Vec<_>>().join(", ")
}

fn some(rate: f64) -> Option<String> {
    (rate > 0.0).then(|| scaled(rate))
}

fn nanos(cost: f64) -> Option<String> {
    (cost > 0.0).then(|| format!("{} ns", digits(cost)))
}

fn micros(micros: u64) -> String {
    seconds(float(micros) / 1e6)
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people to read")]
const fn float(count: u64) -> f64 {
    count as f64
}
