//! A database that answers and stores nothing, or that does not answer at all: what a participant
//! hears and when, what `/ready` says, and what that costs in connections and log lines.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at the first failure, and prints what it measures"
)]

mod log_sink;
mod support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use engine::settings::DatabaseUrl;
use serde_json::Value;
use tempfile::TempDir;
use testkit::local::{Gateway as Process, GatewayOptions, MariaDb, initialise_for};
use testkit::poll::poll;

use log_sink::LogSink;
use support::{Gateway, RawAnswer, signed_upload};

/// Longest wait for what must come; far above what it takes.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A gateway on a private server that an operator has a hand on.
struct Scene {
    server: MariaDb,
    gateway: Gateway,
    log: LogSink,
    uploads: u64,
}

/// What a failed upload has cost.
#[derive(Debug)]
struct Cost {
    answer: RawAnswer,
    took: Duration,
    connections: u64,
    warnings: Vec<String>,
}

/// Options for one tablespace of all tables, which is full at a size.
const SMALL_DISK: [&str; 2] = [
    "--innodb-file-per-table=0",
    "--innodb-data-file-path=ibdata1:12M:autoextend:max:40M",
];
const LARGE_DISK: [&str; 2] = [
    "--innodb-file-per-table=0",
    "--innodb-data-file-path=ibdata1:12M:autoextend:max:80M",
];

impl Scene {
    /// A tablespace that can be filled, and a user who is refused like any other.
    async fn begin() -> Self {
        let log = LogSink::of_process();
        let folder = tempfile::tempdir().unwrap();
        let mut server = MariaDb::start(folder.path()).unwrap();
        server.restart_with(&SMALL_DISK).unwrap();
        server
            .run("REVOKE SUPER, READ_ONLY ADMIN ON *.* FROM efgs@127.0.0.1")
            .unwrap();
        server.create_database("efgs").unwrap();
        let database: DatabaseUrl = server.url("efgs").parse().unwrap();
        let gateway = Gateway::try_start_on(database, Arc::new(folder), |settings, _| {
            settings.upload.keys_max = 600;
            settings.bundle.keys_max = 600;
        });
        let gateway = gateway.await.unwrap();
        Self {
            server,
            gateway,
            log,
            uploads: 0,
        }
    }

    /// Uploads 600 new keys.
    async fn upload(&mut self) -> RawAnswer {
        let first = self.uploads * 1000;
        self.uploads += 1;
        let upload = signed_upload("DE", first..first + 600);
        let head = upload.head("DE", &format!("upload-{first}"));
        let mut raw = self.gateway.proxy().await;
        raw.ask(&head, &upload.body).await
    }

    /// The same, measured.
    async fn measured(&mut self) -> Cost {
        let connections = || self.server.connection_count().unwrap();
        let before = connections();
        self.log.take();
        let begun = Instant::now();
        let answer = self.upload().await;
        let took = begun.elapsed();
        let text = self.log.text();
        let is_warning = |line: &&str| line.contains("\"WARN\"") || line.contains("\"ERROR\"");
        Cost {
            answer,
            took,
            connections: self.server.connection_count().unwrap() - before,
            warnings: text.lines().filter(is_warning).map(str::to_owned).collect(),
        }
    }

    async fn ready(&self) -> (u16, Value) {
        let mut raw = self.gateway.operations().await;
        let request = "GET /ready HTTP/1.1\r\nHost: gateway\r\n\r\n";
        let answer = raw.get(request).await;
        (answer.status(), answer.json())
    }

