//! The log of the real binary: through a pipe that is not read, and its flush at the end.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod cli_support;

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::process::Stdio;
use std::time::{Duration, Instant};

use cli_support::{Gateway, Installation, openssl};
use testkit::poll::poll;

/// An unauthenticated request: it is refused, and logged in one line.
const REFUSED: &str = "GET /diagnosiskeys/download/2020-10-06 HTTP/1.1\r\nHost: gateway\r\n\r\n";
const EVENT: &str = "No thumbprint or distinguish name";

/// Sends requests and reads that many responses.
fn ask(address: SocketAddr, request: &str, count: usize) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    let mut answers = String::new();
    let mut sent = 0;
    while sent < count {
        let some = (count - sent).min(100);
        stream.write_all(request.repeat(some).as_bytes()).unwrap();
        sent += some;
        while answers.matches("HTTP/1.1 ").count() < sent {
            let mut bytes = [0; 64 << 10];
            let read = stream.read(&mut bytes).expect("an answer");
            assert!(read > 0, "closed before an answer");
            answers.push_str(str::from_utf8(&bytes[..read]).unwrap());
        }
    }
    answers
}

fn get(address: SocketAddr, path: &str) -> String {
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    let mut stream = TcpStream::connect(address).unwrap();
    stream
        .set_read_timeout(Some(Duration::from_secs(20)))
        .unwrap();
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

fn dropped_lines(metrics: &str) -> u64 {
    let name = "efgs_log_lines_dropped_total ";
    let mut lines = metrics.lines();
    let line = lines.find_map(|line| line.strip_prefix(name));
    line.expect(metrics).parse().unwrap()
}

/// A request of DE's: at DEBUG it causes a line, and those are not limited as others are.
fn request_of_de(installation: &Installation) -> String {
    let certificate = installation.path("pki/DE/authentication.pem");
    let certificate = certificate.to_str().unwrap();
    let arguments = [
        "x509",
        "-noout",
        "-fingerprint",
        "-sha256",
        "-in",
        certificate,
    ];
    let said = openssl(&arguments, &installation.path("pki")).unwrap();
    let (_, digits) = said.trim().split_once('=').unwrap();
    let thumbprint = digits.replace(':', "").to_lowercase();
    format!(
        "GET /diagnosiskeys/callback HTTP/1.1\r\nHost: gateway\r\n\
         Accept: application/json; version=1.0\r\n\
         X-SSL-Client-SHA256: {thumbprint}\r\nX-SSL-Client-DN: C=DE\r\n\r\n"
    )
}

fn start(installation: &Installation) -> (Gateway, SocketAddr, SocketAddr) {
    start_with_log(installation, Stdio::piped())
}

fn start_with_log(
    installation: &Installation,
    log: impl Into<Stdio>,
) -> (Gateway, SocketAddr, SocketAddr) {
    let mut serve = installation.serve();
    serve.env("EFGS__PROXY__LISTEN", "127.0.0.1:0");
    serve.env("EFGS__LOG__LEVEL", "debug");
    let (gateway, addresses) = Gateway::start_with_log(&mut serve, log);
    let of = |name: &str| addresses.iter().find(|(port, _)| port == name).unwrap().1;
    (gateway, of("proxy"), of("operations"))
}

#[test]
fn serves_while_the_log_is_not_read() {
    let installation = Installation::new("DE,IT");
    let (gateway, proxy, operations) = start(&installation);
    let request = request_of_de(&installation);
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        let answers = ask(proxy, &request, 1000);
        assert_eq!(answers.matches("HTTP/1.1 200 ").count(), 1000);
        if dropped_lines(&get(operations, "/metrics")) > 0 {
            break;
        }
        assert!(Instant::now() < deadline, "no line is dropped");
    }
    assert!(get(operations, "/health").starts_with("HTTP/1.1 200 "));
    assert!(get(operations, "/ready").starts_with("HTTP/1.1 200 "));
    let begun = Instant::now();
    let output = gateway.stop("TERM");
    assert!(output.status.success(), "{output:?}");
    assert!(begun.elapsed() < Duration::from_secs(20), "{output:?}");
}

