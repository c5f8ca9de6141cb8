//! Databases on which a gateway refuses to start, in addition to the tests of the command line: one
//! sentence that says what to do, status 1.

use std::fs;
use std::process::Command;

use tempfile::TempDir;
use testkit::local::MariaDb;

use crate::cli_support::{Gateway, Installation, refuses, succeeds, texts};

/// `efgs serve` on another database, with nothing but errors on its standard error.
fn serve(installation: &Installation, url: &str) -> Command {
    let mut command = installation.serve();
    command.env("EFGS__LOG__LEVEL", "error");
    command.env("EFGS__DATABASE__URL", url);
    command
}

/// A database that has been set up, on a server that is right so far.
fn set_up(installation: &Installation, url: &str) {
    let mut migrate = installation.efgs(&["db", "migrate"]);
    succeeds(migrate.env("EFGS__DATABASE__URL", url));
}

#[test]
fn refuses_an_unsuitable_mariadb() {
    let folder = TempDir::new().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    let installation = Installation::new("DE");
    let url = server.url("efgs");
    set_up(&installation, &url);
    let mut serve_here = serve(&installation, &url);
    let run = |statements| server.run(statements).unwrap();

    run("SET GLOBAL max_allowed_packet = 1048576");
    refuses(
        &mut serve_here,
        &["max_allowed_packet is 1048576", "set it to"],
    );
    run("SET GLOBAL max_allowed_packet = 16777216");

    let (gateway, _) = Gateway::start(&mut serve_here);
    assert!(gateway.stop("TERM").status.success());

    let of_others = Installation::new("DE");
    refuses(
        &mut serve(&of_others, &url),
        &["identity key", "use the key file of the installation"],
    );

    run("SET GLOBAL read_only = 1");
    refuses(&mut serve_here, &["read-only", "[database] url"]);
    run("SET GLOBAL read_only = 0");

    run("INSERT INTO efgs.schema_version VALUES (99)");
    refuses(
        &mut serve_here,
        &["schema version 99", "install a newer efgs"],
    );
    run("DELETE FROM efgs.schema_version WHERE version = 99");
    let (gateway, _) = Gateway::start(&mut serve_here);
    assert!(gateway.stop("TERM").status.success());
}

#[test]
fn refuses_a_mariadb_that_may_lose_confirmed_commits() {
    let folder = TempDir::new().unwrap();
    let mut server = MariaDb::start(folder.path()).unwrap();
    server.create_database("efgs").unwrap();
    let installation = Installation::new("DE");
    set_up(&installation, &server.url("efgs"));
    let mut serve_here = serve(&installation, &server.url("efgs"));
    let mut serves = || {
        let (gateway, _) = Gateway::start(&mut serve_here);
        assert!(gateway.stop("TERM").status.success());
    };
    let refuses = |server: &MariaDb, remedy| {
        let mut command = serve(&installation, &server.url("efgs"));
        refuses(&mut command, &["may lose commits", remedy]);
    };

    for value in [0, 2] {
        let set = format!("SET GLOBAL innodb_flush_log_at_trx_commit = {value}");
        server.run(&set).unwrap();
        refuses(&server, "set innodb_flush_log_at_trx_commit to 1");
    }
    server
        .run("SET GLOBAL innodb_flush_log_at_trx_commit = 3")
        .unwrap();
    serves();
    // Without a binary log there is nothing to flush in it.
    server.run("SET GLOBAL sync_binlog = 0").unwrap();
    serves();

    server.restart_with(&["--log-bin=binlog"]).unwrap();
    refuses(&server, "set sync_binlog to 1");
    server.run("SET GLOBAL sync_binlog = 100").unwrap();
    refuses(&server, "set sync_binlog to 1");
    server.run("SET GLOBAL sync_binlog = 1").unwrap();
    serves();
}

#[test]
fn refuses_a_mariadb_that_denies_access() {
    let folder = TempDir::new().unwrap();
    let mut server = MariaDb::start(folder.path()).unwrap();
    let installation = Installation::new("DE");
    let check = |url: &str, password: &str, says: &[&str]| {
        let mut command = serve(&installation, url);
        refuses(&mut command, &[&["[database] url"], says].concat());
        assert!(!texts(&command.output().unwrap()).1.contains(password));
    };
    let url = server.url("nowhere");
    let password = url.split([':', '@']).nth(2).unwrap().to_owned();
    check(&url, &password, &["Unknown database 'nowhere'"]);
    let other = url.replace(&password, "s3cret");
    check(&other, "s3cret", &["Access denied"]);
    server.kill().unwrap();
    check(&url, &password, &["cannot open the database"]);
}

#[test]
fn refuses_a_file_that_is_not_a_database() {
    let installation = Installation::new("DE");
    fs::write(
        installation.path("efgs.sqlite"),
        "not a database ".repeat(100),
    )
    .unwrap();
    let mut command = serve(&installation, "sqlite:efgs.sqlite");
    refuses(
        &mut command,
        &["efgs.sqlite", "not a database", "[database] url"],
    );
    let mut command = serve(&installation, "sqlite:nowhere/efgs.sqlite");
    refuses(&mut command, &["nowhere/efgs.sqlite", "[database] url"]);
    fs::remove_file(installation.path("efgs.sqlite")).unwrap();
    succeeds(&mut installation.efgs(&["db", "migrate"]));
    let (gateway, _) = Gateway::start(&mut serve(&installation, "sqlite:efgs.sqlite"));
    assert!(gateway.stop("TERM").status.success());
}
