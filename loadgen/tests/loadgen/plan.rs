//! `loadgen plan` and `loadgen report` on the command line.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn loadgen(folder: &Path, arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_loadgen"))
        .args(arguments)
        .current_dir(folder)
        .output()
        .unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn writes_plan_html_when_no_file_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let output = loadgen(folder.path(), &["plan", "--profile", "worst-day", "--html"]);
    let said = text(&output.stdout);
    assert!(output.status.success(), "{}", text(&output.stderr));
    assert!(
        said.contains("gateways with") && said.ends_with("plan.html\n"),
        "{said}"
    );
    let html = fs::read_to_string(folder.path().join("plan.html")).unwrap();
    assert!(html.contains("Capacity plan: worst-day") && html.contains("What to buy"));
}

#[test]
fn prints_json_of_the_profile_with_what_was_changed() {
    let folder = tempfile::tempdir().unwrap();
    let arguments = [
        "plan",
        "--profile",
        "peak-2022",
        "--set",
        "participants=11",
        "--json",
    ];
    let output = loadgen(folder.path(), &arguments);
    let plan: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    // 3.5 million keys of 60 bytes to ten others.
    assert_eq!(plan["load"]["bytes_out_per_day"], 2.1e9);
    assert_eq!(plan["profile"], "peak-2022");
}

#[test]
fn lists_the_names_of_assumptions_when_one_is_unknown() {
    let folder = tempfile::tempdir().unwrap();
    let output = loadgen(folder.path(), &["plan", "--set", "speed=1"]);
    let said = text(&output.stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(
        said.contains("speed; there are keys_per_day, participants"),
        "{said}"
    );
}

/// Results of a run without a summary: enough to know its database.
fn write_results(folder: &Path, database: &str) {
    let run = format!(
        r#"{{"kind":"run","version":1,"name":"day","scenario":"","seed":1,"started":"2026-01-02T03:04:05Z",
        "machine":{{"cpu_model":"","cpus":2,"memory_bytes":0,"kernel":""}},"targets":[],
        "transport":{{"authentication":"mtls","http":"http1"}},"database":"{database}","command":[],
        "program_version":"0"}}"#
    );
    fs::write(folder.join("r.jsonl"), run.replace('\n', " ") + "\n").unwrap();
}

#[test]
fn checks_a_run_with_the_costs_of_its_own_database() {
    let folder = tempfile::tempdir().unwrap();
    for (database, costs, other) in [
        ("SQLite", "predicted by SQLite", "MariaDB"),
        ("MariaDB", "predicted by MariaDB", "SQLite"),
    ] {
        write_results(folder.path(), database);
        let output = loadgen(folder.path(), &["plan", "--check", "r.jsonl"]);
        let said = text(&output.stdout);
        assert!(said.contains(costs) && !said.contains(other), "{said}");
    }
    write_results(folder.path(), "SQLite");
    let arguments = ["plan", "--check", "r.jsonl", "--database", "mysql"];
    let said = text(&loadgen(folder.path(), &arguments).stdout);
    assert!(
        said.contains("The run was on SQLite, and these costs were measured on MariaDB"),
        "{said}"
    );
}

#[test]
fn names_the_line_of_results_that_it_cannot_read() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("r.jsonl"), "{\"kind\":\"minute\"}\n").unwrap();
    for command in [&["report", "r.jsonl"][..], &["plan", "--check", "r.jsonl"]] {
        let output = loadgen(folder.path(), command);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(2), "{command:?}");
        assert!(said.contains("r.jsonl, line 1: "), "{said}");
    }
    assert!(!folder.path().join("report.html").exists());
}
