//! The life of the real binary: a start that takes long, signals for an orderly end, for renewed
//! certificates and keys, and those without meaning.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod cli_support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixDatagram;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cli_support::{Gateway, Installation, Traffic, openssl, succeeds, texts};
use testkit::poll::poll;
use testkit::ports::free_port;

const TIMEOUT: Duration = Duration::from_secs(60);

/// Starts a gateway that logs into the file `log`.
fn start(installation: &Installation) -> (Gateway, SocketAddr) {
    let (gateway, [public, _]) = start_by(installation, &mut installation.serve());
    (gateway, public)
}

/// The same by a command; with the public port and that of operators.
fn start_by(installation: &Installation, serve: &mut Command) -> (Gateway, [SocketAddr; 2]) {
    let log = fs::File::create(installation.path("log")).unwrap();
    let (gateway, addresses) = Gateway::start_with_log(serve, log);
    let port = |wanted| {
        let mut found = addresses.iter().filter(|(port, _)| port == wanted);
        found.next().unwrap().1
    };
    (gateway, [port("public"), port("operations")])
}

/// What the operators' port answers: status and body.
fn get(operations: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(operations).unwrap();
    let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head[9..12].parse().unwrap(), body.to_owned())
}

fn wait_for_line(installation: &Installation, line: &str) {
    let is_logged = || installation.read("log").contains(line).then_some(());
    poll(TIMEOUT, is_logged).unwrap_or_else(|| panic!("no line {line:?}"));
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
    let (gateway, [public, operations]) = start_by(&installation, &mut installation.serve());
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
    wait_for_line(&installation, "the former one stays in use");
    assert_eq!(shown(public, &installation), renewed);
    let warns = || {
        let warnings = get(operations, "/ready").1;
        warnings
            .contains("the TLS certificate ([public] certificate and private_key) cannot be used")
    };
    assert!(poll(TIMEOUT, || warns().then_some(())).is_some());
    copy(&installation, "renewed.key", "server.key");
    gateway.signal("HUP");
    assert!(poll(TIMEOUT, || (!warns()).then_some(())).is_some());

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

/// Sets the log level in the configuration file.
fn set_level(installation: &Installation, original: &str, level: &str) {
    let line = "# level = \"info\"";
    assert!(original.contains(line));
    let text = original.replace(line, &format!("level = \"{level}\""));
    fs::write(installation.path("efgs.toml"), text).unwrap();
}

/// The line that only a level of DEBUG shows.
const AT_DEBUG: &str = "message=\"Successful Authentication\"";

#[test]
fn changes_the_log_level_on_sighup_and_keeps_it_when_the_next_is_not_one() {
    let installation = Installation::new("DE");
    let original = installation.read("efgs.toml");
    let (gateway, public) = start(&installation);
    let backend = installation.backend("DE", public);
    let count = |text: &str| installation.read("log").matches(text).count();
    // Lines come in the order of the requests: those before a change are there when one after it is.
    backend.download().unwrap();
    set_level(&installation, &original, "info,api=debug");
    gateway.signal("HUP");
    wait_for_line(&installation, "from=info to=\"info,api=debug\"");
    backend.download().unwrap();
    wait_for_line(&installation, AT_DEBUG);
    assert_eq!(count(AT_DEBUG), 1);

    set_level(&installation, &original, "loud");
    make_server_certificate(&installation, "renewed");
    copy(&installation, "renewed.key", "server.key");
    copy(&installation, "renewed.pem", "server.pem");
    gateway.signal("HUP");
    wait_for_line(
        &installation,
        "cannot change the log level: the former one stays in force",
    );
    let log = installation.read("log");
    let line = log
        .lines()
        .find(|line| line.contains("cannot change the log level"))
        .unwrap();
    assert!(
        line.contains("level=WARN") && line.contains("[log] level in "),
        "{line}"
    );
    // It stops nothing else, and what it was before is still in force.
    let renewed = installation.read("pki/renewed.pem").trim().to_owned();
    let is_shown = || (shown(public, &installation) == renewed).then_some(());
    poll(TIMEOUT, is_shown).expect("the renewed certificate");
    backend.download().unwrap();
    poll(TIMEOUT, || (count(AT_DEBUG) == 2).then_some(())).expect("a line at DEBUG");
    assert!(gateway.stop("TERM").status.success());
}

#[test]
fn changes_the_log_level_when_the_configuration_file_has_changed() {
    let installation = Installation::new("DE");
    let original = installation.read("efgs.toml");
    let (gateway, public) = start(&installation);
    let backend = installation.backend("DE", public);
    set_level(&installation, &original, "error");
    wait_for_line(&installation, "from=info to=error");
    backend.upload().unwrap();
    set_level(&installation, &original, "info");
    wait_for_line(&installation, "from=error to=info");
    backend.upload().unwrap();
    wait_for_line(&installation, "successfull batch upload");
    let log = installation.read("log");
    assert_eq!(log.matches("successfull batch upload").count(), 1, "{log}");
    assert!(gateway.stop("TERM").status.success());
}

/// Makes a certificate for the gateway as its own was made, by the CA that participants trust.
fn make_server_certificate(installation: &Installation, name: &str) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let subject = format!("/CN={name}");
    let mut arguments = vec!["req", "-x509", "-newkey", "ec"];
    arguments.extend(["-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"]);
    arguments.extend([
        "-CA",
        "server-ca.pem",
        "-CAkey",
        "server-ca.key",
        "-days",
        "2",
    ]);
    arguments.extend(["-subj", &subject, "-addext", "subjectAltName=IP:127.0.0.1"]);
    arguments.extend(["-keyout", &key, "-out", &certificate]);
    openssl(&arguments, &installation.path("pki")).unwrap();
}