    /// How long it takes until `/ready` has this status; its body then.
    async fn until_ready_is(&self, status: u16) -> (Duration, Value) {
        let begun = Instant::now();
        loop {
            let (found, body) = self.ready().await;
            if found == status {
                return (begun.elapsed(), body);
            }
            assert!(begun.elapsed() < TIMEOUT, "{body}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    fn run(&self, statements: &str) {
        self.server.run(statements).unwrap();
    }
}

/// A way in which a database answers and stores nothing.
struct Refusal {
    breaks: &'static str,
    heals: &'static str,
    /// What the server says then.
    says: &'static str,
}

const READ_ONLY: Refusal = Refusal {
    breaks: "SET GLOBAL read_only = 1",
    heals: "SET GLOBAL read_only = 0",
    says: "--read-only option",
};

/// A server takes packets of its buffer's size, 16 KiB, whatever this says: too small for an upload.
/// Connections that are open keep the bound that they began with.
const SMALL_PACKETS: Refusal = Refusal {
    breaks: "SET GLOBAL max_allowed_packet = 1024; KILL USER efgs",
    heals: "SET GLOBAL max_allowed_packet = 16777216; KILL USER efgs",
    says: "max_allowed_packet",
};

/// The same holds for their rights.
const NO_RIGHT: Refusal = Refusal {
    breaks: "REVOKE INSERT ON *.* FROM efgs@127.0.0.1; KILL USER efgs",
    heals: "GRANT INSERT ON *.* TO efgs@127.0.0.1",
    says: "INSERT command denied",
};

impl Scene {
    /// The upload is refused in time, and costs little.
    async fn is_refused_cheaply(&mut self, says: &str) -> Value {
        let cost = self.measured().await;
        assert_eq!(cost.answer.status(), 503, "{says}: {cost:#?}");
        assert!(cost.took < Duration::from_secs(8), "{says}: {cost:#?}");
        // Without a pause between attempts there are a thousand of either.
        assert!(cost.connections < 80, "{says}: {cost:#?}");
        assert!(cost.warnings.len() < 30, "{says}: {cost:#?}");
        assert!(cost.warnings.iter().any(|line| line.contains(says)));
        eprintln!(
            "{says}: 503 after {:?}, {} connections, {} lines",
            cost.took,
            cost.connections,
            cost.warnings.len()
        );
        cost.answer.json()
    }

    /// And in true words.
    async fn is_refused(&mut self, says: &str) {
        let body = self.is_refused_cheaply(says).await;
        assert_eq!(body["code"], "storage_refused", "{says}: {body}");
        assert!(!body.to_string().contains("reach"), "{body}");
    }

    /// The server may end the connection without a word.
    async fn small_packets_until_they_are_large_again(&mut self) {
        self.run(SMALL_PACKETS.breaks);
        self.is_refused_cheaply(SMALL_PACKETS.says).await;
        self.until_ready_is(503).await;
        self.run(SMALL_PACKETS.heals);
        self.is_well_again().await;
    }

    async fn is_not_ready(&self, says: &str) {
        let (_, body) = self.until_ready_is(503).await;
        assert_eq!(body["databaseAvailable"], true, "{body}");
        let refusal = body["databaseRefusal"].as_str().unwrap();
        assert!(refusal.contains(says), "{body}");
    }

    /// Ready without an upload that would show it, and an upload is stored.
    async fn is_well_again(&mut self) {
        self.until_ready_is(200).await;
        assert_eq!(self.upload().await.status(), 201);
    }

    async fn refuses_and_recovers(&mut self, refusal: &Refusal) {
        self.run(refusal.breaks);
        self.is_refused(refusal.says).await;
        self.is_not_ready(refusal.says).await;
        self.is_refused(refusal.says).await;
        self.run(refusal.heals);
        self.is_well_again().await;
    }

    /// Fills the tablespace to its last page.
    fn fill_the_disk(&self) {
        self.run("CREATE DATABASE filler; CREATE TABLE filler.filler (bytes LONGBLOB)");
        let mut bytes = 4 << 20;
        while bytes > 8000 {
            let fill = format!("INSERT INTO filler.filler VALUES (REPEAT('x', {bytes}))");
            if self.server.run(&fill).is_err() {
                bytes /= 2;
            }
        }
    }

    async fn disk_is_full_until_it_grows(&mut self) {
        self.fill_the_disk();
        // Pages that were begun before still take some.
        while self.upload().await.status() == 201 {}
        self.is_refused("is full").await;
        self.is_not_ready("is full").await;
        self.server.restart_with(&LARGE_DISK).unwrap();
        self.is_well_again().await;
    }

    /// Whether an upload finds out, or nobody asks.
    async fn frozen_until_it_goes_on(&mut self) {
        let frozen = self.server.freeze().unwrap();
        let (took, body) = self.until_ready_is(503).await;
        assert!(took < Duration::from_secs(3), "{took:?}");
        assert_eq!(body["databaseAvailable"], false, "{body}");
        eprintln!("frozen: not ready after {took:?}");
        drop(frozen);
        self.is_well_again().await;

        let frozen = self.server.freeze().unwrap();
        let begun = Instant::now();
        let answer = self.upload().await;
        let took = begun.elapsed();
        assert_eq!(answer.status(), 503, "{answer:?}");
        assert!(took < Duration::from_millis(8500), "{took:?}");
        eprintln!("frozen: 503 after {took:?}, {}", answer.json()["code"]);
        drop(frozen);
        self.is_well_again().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_database_that_stores_nothing_is_not_ready_refuses_in_time_and_is_asked_now_and_then() {
    let mut scene = Scene::begin().await;
    assert_eq!(scene.upload().await.status(), 201);
    scene.refuses_and_recovers(&READ_ONLY).await;
    scene.small_packets_until_they_are_large_again().await;
    // No upload has shown it.
    scene.run(NO_RIGHT.breaks);
    scene.is_not_ready(NO_RIGHT.says).await;
    scene.is_refused(NO_RIGHT.says).await;
    scene.run(NO_RIGHT.heals);
    scene.is_well_again().await;
    scene.frozen_until_it_goes_on().await;
    scene.disk_is_full_until_it_grows().await;
}

/// Status and body of `/ready` of a gateway as a process.
fn ready(operations: SocketAddr) -> (u16, String) {
    let mut stream = TcpStream::connect(operations).unwrap();
    let request = b"GET /ready HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
    stream.write_all(request).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    (answer[9..12].parse().unwrap(), answer)
}

/// `efgs`, with a write beyond a bound on the size of files that fails instead of ending the process.
fn ignoring_sigxfsz(folder: &TempDir) -> GatewayOptions {
    let program = folder.path().join("efgs.sh");
    let efgs = env!("CARGO_BIN_EXE_efgs");
    fs::write(
        &program,
        format!("#!/bin/sh\ntrap '' XFSZ\nexec '{efgs}' \"$@\"\n"),
    )
    .unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    let home = folder.path().join("efgs");
    initialise_for(&program, &home, None, &["DE"]).unwrap();
    GatewayOptions::new(&program, &home)
}

#[test]
fn a_full_disk_under_sqlite_is_noticed_without_an_upload() {
    let folder = tempfile::tempdir().unwrap();
    let options = ignoring_sigxfsz(&folder);
    let log = options.folder.join("efgs.sqlite-wal");
    let gateway = Process::start(options).unwrap();
    assert_eq!(ready(gateway.operations()).0, 200);
    // The log of SQLite cannot grow.
    let bytes = fs::metadata(log).unwrap().len();
    gateway.limit_file_bytes(Some(bytes)).unwrap();
    let refused = poll(TIMEOUT, || {
        let (status, answer) = ready(gateway.operations());
        (status == 503).then_some(answer)
    });
    let answer = refused.expect("it is not ready");
    assert!(answer.contains(r#""databaseRefusal":""#), "{answer}");
    assert!(answer.contains(r#""databaseAvailable":true"#), "{answer}");
    gateway.limit_file_bytes(None).unwrap();
    let is_ready = || (ready(gateway.operations()).0 == 200).then_some(());
    poll(TIMEOUT, is_ready).expect("it is ready again");
}
