//! Private servers: their data survives SIGKILL, and they leave nothing behind.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use loadgen::local::{Gateway, GatewayOptions, MariaDb, initialise};
use mysql::prelude::Queryable;

#[test]
fn keeps_what_mariadb_committed_through_sigkill_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    let url = server.url("efgs");
    let mut connection = server.connect("efgs").unwrap();
    connection
        .query_drop("CREATE TABLE t (n INT PRIMARY KEY) ENGINE=InnoDB")
        .unwrap();
    connection.query_drop("INSERT INTO t VALUES (42)").unwrap();
    server.kill().unwrap();
    assert!(
        connection.query_drop("SELECT 1").is_err(),
        "the server is dead"
    );
    server.restart().unwrap();
    assert_eq!(server.url("efgs"), url, "on the same port");
    let mut connection = server.connect("efgs").unwrap();
    assert_eq!(connection.query_first("SELECT n FROM t").unwrap(), Some(42));
    let durable: Option<(String, String)> = connection
        .query_first("SHOW VARIABLES LIKE 'innodb_flush_log_at_trx_commit'")
        .unwrap();
    assert_eq!(durable.unwrap().1, "1");
    assert!(server.create_database("no; DROP").is_err());
    drop(server);
    assert_eq!(
        fs::read_dir(folder.path()).unwrap().count(),
        0,
        "the data are gone"
    );
    assert!(
        mysql::Conn::new(url.as_str()).is_err(),
        "the server is gone"
    );
}

/// A program with a gateway's output, which writes its settings to its log.
fn stand_in(folder: &Path, script: &str) -> PathBuf {
    let path = folder.join("stand-in");
    fs::write(&path, format!("#!/bin/sh\n{script}")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    path
}

#[test]
fn restarts_a_gateway_on_the_same_ports() {
    let folder = tempfile::tempdir().unwrap();
    let script = "echo \"$@ $EFGS__PUBLIC__LISTEN $EFGS__X\" >&2\necho listening public 127.0.0.1:4711\n\
        echo listening operations 127.0.0.1:4712\necho ready\nexec sleep 600\n";
    let program = stand_in(folder.path(), script);
    let environment = vec![("EFGS__X".to_owned(), "y".to_owned())];
    let options = GatewayOptions {
        environment,
        ..GatewayOptions::new(&program, folder.path())
    };
    let mut gateway = Gateway::start(options).unwrap();
    assert_eq!(gateway.public().to_string(), "127.0.0.1:4711");
    assert_eq!(gateway.operations().to_string(), "127.0.0.1:4712");
    assert_eq!(gateway.target().to_string(), "https://127.0.0.1:4711");
    let process = PathBuf::from(format!("/proc/{}", gateway.process_id().unwrap()));
    assert!(process.exists());
    gateway.kill9().unwrap();
    assert!(!process.exists());
    gateway.restart().unwrap();
    let log = fs::read_to_string(gateway.log()).unwrap();
    let config = folder.path().join("efgs.toml").display().to_string();
    let lives: Vec<_> = log.lines().collect();
    let said = |listen: &str| format!("serve --config {config} {listen} y");
    // The first time on a port that is free, then on the one that it said.
    let [first, second] = lives.as_slice() else {
        panic!("two lives: {log}");
    };
    assert!(
        first.starts_with(&format!("serve --config {config} 127.0.0.1:")),
        "{log}"
    );
    assert_eq!(*second, said("127.0.0.1:4711"));
    let process = PathBuf::from(format!("/proc/{}", gateway.process_id().unwrap()));
    drop(gateway);
    assert!(!process.exists(), "dropping it ends it");
}

#[test]
fn reports_why_a_gateway_does_not_start() {
    let folder = tempfile::tempdir().unwrap();
    let program = stand_in(
        folder.path(),
        "echo the encryption key is missing >&2\nexit 1\n",
    );
    let options = GatewayOptions::new(&program, folder.path());
    let error = Gateway::start(options).unwrap_err().to_string();
    assert_eq!(
        error,
        "the gateway does not run: the encryption key is missing"
    );
    let error = initialise(&program, folder.path(), None)
        .unwrap_err()
        .to_string();
    assert_eq!(error, "efgs init failed: the encryption key is missing");
}
