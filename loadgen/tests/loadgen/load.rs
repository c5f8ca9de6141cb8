//! Scenarios against a scripted server: what is measured and recorded.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use loadgen::client::{Protocol, Target};
use loadgen::load::{Experiment, LoadError, LoadOptions, Participants, Watch};
use loadgen::profiles::Distribution;
use loadgen::record::Record;
use loadgen::results::{Authentication, Http, Machine, Results, Run, Transport, VERSION};
use loadgen::scenario::Scenario;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpStream};

use crate::client::read_request;
use crate::support::{Key, Pki, pki};

const CREATED: &[u8] = b"HTTP/1.1 201 Created\r\nContent-Length: 0\r\n\r\n";

/// The request, counted over all connections, that is answered late, and how late.
const STALLED: usize = 20;
const STALL: Duration = Duration::from_millis(600);

/// Answers every request with 201 at once, except for one.
async fn serve(listener: TcpListener) {
    let count = Arc::new(AtomicUsize::new(0));
    loop {
        let (stream, _) = listener.accept().await.unwrap();
        tokio::spawn(answer(stream, Arc::clone(&count)));
    }
}

async fn answer(mut stream: TcpStream, count: Arc<AtomicUsize>) {
    while read_request(&mut stream).await.is_some() {
        if count.fetch_add(1, Ordering::Relaxed) == STALLED {
            tokio::time::sleep(STALL).await;
        }
        stream.write_all(CREATED).await.unwrap();
    }
}

fn description(scenario: &Scenario) -> Run {
    Run {
        version: VERSION,
        name: scenario.name.clone(),
        scenario: scenario.text.clone(),
        seed: 1,
        started: "2026-01-02T03:04:05Z".to_owned(),
        machine: Machine::here(),
        targets: Vec::new(),
        transport: Transport {
            authentication: Authentication::Proxy,
            http: Http::Http1,
        },
        database: None,
        command: Vec::new(),
        program_version: "0".to_owned(),
        commit: None,
    }
}

async fn experiment(pki: &Pki, scenario: &Scenario) -> Experiment {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    tokio::spawn(serve(listener));
    let folder = pki.folder.path();
    let participants = Participants::read(folder, 27, Distribution::Even, Protocol::Http1).unwrap();
    let options = LoadOptions {
        targets: vec![Target {
            tls: false,
            host: "127.0.0.1".to_owned(),
            port,
        }],
        timeout: Duration::from_secs(20),
        seed: 1,
        memory_bytes_max: 0,
        watch: Watch::default(),
        results: Some((folder.join("results.jsonl"), description(scenario))),
        record: Some(folder.join("record.jsonl")),
        name: scenario.name.clone(),
        text: scenario.text.clone(),
    };
    Experiment::new(participants, options).unwrap()
}

