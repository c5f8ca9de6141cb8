//! What an operator is told before it stops somebody: in the log at the start, in `/ready`, as a metric and on the
//! console, by a real gateway.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod cli_support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use cli_support::{Gateway, Installation, openssl, succeeds};
use serde_json::Value;
use testkit::local::MariaDb;
use testkit::poll::holds_within;

const TIMEOUT: Duration = Duration::from_secs(60);

/// What is told, wherever it is.
struct Told<'a> {
    level: &'a str,
    text: &'a str,
    /// The beginning of a sample, and the least value of it.
    metric: (&'a str, f64),
}

/// A gateway that runs.
struct Running {
    gateway: Gateway,
    operations: SocketAddr,
}

impl Running {
    /// With its log in a file.
    fn start(installation: &Installation, serve: &mut Command) -> Self {
        let log = fs::File::create(installation.path("log")).unwrap();
        let (gateway, addresses) = Gateway::start_with_log(serve, log);
        let mut found = addresses.iter().filter(|(port, _)| port == "operations");
        let operations = found.next().unwrap().1;
        Self {
            gateway,
            operations,
        }
    }

    fn get(&self, path: &str) -> String {
        let mut stream = TcpStream::connect(self.operations).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer.split_once("\r\n\r\n").unwrap().1.to_owned()
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_str(&self.get(path)).unwrap()
    }

    #[track_caller]
    fn tells(&self, installation: &Installation, told: &Told<'_>) {
        let Told {
            level,
            text,
            metric: (sample, least),
        } = told;
        let is_logged = || {
            let log = installation.read("log");
            let mut lines = log.lines().filter(|line| line.contains(text));
            lines.any(|line| line.contains(&format!(" level={level} ")))
        };
        assert!(
            holds_within(TIMEOUT, is_logged),
            "no line at {level}: {text:?}"
        );
        let in_list = |list: &Value, of: fn(&Value) -> &Value| {
            let lowercase = |one: &Value| of(one).as_str().unwrap().to_lowercase();
            let all: Vec<_> = list.as_array().unwrap().iter().map(lowercase).collect();
            all.iter().any(|one| one.contains(&text.to_lowercase()))
        };
        let in_ready = || in_list(&self.json("/ready")["warnings"], |one| one);
        assert!(holds_within(TIMEOUT, in_ready), "not in /ready: {text:?}");
        let on_console = || in_list(&self.json("/console.json")["attention"], |one| &one["text"]);
        assert!(
            holds_within(TIMEOUT, on_console),
            "not on the console: {text:?}"
        );
        let is_measured = || {
            let metrics = self.get("/metrics");
            let mut values = metrics.lines().filter_map(|line| line.strip_prefix(sample));
            values.any(|value| {
                value
                    .trim()
                    .parse::<f64>()
                    .is_ok_and(|value| value >= *least)
            })
        };
        assert!(
            holds_within(TIMEOUT, is_measured),
            "no metric {sample} of {least}"
        );
    }
}

/// A self-signed certificate for so many days, in the installation's PKI folder.
fn make_certificate(installation: &Installation, name: &str, country: &str, days: u32) {
    let (key, certificate) = (format!("{name}.key"), format!("{name}.pem"));
    let (subject, days) = (format!("/C={country}/CN={name}"), days.to_string());
    let mut arguments = vec!["req", "-x509", "-newkey", "ec", "-nodes"];
    arguments.extend(["-pkeyopt", "ec_paramgen_curve:P-256"]);
    arguments.extend(["-days", &days, "-subj", &subject]);
    arguments.extend(["-keyout", &key, "-out", &certificate]);
    openssl(&arguments, &installation.path("pki")).unwrap();
}

/// Lists one for authentication under the anchor of an installation.
fn list(ours: &Installation, url: &str, country: &str, name: &str, anchor: &Installation) {
    let mut add = ours.efgs(&["cert", "add", "--country", country]);
    add.args(["--kind", "authentication", "--certificate"]);
    add.arg(ours.path(&format!("pki/{name}.pem")));
    add.arg("--trust-anchor-key")
        .arg(anchor.path("pki/trust-anchor.key"));
    succeeds(add.env("EFGS__DATABASE__URL", url));
}

