//! Reports and plans on paper: what a browser makes of them on a sheet of A4.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use loadgen::results::{
    Authentication, Figures, Http, Latency, LatencySummary, Machine, PhaseSummary, ResultsWriter,
    Run, Summary, Transport, VERSION,
};

/// Between the margins of a sheet of A4, in CSS pixels: 182 mm at 96 per inch.
const SHEET_WIDTH: u32 = 687;

/// Measures every table of the page and writes what does not fit where the test can read it.
const MEASURE: &str = "<script>
const faults = [];
for (const table of document.querySelectorAll('table')) {
  const over = table.getBoundingClientRect().right - document.body.getBoundingClientRect().right;
  if (over > 0.5) faults.push('too wide by ' + over + ': ' + table.textContent.slice(0, 60));
  for (const cell of table.querySelectorAll('tr > :first-child')) {
    const text = cell.firstChild;
    if (!text) continue;
    for (const word of text.data.matchAll(/\\S+/g)) {
      const range = document.createRange();
      range.setStart(text, word.index);
      range.setEnd(text, word.index + word[0].length);
      if (range.getClientRects().length > 1) faults.push('broken: ' + word[0]);
    }
  }
}
document.title = 'measured ' + document.querySelectorAll('table').length + ' tables:' + faults.join('; ');
</script></body>";

/// The title of the page after measuring it as a print.
fn measured(folder: &Path, page: &str) -> String {
    let html = std::fs::read_to_string(folder.join(page)).unwrap();
    assert!(html.contains("@media print"), "{page}");
    // A screen as wide as the sheet, with the rules of a print.
    let html = html
        .replace("@media print", "@media all")
        .replace(
            "<html ",
            &format!("<html style=\"width: {SHEET_WIDTH}px\" "),
        )
        .replace("</body>", MEASURE);
    std::fs::write(folder.join("measured.html"), html).unwrap();
    let output = Command::new("chromium")
        .args([
            "--headless=new",
            "--no-sandbox",
            "--disable-gpu",
            "--disable-dev-shm-usage",
        ])
        .args([
            "--disable-breakpad",
            "--no-first-run",
            "--disable-background-networking",
        ])
        .args(["--window-size=1200,1000", "--dump-dom"])
        .arg(format!(
            "--user-data-dir={}",
            folder.join("chromium").display()
        ))
        .arg(format!("file://{}", folder.join("measured.html").display()))
        .output()
        .expect("chromium is not installed: `make packages`, or the package chromium");
    let dom = String::from_utf8_lossy(&output.stdout).into_owned();
    let title = dom
        .split_once("<title>")
        .and_then(|(_, rest)| rest.split_once("</title>"));
    title.map(|(title, _)| title.to_owned()).unwrap_or(dom)
}

#[track_caller]
fn check_fits(folder: &Path, page: &str) {
    let title = measured(folder, page);
    let (tables, faults) = title.split_once(':').unwrap();
    assert!(
        tables.starts_with("measured ") && tables != "measured 0 tables",
        "{title}"
    );
    assert_eq!(faults, "", "{page}");
}

fn loadgen(folder: &Path, arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_loadgen"));
    let output = command
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {errors}");
}

/// Results with everything that the table of phases has a column for.
fn write_results(path: &Path) {
    let run = Run {
        version: VERSION,
        name: "growth".to_owned(),
        scenario: String::new(),
        seed: 1,
        started: "2026-01-02T03:04:05Z".to_owned(),
        machine: Machine::here(),
        targets: vec!["https://127.0.0.1:8443".to_owned()],
        transport: Transport {
            authentication: Authentication::Mtls,
            http: Http::Http1,
        },
        database: Some("MariaDB".to_owned()),
        command: vec!["loadgen".to_owned(), "x".repeat(300)],
        program_version: "0".to_owned(),
        commit: None,
    };
    let mut latency = Latency::default();
    latency.record(1_234_567);
    let percentiles = latency.percentiles();
    let latency = Some(LatencySummary {
        corrected: percentiles,
        service: percentiles,
    });
    let all = Figures {
        seconds: 123.4,
        due: 123_456,
        uploads: 123_456,
        upload_keys: 123_456_789,
        upload_keys_per_second: 1_234_567.0,
        download_keys_per_second: 12_345_678.0,
        upload: latency,
        download: latency,
        ..Figures::default()
    };
    let cpu = |name: &str| (name.to_owned(), 123.4);
    let phase = |number: u32| PhaseSummary {
        name: format!("{number}-million-stored"),
        offered_uploads_per_second: Some(1234.5),
        offered_keys_per_second: Some(1_234_567.0),
        all: all.clone(),
        cpu_seconds: BTreeMap::from([cpu("gateway"), cpu("database"), cpu("loadgen")]),
        stored_keys: 123_456_789,
        restart_seconds: Some(12.34),
        ..PhaseSummary::default()
    };
    let summary = Summary {
        total: all.clone(),
        phases: (1..=10).map(phase).collect(),
        cpu_seconds: BTreeMap::from([cpu("gateway"), cpu("database"), cpu("loadgen")]),
        ..Summary::default()
    };
    let writer = ResultsWriter::create(path, &run).unwrap();
    writer.finish(&summary).unwrap();
}

#[test]
fn keeps_all_columns_and_whole_words_on_a_sheet_of_paper() {
    let folder = tempfile::tempdir().unwrap();
    let names: Vec<_> = (1..=12)
        .map(|number| format!("run-{number}.jsonl"))
        .collect();
    for name in &names {
        write_results(&folder.path().join(name));
    }
    loadgen(
        folder.path(),
        &["report", "run-1.jsonl", "--out", "one.html"],
    );
    check_fits(folder.path(), "one.html");
    let many = names.iter().map(String::as_str);
    let arguments: Vec<_> = ["report", "--out", "many.html"]
        .into_iter()
        .chain(many)
        .collect();
    loadgen(folder.path(), &arguments);
    check_fits(folder.path(), "many.html");
    loadgen(folder.path(), &["plan", "--html", "plan.html"]);
    check_fits(folder.path(), "plan.html");
}
