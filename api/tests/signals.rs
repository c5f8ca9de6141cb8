//! Signals to the real binary: an orderly end, a renewed certificate, and those without meaning.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod cli_support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cli_support::{Gateway, Installation, openssl, texts};
use testkit::poll::poll;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a gateway that logs into the file `log`.
fn start(installation: &Installation) -> (Gateway, SocketAddr) {
    let log = fs::File::create(installation.path("log")).unwrap();
    let (gateway, addresses) = Gateway::start_with_log(&mut installation.serve(), log);
    let public = addresses.iter().find(|(port, _)| port == "public");
    (gateway, public.unwrap().1)
}

/// A TLS client, connected through OpenSSL's command.
fn connect(public: SocketAddr) -> Child {
    let mut client = Command::new("openssl");
    client.args(["s_client", "-quiet", "-connect", &public.to_string()]);
    let client = client.stdin(Stdio::piped()).stdout(Stdio::piped());
    client.stderr(Stdio::null()).spawn().unwrap()
}

/// Sends a request over the connection and reads to its end.
fn ask(client: &mut Child) -> String {
    let request = b"GET / HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n";
    let mut input = client.stdin.take().unwrap();
    input.write_all(request).unwrap();
    let mut answer = String::new();
    let output = client.stdout.as_mut().unwrap();
    output.read_to_string(&mut answer).unwrap();
    client.wait().unwrap();
    answer
}

/// The certificate that the gateway shows now, as PEM.
fn shown(public: SocketAddr, installation: &Installation) -> String {
    let address = public.to_string();
    let client = openssl(
        &["s_client", "-connect", &address],
        &installation.path("pki"),
    );
    let text = client.unwrap();
    let (begin, end) = ("-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----");
    let from = text.find(begin).expect("a certificate");
    let to = text.find(end).unwrap() + end.len();
    text[from..to].to_owned()
}

/// Makes a self-signed certificate and its key in the folder of the gateway's.
fn make_certificate(installation: &Installation, name: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let subject = format!("/CN={name}");
    openssl(
        &[
            "req",
            "-x509",
            "-newkey",
            "ec",
            "-pkeyopt",
            "ec_paramgen_curve:P-256",
            "-nodes",
            "-days",
            "2",
            "-subj",
            &subject,
            "-keyout",
            &key,
            "-out",
            &certificate,
        ],
        &installation.path("pki"),
    )
    .unwrap();
}

fn copy(installation: &Installation, from: &str, to: &str) {
    let path = |name: &str| installation.path(&format!("pki/{name}"));
    fs::copy(path(from), path(to)).unwrap();
}

#[test]
fn renews_the_certificate_on_sighup_and_keeps_it_when_the_next_cannot_be_used() {
    let installation = Installation::new("DE");
    let (gateway, public) = start(&installation);
    make_certificate(&installation, "renewed");
    let renewed = installation.read("pki/renewed.pem").trim().to_owned();
    assert_ne!(shown(public, &installation), renewed);
    let mut open = connect(public);

    copy(&installation, "renewed.key", "server.key");
    copy(&installation, "renewed.pem", "server.pem");
    gateway.signal("HUP");
    let is_shown = || (shown(public, &installation) == renewed).then_some(());
    poll(TIMEOUT, is_shown).expect("the renewed certificate");
    // An open connection keeps its certificate, and works.
    assert!(ask(&mut open).starts_with("HTTP/1.1 "));

    // The key of another certificate.
    make_certificate(&installation, "other");
    copy(&installation, "other.key", "server.key");
    gateway.signal("HUP");
    let is_logged = || {
        let log = installation.read("log");
        log.contains("the former one stays in use").then_some(())
    };
    poll(TIMEOUT, is_logged).expect("a line that says what became of it");
    assert_eq!(shown(public, &installation), renewed);

    let output = gateway.stop("TERM");
    assert!(output.status.success(), "{:?}", texts(&output));
}

#[test]
fn renews_the_certificate_when_its_files_have_changed() {
    let installation = Installation::new("DE");
    let (gateway, public) = start(&installation);
    make_certificate(&installation, "renewed");
    let renewed = installation.read("pki/renewed.pem").trim().to_owned();
    copy(&installation, "renewed.key", "server.key");
    copy(&installation, "renewed.pem", "server.pem");
    let is_shown = || (shown(public, &installation) == renewed).then_some(());
    poll(TIMEOUT, is_shown).expect("the renewed certificate");
    drop(gateway);
}

#[test]
fn survives_signals_without_meaning_and_ends_orderly_on_sigquit() {
    let installation = Installation::new("DE");
    let (gateway, public) = start(&installation);
    for signal in ["USR1", "USR2", "HUP"] {
        gateway.signal(signal);
    }
    assert!(ask(&mut connect(public)).starts_with("HTTP/1.1 "));
    let output = gateway.stop("QUIT");
    assert_eq!(output.status.code(), Some(0), "{:?}", texts(&output));
}
