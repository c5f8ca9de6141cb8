use std::collections::BTreeMap;
use std::path::Path;

use super::file::Line;
use super::*;

fn run() -> Run {
    Run {
        version: VERSION,
        name: "steady".to_owned(),
        scenario: "name = \"steady\"\n".to_owned(),
        seed: u64::MAX,
        started: "2026-01-02T03:04:05Z".to_owned(),
        machine: Machine::here(),
        targets: vec!["https://127.0.0.1:8443".to_owned()],
        transport: Transport {
            authentication: Authentication::Mtls,
            http: Http::Http1,
        },
        database: Some("MariaDB".to_owned()),
        command: vec!["loadgen".to_owned(), "run".to_owned()],
        program_version: "0.1.0".to_owned(),
        commit: None,
    }
}

fn latency(micros: &[u64]) -> Latency {
    let mut latency = Latency::default();
    for &micros in micros {
        latency.record(micros);
    }
    latency
}

fn second() -> Second {
    let counts = Counts {
        due: 4,
        uploads: 2,
        upload_keys: 10_000,
        bytes_sent: 600_000,
        refused: BTreeMap::from([(503, 1)]),
        failed: 1,
        unexpected: 2,
        upload_latency: Some(latency(&[1500, 250_000])),
        upload_service: Some(latency(&[1500, 2000])),
        ..Counts::default()
    };
    let process = ProcessSample {
        cpu_seconds: 0.25,
        rss_bytes: 1 << 20,
    };
    let stage = StageSample {
        seconds_total: 0.125,
        count: 2,
    };
    Second {
        at: 1.0,
        phase: "steady".to_owned(),
        all: counts.clone(),
        streams: BTreeMap::from([("others".to_owned(), counts)]),
        behind: 3,
        stored_keys: 10_000,
        disk_bytes: Some(4096),
        processes: BTreeMap::from([("gateway".to_owned(), process)]),
        stages: BTreeMap::from([("commit".to_owned(), stage)]),
    }
}

fn summary() -> Summary {
    let figures = Figures {
        seconds: 1.0,
        uploads: 2,
        upload: Some(LatencySummary {
            corrected: latency(&[1500, 250_000]).percentiles(),
            service: latency(&[1500, 2000]).percentiles(),
        }),
        ..Figures::default()
    };
    let phase = PhaseSummary {
        name: "steady".to_owned(),
        all: figures.clone(),
        ..PhaseSummary::default()
    };
    Summary {
        total: figures,
        phases: vec![phase],
        limit: Some(Limit {
            objective: "p99=250ms".to_owned(),
            uploads_per_second: 100.0,
            keys_per_second: 500_000.0,
            broke_at_uploads_per_second: None,
            reason: None,
        }),
        ..Summary::default()
    }
}

fn write(path: &Path) {
    let mut writer = ResultsWriter::create(path, &run()).unwrap();
    writer.second(&second()).unwrap();
    writer.second(&Second::default()).unwrap();
    writer.finish(&summary()).unwrap();
}

fn refusal(text: &str) -> String {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.jsonl");
    std::fs::write(&path, text).unwrap();
    let error = Results::read(&path).unwrap_err().to_string();
    error.split_once("results.jsonl, ").unwrap().1.to_owned()
}

#[test]
fn reads_back_what_it_wrote() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.jsonl");
    write(&path);
    let results = Results::read(&path).unwrap();
    assert_eq!(results.run, run());
    assert_eq!(results.seconds, [second(), Second::default()]);
    assert_eq!(results.summary, Some(summary()));
}

#[test]
fn keeps_what_a_run_saw_before_it_was_cut_off() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("results.jsonl");
    let mut writer = ResultsWriter::create(&path, &run()).unwrap();
    writer.second(&second()).unwrap();
    let results = Results::read(&path).unwrap();
    assert_eq!((results.seconds.len(), results.summary), (1, None));
}

