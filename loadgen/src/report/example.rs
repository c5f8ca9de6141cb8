//! A hand-made run, whose figures can be worked out by hand; and a check of pages.

use std::collections::BTreeMap;

use crate::results::{
    Authentication, Counts, Figures, Http, Latency, LatencySummary, Machine, OwnCost, PhaseSummary,
    ProcessSample, Results, Run, Second, StageSample, Summary, Transport, VERSION,
};

/// Four seconds of 250,000 keys in 50 uploads each, then two seconds in which 500 MB are
/// downloaded each. Of the 200 uploads 190 took 10 ms, and 10 took 250 ms. The gateway used 0.3 s
/// of CPU time in every second, the database 0.2 s while keys came in. The disk grew by
/// 20 MB with every 250,000 keys, the writer took 0.1 s for them in 25 commits.
pub(crate) fn results(name: &str) -> Results {
    let seconds: Vec<_> = (1..=6u32).map(second).collect();
    Results {
        run: run(name),
        seconds,
        summary: Some(summary()),
    }
}

fn run(name: &str) -> Run {
    Run {
        version: VERSION,
        name: name.to_owned(),
        scenario: "name = \"by hand\" # <&>\n".to_owned(),
        seed: 7,
        started: "2026-01-02T03:04:05Z".to_owned(),
        machine: Machine {
            cpu_model: "Abacus <2> & Sons".to_owned(),
            cpus: 2,
            memory_bytes: 8 << 30,
            kernel: "6.1".to_owned(),
        },
        targets: vec!["https://127.0.0.1:8443".to_owned()],
        transport: Transport {
            authentication: Authentication::Mtls,
            http: Http::Http1,
        },
        database: Some("MariaDB 10.11".to_owned()),
        command: vec![
            "loadgen".to_owned(),
            "run".to_owned(),
            "--x=\"1\"".to_owned(),
        ],
        program_version: "0.1.0".to_owned(),
        commit: Some("abc1234".to_owned()),
    }
}

fn latency(fast: u32, slow: u32) -> Latency {
    let mut latency = Latency::default();
    (0..fast).for_each(|_| latency.record(10_000));
    (0..slow).for_each(|_| latency.record(250_000));
    latency
}

fn second(number: u32) -> Second {
    let uploading = number <= 4;
    // 47, 48, 47, 48 fast ones: 190.
    let slow = if number % 2 == 1 { 3 } else { 2 };
    let all = match uploading {
        true => Counts {
            due: 50,
            uploads: 50,
            upload_keys: 250_000,
            bytes_sent: 15_000_000,
            upload_latency: Some(latency(50 - slow, slow)),
            ..Counts::default()
        },
        false => Counts {
            due: 100,
            downloads: 100,
            download_keys: 500_000,
            bytes_received: 500_000_000,
            download_latency: Some(latency(100, 0)),
            ..Counts::default()
        },
    };
    let stored = number.min(4);
    let at = f64::from(number);
    let process = |per_second: f64, seconds: u32, mebibytes: u64| ProcessSample {
        cpu_seconds: 1.0 + per_second * f64::from(seconds),
        rss_bytes: mebibytes << 20,
    };
    let stage = |per_second: f64| StageSample {
        seconds_total: per_second * f64::from(stored),
        count: u64::from(25 * stored),
    };
    Second {
        at,
        phase: if uploading { "in" } else { "out" }.to_owned(),
        all,
        stored_keys: u64::from(stored) * 250_000,
        disk_bytes: Some(100_000_000 + u64::from(stored) * 20_000_000),
        processes: BTreeMap::from([
            ("gateway".to_owned(), process(0.3, number, 200)),
            ("database".to_owned(), process(0.2, stored, 300)),
            ("loadgen".to_owned(), process(0.5, number, 400)),
        ]),
        stages: BTreeMap::from([
            ("commit".to_owned(), stage(0.1)),
            ("verify".to_owned(), stage(0.05)),
            ("request upload".to_owned(), stage(2.0)),
        ]),
        ..Second::default()
    }
}