fn scenario(phase: &str, stream: &str) -> Scenario {
    let text = format!(
        "[[phases]]\nname = \"p\"\n{phase}\n[[phases.streams]]\nname = \"s\"\ndoes = \"upload\"\n{stream}"
    );
    Scenario::parse("mine", &text).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn counts_a_stall_in_the_latency_of_every_request_that_waited_for_it() {
    let pki = pki(&[("DE", Key::P256)]);
    let stream = "arrivals = \"fixed\"\nper_second = 50\nupload_keys = 10";
    let scenario = scenario("seconds = 2", stream);
    let mut experiment = experiment(&pki, &scenario).await;
    let phase = experiment.phase(&scenario.phases[0]).await.unwrap();
    assert_eq!((phase.all.due, phase.all.uploads), (100, 100));
    let latency = phase.all.upload.unwrap();
    // 30 requests became due while the connection waited for one of them: all of them waited.
    assert!(latency.corrected.p90 > 200_000, "{latency:?}");
    assert!(latency.service.p90 < 200_000, "{latency:?}");
    assert!(latency.service.max >= 600_000, "{latency:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn sends_what_becomes_due_in_the_last_moment_of_a_phase() {
    let pki = pki(&[("DE", Key::P256)]);
    // The last one is due half a millisecond before the end.
    let stream = "arrivals = \"fixed\"\nper_second = 1000\nupload_keys = 1";
    let scenario = scenario("seconds = 0.0995\nrepeat = 10", stream);
    let mut experiment = experiment(&pki, &scenario).await;
    for phase in &scenario.phases {
        let all = experiment.phase(phase).await.unwrap().all;
        assert_eq!((all.due, all.uploads, all.dropped), (100, 100, 0));
    }
    let summary = experiment.finish(None, &[]).unwrap();
    assert_eq!((summary.total.due, summary.total.dropped), (1000, 0));
    let seconds: f64 = summary.phases.iter().map(|phase| phase.all.seconds).sum();
    assert!((summary.total.seconds - seconds).abs() < 1e-9);
}

#[tokio::test(flavor = "multi_thread")]
async fn records_what_it_measured_and_what_it_sent() {
    let pki = pki(&[("DE", Key::P256), ("FR", Key::P256)]);
    let stream = "arrivals = \"closed\"\nkeys = 450\nupload_keys = 100";
    let scenario = scenario("ahead = true\nrepeat = 2", stream);
    let mut experiment = experiment(&pki, &scenario).await;
    for phase in &scenario.phases {
        experiment.phase(phase).await.unwrap();
    }
    assert!(experiment.unexpected_responses().is_empty());
    let summary = experiment.finish(None, &[]).unwrap();
    let results = Results::read(&pki.folder.path().join("results.jsonl")).unwrap();
    assert_eq!(results.run, description(&scenario));
    // Floating point numbers may come back with another last digit: only their neighbours are
    // compared.
    let read = results.summary.unwrap();
    assert_eq!(read.total.upload, summary.total.upload);
    assert_eq!(read.total.due, 10);
    assert_eq!(read.phases[1].stored_keys, 900);
    assert_eq!(
        (summary.total.uploads, summary.total.upload_keys),
        (10, 900)
    );
    let names: Vec<_> = summary.phases.iter().map(|phase| &phase.name).collect();
    assert_eq!(names, ["p-1", "p-2"]);
    let by_second: u64 = results
        .seconds
        .iter()
        .map(|second| second.all.uploads)
        .sum();
    assert_eq!(by_second, 10, "seconds add up to the total");
    assert!(
        results
            .seconds
            .is_sorted_by_key(|second| second.stored_keys)
    );
    assert!(results.seconds[0].processes.contains_key("loadgen"));
    assert!(summary.loadgen.signing_ns_per_key > 0.0);
    let record = Record::read(&pki.folder.path().join("record.jsonl")).unwrap();
    assert_eq!(record.uploads.len(), 10);
    let keys: u32 = record
        .uploads
        .iter()
        .map(|upload| upload.spec.key_count)
        .sum();
    assert_eq!(keys, 900);
}

#[tokio::test(flavor = "multi_thread")]
async fn refuses_to_prepare_uploads_beyond_the_memory_limit() {
    let pki = pki(&[("DE", Key::P256)]);
    let stream = "arrivals = \"closed\"\nkeys = 100_000_000";
    let scenario = scenario("ahead = true", stream);
    let mut experiment = experiment(&pki, &scenario).await;
    let error = experiment.phase(&scenario.phases[0]).await.unwrap_err();
    // 100 million keys of 64 bytes and 20,000 uploads of 8 KiB, in MiB.
    let expected = matches!(
        error,
        LoadError::Memory {
            needed: 6259,
            allowed: 256,
            ..
        }
    );
    assert!(expected, "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn reports_a_stream_that_needs_more_participants_than_there_are() {
    let pki = pki(&[("DE", Key::P256)]);
    let stream = "arrivals = \"closed\"\nkeys = 10\nskip = 1";
    let scenario = scenario("", stream);
    let mut experiment = experiment(&pki, &scenario).await;
    let error = experiment.phase(&scenario.phases[0]).await.unwrap_err();
    assert_eq!(
        error.to_string(),
        "p/s needs more participants than the 1 of the PKI folder: make more with `efgs init \
         --participants`"
    );
}