#[test]
fn refuses_what_it_does_not_know() {
    let run = serde_json::to_string(&Line::Run(Box::new(run()))).unwrap();
    let second = serde_json::to_string(&Line::Second(Box::default())).unwrap();
    let summary = serde_json::to_string(&Line::Summary(Box::default())).unwrap();
    for (text, expected) in [
        (String::new(), "line 1: the file is empty"),
        (second.clone(), "line 1: the first line is no run"),
        (format!("{run}\n{run}\n"), "line 2: a second run begins"),
        (
            format!("{run}\n{summary}\n{second}\n"),
            "line 3: something follows the summary",
        ),
        (
            run.replace("\"version\":1", "\"version\":2"),
            "line 1: another version of the format",
        ),
        (
            run.replace("\"seed\"", "\"sead\""),
            "line 1: unknown field `sead`",
        ),
        (
            format!("{run}\n{}", second.replace("\"uploads\"", "\"upload\"")),
            "line 2: unknown field `upload`",
        ),
        (
            format!("{run}\n{{\"kind\":\"minute\"}}"),
            "line 2: unknown variant `minute`",
        ),
    ] {
        let said = refusal(&text);
        assert!(said.starts_with(expected), "{said}");
    }
}

#[test]
fn reads_the_histograms_of_the_v2_encoding() {
    // The cookie of V2 and three significant digits, as HdrHistogram's format defines them.
    let text = serde_json::to_string(&latency(&[1500, 250_000])).unwrap();
    assert!(text.starts_with("\"HISTEw"), "{text}");
    let read: Latency = serde_json::from_str(&text).unwrap();
    assert_eq!(read, latency(&[1500, 250_000]));
    assert_eq!(read.percentiles().count, 2);
    assert!((249_800..=250_200).contains(&read.percentiles().p99));
    let broken = serde_json::from_str::<Latency>("\"HISTEw==\"").unwrap_err();
    assert!(broken.to_string().contains("HdrHistogram"));
}

#[test]
fn counts_what_another_one_counted() {
    let mut sum = latency(&[10]);
    sum.add(&latency(&[20, 30]));
    assert_eq!((sum.count(), sum.micros_at(0.5)), (3, 20));
    assert!(Latency::default().is_empty());
}

#[test]
fn heads_a_phase_with_what_was_stored_in_it_and_not_before() {
    let phase = |upload_keys, stored_keys| PhaseSummary {
        name: "steady".to_owned(),
        all: Figures {
            seconds: 60.0,
            upload_keys,
            ..Figures::default()
        },
        stored_keys,
        ..PhaseSummary::default()
    };
    let heading = |phase: PhaseSummary| phase.to_string().lines().next().unwrap().to_owned();
    assert_eq!(heading(phase(500, 500)), "steady: 60.0 s, 500 keys stored");
    assert_eq!(
        heading(phase(500, 1700)),
        "steady: 60.0 s, 500 keys stored (1700 by the run so far)"
    );
}

/// Programs of operators read these names: a change of them is a new version.
#[test]
fn exports_figures_with_their_units() {
    let (run, mut summary) = (run(), summary());
    summary.phases[0].all.refused = BTreeMap::from([(503, 2)]);
    summary.objectives = vec![ObjectiveOutcome {
        objective: "upload_p99=2s".to_owned(),
        measure: "upload_p99_seconds".to_owned(),
        limit: 2.0,
        measured: Some(0.25),
        ok: true,
        omitted_share: None,
    }];
    let export = Export::new(&run, &summary, Some(true), "Met.".to_owned());
    let shown = serde_json::to_value(&export).unwrap();
    assert_eq!(shown["version"], EXPORT_VERSION);
    assert_eq!(
        (&shown["met"], &shown["verdict"]),
        (&true.into(), &"Met.".into())
    );
    assert_eq!(shown["objectives"][0]["ok"], true);
    assert_eq!(shown["objectives"][0]["measured"], 0.25);
    let total = shown["total"].as_object().unwrap();
    let names: Vec<_> = total.keys().map(String::as_str).collect();
    let mut expected = [
        "seconds",
        "requests_due",
        "requests_never_sent",
        "requests_unanswered",
        "requests_unexpected",
        "errors_share",
        "uploads_stored",
        "uploads_stored_per_second",
        "keys_stored",
        "keys_stored_per_second",
        "batches_delivered",
        "keys_delivered",
        "keys_delivered_per_second",
        "bytes_sent",
        "bytes_received",
        "refused_by_status",
        "upload",
        "download",
    ];
    expected.sort_unstable();
    let mut found = names.clone();
    found.sort_unstable();
    assert_eq!(found, expected);
    assert_eq!(total["uploads_stored"], 2);
    let p50 = &total["upload"]["latency_seconds"]["p50"];
    assert!((p50.as_f64().unwrap() - 0.0015).abs() < 1e-5, "{p50}");
    let phase = &shown["phases"][0];
    assert_eq!(phase["name"], "steady");
    assert_eq!(phase["refused_by_status"]["503"], 2);
}