fn libfaketime() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap();
    let libraries = folders.filter_map(Result::ok).map(|folder| folder.path());
    let mut libraries = libraries.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = libraries.find(|library| Path::exists(library));
    found.expect("libfaketime is there: .ci/packages installs it")
}

#[test]
fn tells_of_certificates_the_database_and_the_clock_before_they_stop_somebody() {
    let (ours, another) = (Installation::new("DE"), Installation::new("DE"));
    let server = MariaDb::start(&ours.path("")).unwrap();
    server.create_database("efgs").unwrap();
    let url = server.url("efgs");
    succeeds(
        ours.efgs(&["db", "migrate"])
            .env("EFGS__DATABASE__URL", &url),
    );
    let anchor = ours.read("pki/trust-anchor.pem");
    let both = anchor.clone() + &another.read("pki/trust-anchor.pem");
    fs::write(ours.path("pki/trust-anchor.pem"), both).unwrap();
    make_certificate(&ours, "ending", "FR", 10);
    list(&ours, &url, "FR", "ending", &ours);
    make_certificate(&ours, "of-another", "IT", 900);
    list(&ours, &url, "IT", "of-another", &another);
    fs::write(ours.path("pki/trust-anchor.pem"), anchor).unwrap();
    make_certificate(&ours, "server", "DE", 5);
    make_certificate(&ours, "gateway-callback", "DE", 20);
    server
        .run("SET GLOBAL innodb_flush_log_at_trx_commit = 2")
        .unwrap();

    let mut serve = ours.serve();
    serve.env("EFGS__DATABASE__URL", &url);
    serve.env("EFGS__DATABASE__ACCEPT_UNFLUSHED_COMMITS", "true");
    serve
        .env("LD_PRELOAD", libfaketime())
        .env("FAKETIME", "+120s");
    serve.env("FAKETIME_DONT_FAKE_MONOTONIC", "1");
    let running = Running::start(&ours, &mut serve);
    let end = "efgs_certificate_not_after_timestamp_seconds";
    for told in [
        Told {
            level: "ERROR",
            text: "the gateway's TLS certificate ([public] certificate) expires ",
            metric: (&format!("{end}{{kind=\"gateway\"}}"), 1.0),
        },
        Told {
            level: "WARN",
            text: "the gateway's certificate for callbacks ([callback] certificate) expires ",
            metric: (&format!("{end}{{kind=\"gateway_callback\"}}"), 1.0),
        },
        Told {
            level: "WARN",
            text: "ask FR for a new one, and list it with efgs cert add",
            metric: (
                &format!("{end}{{kind=\"authentication\",country=\"FR\"}}"),
                1.0,
            ),
        },
        Told {
            level: "ERROR",
            text: " of IT is not trusted: ",
            metric: ("efgs_certificates{state=\"not_trusted\"}", 1.0),
        },
        Told {
            level: "WARN",
            text: "the database server may lose commits that it has confirmed: ",
            metric: ("efgs_database_may_lose_commits", 1.0),
        },
        Told {
            level: "WARN",
            text: " s ahead of the database's: set the wrong one right",
            metric: ("efgs_clock_ahead_of_database_seconds", 100.0),
        },
    ] {
        running.tells(&ours, &told);
    }
    assert!(running.gateway.stop("TERM").status.success());
}

#[test]
fn tells_that_nobody_can_connect_when_no_certificate_is_valid() {
    let ours = Installation::new("DE");
    succeeds(&mut ours.efgs(&["participant", "remove", "DE"]));
    let running = Running::start(&ours, &mut ours.serve());
    let told = Told {
        level: "ERROR",
        text: "no valid certificate is listed: nobody can connect or sign; use efgs cert add",
        metric: ("efgs_certificates{state=\"revoked\"}", 3.0),
    };
    running.tells(&ours, &told);
    let disk = "efgs_database_disk_free_bytes ";
    assert!(
        running.get("/metrics").contains(disk),
        "the disk of SQLite is measured"
    );
    assert!(running.gateway.stop("TERM").status.success());
}