#[test]
fn counts_the_lines_that_cannot_be_written() {
    let (reader, closed_pipe) = std::io::pipe().unwrap();
    drop(reader);
    let full_disk = File::options().write(true).open("/dev/full").unwrap();
    for log in [Stdio::from(full_disk), Stdio::from(closed_pipe)] {
        let installation = Installation::new("DE,IT");
        let (_gateway, proxy, operations) = start_with_log(&installation, log);
        let before = dropped_lines(&get(operations, "/metrics"));
        ask(proxy, REFUSED, 10);
        let counted = || {
            let lines = dropped_lines(&get(operations, "/metrics"));
            (lines >= before + 10).then_some(())
        };
        poll(Duration::from_secs(20), counted).expect("ten lines more");
    }
}

/// Whatever DE does wrong again and again is told in few lines, and how often it was in numbers that add up.
#[test]
fn tells_how_many_lines_were_suppressed_also_when_the_cause_has_ended() {
    const REQUESTS: usize = 50;
    const FAILED: &str = " message=\"Unknown client certificate\" ";
    let installation = Installation::new("DE,IT");
    let log = File::create(installation.path("log")).unwrap();
    let (gateway, proxy, operations) = start_with_log(&installation, log);
    let request = request_of_de(&installation).replace("C=DE", "C=IT");
    ask(proxy, &request, REQUESTS);
    let lines = || -> Vec<String> {
        let log = installation.read("log");
        let lines = log
            .lines()
            .filter(|line| line.contains("Unknown client certificate"));
        lines.map(str::to_owned).collect()
    };
    let told = || {
        let lines = lines();
        let suppressed = lines.iter().filter_map(|line| {
            let (_, count) = line.split_once(" suppressedLines=")?;
            count.parse::<usize>().ok()
        });
        let written = lines.iter().filter(|line| line.contains(FAILED)).count();
        (written, suppressed.sum::<usize>())
    };
    let is_told = || {
        let (written, suppressed) = told();
        (written + suppressed == REQUESTS).then_some(())
    };
    poll(Duration::from_secs(60), is_told).unwrap_or_else(|| panic!("{:?}", lines()));
    assert!(told().0 < REQUESTS, "{:?}", lines());
    for line in lines() {
        assert!(
            line.contains(" level=WARN ") && line.contains(" country=DE "),
            "{line}"
        );
    }
    let counted = get(operations, "/metrics");
    let line = format!("efgs_log_lines_suppressed_total {}", told().1);
    assert!(counted.contains(&line), "{line}");
    assert!(gateway.stop("TERM").status.success());
}

#[test]
fn flushes_the_log_at_a_graceful_shutdown() {
    let installation = Installation::new("DE,IT");
    let (gateway, proxy, operations) = start(&installation);
    // As many as are not suppressed.
    ask(proxy, REFUSED, 10);
    assert_eq!(dropped_lines(&get(operations, "/metrics")), 0);
    let output = gateway.stop("TERM");
    let log = String::from_utf8(output.stderr).unwrap();
    assert_eq!(log.matches(EVENT).count(), 10, "{log}");
    assert!(log.contains("shutting down: no new connections"), "{log}");
}

#[test]
fn flushes_the_log_before_a_final_error() {
    let installation = Installation::new("DE,IT");
    // The operations port listens before the keys are compared with the database's.
    let other = Installation::new("DE");
    std::fs::copy(other.path("keys"), installation.path("keys")).unwrap();
    let output = installation.serve().output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    let (_, log) = cli_support::texts(&output);
    let listening = log.find("role=operations").expect(&log);
    let error = log.find("efgs: the identity key").expect(&log);
    assert!(listening < error, "{log}");
}