#[test]
fn renews_certificate_and_sealing_keys_under_load_without_a_failed_request() {
    let installation = Installation::new("DE,FR");
    let (gateway, public) = start(&installation);
    let backends = ["DE", "FR"].map(|country| installation.backend(country, public));
    let traffic = backends.map(Traffic::start);
    let await_more = || traffic.iter().for_each(|traffic| traffic.await_more(6));
    for round in 2..6 {
        await_more();
        let name = format!("renewed-{round}");
        make_server_certificate(&installation, &name);
        copy(&installation, &format!("{name}.key"), "server.key");
        copy(&installation, &format!("{name}.pem"), "server.pem");
        succeeds(&mut installation.efgs(&["key", "rotate"]));
        gateway.signal("HUP");
        wait_for_line(&installation, &format!("seals={round}"));
        let renewed = installation.read(&format!("pki/{name}.pem"));
        let is_shown = || (shown(public, &installation) == renewed.trim()).then_some(());
        poll(TIMEOUT, is_shown).expect("the renewed certificate");
    }
    await_more();
    for traffic in traffic {
        assert_eq!(traffic.stop(), [] as [String; 0]);
    }
    assert!(gateway.stop("TERM").status.success());
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

#[test]
fn answers_operators_while_it_starts_and_ends_on_sigterm_then() {
    let installation = Installation::new("DE");
    // A database that accepts connections and says nothing.
    let silent = TcpListener::bind("127.0.0.1:0").unwrap();
    let public = SocketAddr::from(([127, 0, 0, 1], free_port().unwrap()));
    let url = format!("mysql://efgs:x@{}/efgs", silent.local_addr().unwrap());
    let mut serve = installation.serve();
    serve.env("EFGS__DATABASE__URL", url);
    serve.env("EFGS__PUBLIC__LISTEN", public.to_string());
    let log = fs::File::create(installation.path("log")).unwrap();
    let (gateway, operations) = Gateway::start_slowly(&mut serve, log);

    assert_eq!(get(operations, "/health").0, 200);
    let (status, body) = get(operations, "/ready");
    assert_eq!(status, 503);
    assert!(
        body.contains(r#""starting":{"keysRead":0,"keysExpected":0}"#),
        "{body}"
    );
    let refused = TcpStream::connect(public).unwrap_err();
    assert_eq!(refused.kind(), std::io::ErrorKind::ConnectionRefused);

    let output = gateway.stop("TERM");
    assert_eq!(output.status.code(), Some(0), "{:?}", texts(&output));
}

#[test]
fn serves_on_after_sigterm_and_is_not_ready_until_the_delay_is_over() {
    let installation = Installation::new("DE");
    let mut serve = installation.serve();
    // For longer than this test runs: the second signal ends it.
    serve.env("EFGS__OPERATIONS__SHUTDOWN_DELAY_MS", "600000");
    let (gateway, [public, operations]) = start_by(&installation, &mut serve);
    assert_eq!(get(operations, "/ready").0, 200);
    gateway.signal("TERM");
    let is_withdrawn = || (get(operations, "/ready").0 == 503).then_some(());
    poll(TIMEOUT, is_withdrawn).expect("it is not ready any more");
    assert!(get(operations, "/ready").1.contains(r#""stopping":true"#));
    assert!(ask(&mut connect(public)).starts_with("HTTP/1.1 "));
    let output = gateway.stop("TERM");
    assert_eq!(output.status.code(), Some(0), "{:?}", texts(&output));

    // Whoever sits at a terminal does not wait.
    let (gateway, _) = start_by(&installation, &mut serve);
    let output = gateway.stop("INT");
    assert_eq!(output.status.code(), Some(0), "{:?}", texts(&output));
}

/// What systemd hears from a service of `Type=notify` with a watchdog: `sd_notify(3)`.
#[test]
fn tells_the_service_manager_when_it_is_ready_alive_and_about_to_end() {
    let installation = Installation::new("DE");
    let path = installation.path("notify");
    let socket = UnixDatagram::bind(&path).unwrap();
    socket.set_read_timeout(Some(TIMEOUT)).unwrap();
    let mut serve = installation.serve();
    serve.env("NOTIFY_SOCKET", &path);
    serve.env("WATCHDOG_USEC", "100000");
    let (gateway, _) = start_by(&installation, &mut serve);
    let next = || {
        let mut message = [0; 1000];
        let length = socket.recv(&mut message).unwrap();
        String::from_utf8(message[..length].to_vec()).unwrap()
    };
    let started = next();
    assert!(
        started.starts_with("EXTEND_TIMEOUT_USEC=60000000\nSTATUS=starting: "),
        "{started}"
    );
    while next() != "READY=1\nSTATUS=ready\n" {}
    for _ in 0..3 {
        assert_eq!(next(), "WATCHDOG=1\n");
    }
    assert!(gateway.stop("INT").status.success());
    while next() != "STOPPING=1\nSTATUS=stopping\n" {}
}

#[test]
fn takes_sealing_keys_and_the_certificate_for_callbacks_on_sighup_if_they_can_be_used() {
    let installation = Installation::new("DE");
    make_certificate(&installation, "callback");
    let mut serve = installation.serve();
    serve.env("EFGS__CALLBACK__CERTIFICATE", "pki/callback.pem");
    serve.env("EFGS__CALLBACK__PRIVATE_KEY", "pki/callback.key");
    let (gateway, _) = start_by(&installation, &mut serve);

    let rotate = &mut installation.efgs(&["key", "rotate"]);
    assert!(rotate.output().unwrap().status.success());
    make_certificate(&installation, "callback");
    gateway.signal("HUP");
    wait_for_line(&installation, "seals=2");
    wait_for_line(
        &installation,
        "callbacks are sent with the renewed certificate",
    );

    // The certificate's key is another's, and the keys are another installation's.
    make_certificate(&installation, "other");
    copy(&installation, "other.key", "callback.key");
    gateway.signal("HUP");
    wait_for_line(
        &installation,
        "cannot use the renewed certificate for callbacks",
    );
    let others = Installation::new("DE");
    fs::copy(others.path("keys"), installation.path("keys")).unwrap();
    gateway.signal("HUP");
    wait_for_line(&installation, "the identity key is another one");
    assert!(gateway.stop("TERM").status.success());
}