fn summary() -> Summary {
    let upload = LatencySummary {
        corrected: latency(190, 10).percentiles(),
        service: latency(200, 0).percentiles(),
    };
    let uploads = Figures {
        seconds: 4.0,
        due: 200,
        uploads: 200,
        upload_keys: 1_000_000,
        upload_keys_per_second: 250_000.0,
        bytes_sent: 60_000_000,
        upload: Some(upload),
        ..Figures::default()
    };
    let downloads = Figures {
        seconds: 2.0,
        due: 200,
        downloads: 200,
        download_keys: 1_000_000,
        download_keys_per_second: 500_000.0,
        bytes_received: 1_000_000_000,
        ..Figures::default()
    };
    let total = Figures {
        seconds: 6.0,
        due: 400,
        downloads: 200,
        download_keys: 1_000_000,
        bytes_received: 1_000_000_000,
        refused: BTreeMap::from([(503, 3)]),
        ..uploads
    };
    let used = |gateway: f64, database: f64, loadgen: f64| {
        BTreeMap::from([
            ("gateway".to_owned(), gateway),
            ("database".to_owned(), database),
            ("loadgen".to_owned(), loadgen),
        ])
    };
    let phase = |name: &str, all: Figures, cpu_seconds| PhaseSummary {
        name: name.to_owned(),
        all,
        cpu_seconds,
        stored_keys: 1_000_000,
        ..PhaseSummary::default()
    };
    Summary {
        total,
        phases: vec![
            phase("in", uploads, used(1.2, 0.8, 2.0)),
            phase("out", downloads, used(0.6, 0.0, 1.0)),
        ],
        cpu_seconds: used(1.8, 0.8, 3.0),
        rss_bytes_max: BTreeMap::from([("gateway".to_owned(), 200 << 20)]),
        loadgen: OwnCost {
            signing_ns_per_key: 900.0,
            sending_ns_per_key: 400.0,
            ahead_seconds: 1.0,
        },
        ..Summary::default()
    }
}

/// Refuses a page that is not well-formed or not self-contained.
#[track_caller]
pub(crate) fn assert_page(html: &str) {
    let body = html
        .strip_prefix("<!DOCTYPE html>\n")
        .expect("it says what it is");
    let mut open = Vec::new();
    let mut rest = body;
    while let Some(begin) = rest.find('<') {
        assert_text(&rest[..begin]);
        let length = rest[begin..].find('>').expect("every tag ends");
        let tag = &rest[begin + 1..begin + length];
        rest = &rest[begin + length + 1..];
        assert!(!tag.contains('<'), "a tag in a tag: {tag}");
        assert_eq!(tag.matches('"').count() % 2, 0, "a quote is open: {tag}");
        let name = tag.split_ascii_whitespace().next().unwrap_or("");
        match name.strip_prefix('/') {
            Some(closed) => assert_eq!(open.pop(), Some(closed), "closes what is open"),
            None if tag.ends_with('/') => {}
            None if name == "style" => {
                let end = rest.find("</style>").expect("the style ends");
                rest = &rest[end + "</style>".len()..];
            }
            None => open.push(name),
        }
    }
    assert_eq!(open, [""; 0], "everything is closed");
    let alone = html.replace("https://127.0.0.1", "");
    for outside in [
        "http:", "https:", "//", "<script", "src=", "href=", "@import", "url(",
    ] {
        assert!(!alone.contains(outside), "needs {outside}");
    }
    assert!(html.contains("prefers-color-scheme: dark") && html.contains("@media print"));
}

#[track_caller]
fn assert_text(text: &str) {
    for after in text.split('&').skip(1) {
        let known = ["amp;", "lt;", "gt;", "quot;", "apos;", "#"];
        assert!(
            known.iter().any(|entity| after.starts_with(entity)),
            "a bare & in {text}"
        );
    }
    assert!(!text.contains('>'), "a bare > in {text}");
}
