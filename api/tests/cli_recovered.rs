//! `efgs db recovered` beside a gateway that runs, and the state file of a gateway, as processes.

#![allow(
    clippy::unwrap_used,
    reason = "a test stops at the first unexpected result"
)]

mod cli_support;

use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::time::{Duration, Instant};

use cli_support::{Gateway, Installation, refuses, succeeds, texts};

/// The answer of the operations port, head and body.
fn ask(address: SocketAddr, path: &str) -> String {
    let mut connection = TcpStream::connect(address).unwrap();
    write!(
        connection,
        "GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    )
    .unwrap();
    let mut answer = String::new();
    connection.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn begins_an_epoch_that_stops_a_running_gateway() {
    let installation = Installation::new("DE");
    let recovered =
        |arguments: &[&str]| installation.efgs(&[&["db", "recovered"], arguments].concat());
    refuses(
        &mut recovered(&["--dry-run"]),
        &["--state-file", "--skip-to"],
    );
    refuses(
        &mut recovered(&["--state-file", "nowhere"]),
        &["no state file nowhere"],
    );
    let (gateway, addresses) = Gateway::start(&mut installation.serve());
    let operations = addresses.iter().find(|(name, _)| name == "operations");
    let operations = operations.unwrap().1;
    let went_back = "efgs_database_went_back";

    let said = succeeds(&mut recovered(&["--dry-run", "--skip-to", "20210601-17"]));
    assert!(said.contains("epoch 1 would begin"), "{said}");
    assert!(
        said.contains("behind 20210601-17; nothing was changed"),
        "{said}"
    );
    let said = succeeds(&mut recovered(&["--skip-to", "20210601-17"]));
    assert!(said.contains("epoch 1 has begun"), "{said}");
    let deadline = Instant::now() + Duration::from_secs(30);
    let ready = loop {
        let answer = ask(operations, "/ready");
        if answer.starts_with("HTTP/1.1 503") {
            break answer;
        }
        assert!(Instant::now() < deadline, "{answer}");
    };
    assert!(
        ready.contains("\"databaseWentBack\":\"expected epoch 0; found epoch 1\""),
        "{ready}"
    );
    let metrics = ask(operations, "/metrics");
    assert!(metrics.contains(&format!("\n{went_back} 1\n")), "{metrics}");
    let (_, errors) = texts(&gateway.stop("TERM"));
    assert_eq!(
        errors.matches("the database has gone back").count(),
        1,
        "{errors}"
    );

    let (gateway, addresses) = Gateway::start(&mut installation.serve());
    let operations = addresses.iter().find(|(name, _)| name == "operations");
    let operations = operations.unwrap().1;
    assert!(ask(operations, "/ready").starts_with("HTTP/1.1 200"));
    assert!(ask(operations, "/metrics").contains(&format!("\n{went_back} 0\n")));
    gateway.stop("TERM");
    // What was skipped stays so.
    let said = succeeds(&mut recovered(&["--dry-run", "--skip-to", "20210601-3"]));
    assert!(said.contains("epoch 2 would begin"), "{said}");
    assert!(said.contains("behind 20210601-17"), "{said}");
    // An epoch cannot be taken back, and every later batch would have that day.
    let mistyped = ["--skip-to", "20991231-1"];
    refuses(
        &mut recovered(&mistyped),
        &["20991231-1 is of a day to come"],
    );
}

#[test]
fn refuses_a_database_that_is_behind_the_state_file() {
    let installation = Installation::new("DE");
    let serve = || {
        let mut command = installation.serve();
        command.env("EFGS__DATABASE__STATE_FILE", "state");
        command
    };
    let (gateway, _) = Gateway::start(&mut serve());
    gateway.stop("TERM");
    let state = installation.read("state");
    // Then the counter of the certificate list.
    let begins = "efgs state file 1\nepoch 0\ncertificates ";
    assert!(state.starts_with(begins), "{state}");
    let digest = "0".repeat(64);
    let remembered = format!("{state}row 931 1622548800000 {digest}\ncutting 20210601-9\n");
    fs::write(installation.path("state"), &remembered).unwrap();
    refuses(
        &mut serve(),
        &["position 931", "efgs db recovered --dry-run"],
    );
    let mut recovered = installation.efgs(&["db", "recovered"]);
    recovered.env("EFGS__DATABASE__STATE_FILE", "state");
    let said = succeeds(&mut recovered);
    assert!(said.contains("positions 1 to 931 are lost"), "{said}");
    assert!(said.contains("to 2021-06-01T12:00:00Z"), "{said}");
    assert!(said.contains("behind 20210601-9"), "{said}");
    let (gateway, _) = Gateway::start(&mut serve());
    gateway.stop("TERM");
    let state = installation.read("state");
    let begins = "efgs state file 1\nepoch 1\ncertificates ";
    assert!(state.starts_with(begins), "{state}");
    // A gateway whose file nobody named, and which knows a number that the epoch does not skip.
    let forgotten = "efgs state file 1\nepoch 0\ncutting 20210601-11\n";
    fs::write(installation.path("state"), forgotten).unwrap();
    refuses(&mut serve(), &["20210601-11, which epoch 1 does not skip"]);
    fs::write(installation.path("state"), "something else").unwrap();
    refuses(&mut serve(), &["is no state file of efgs"]);
}

#[test]
fn skips_behind_the_highest_number_of_several_state_files() {
    let installation = Installation::new("DE");
    let written = |name: &str, cutting: &str| {
        let path = installation.path(name);
        fs::write(
            &path,
            format!("efgs state file 1\nepoch 0\ncutting {cutting}\n"),
        )
        .unwrap();
        path
    };
    let files = [
        written("one", "20210601-17"),
        written("two", "20210602-3"),
        written("three", "20210601-25"),
    ];
    let mut recovered = installation.efgs(&["db", "recovered", "--dry-run"]);
    for file in &files {
        recovered.arg("--state-file").arg(file);
    }
    let said = succeeds(&mut recovered);
    assert!(said.contains("numbered behind 20210602-3;"), "{said}");
    fs::write(&files[1], "something else").unwrap();
    refuses(&mut recovered, &["no state file of efgs", "two"]);
}
