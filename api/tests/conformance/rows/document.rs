//! `docs/conformance.md`.

use std::collections::HashSet;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use super::{CoveredBy, Row, SECTIONS, Section, row_test};

/// Set to write the document instead of comparing it.
const WRITE: &str = "EFGS_WRITE_CONFORMANCE";

const HEAD: &str = "\
# Conformance

What the reference server does, row by row, what this gateway does, and the test that holds it.
Made by the tests: `EFGS_WRITE_CONFORMANCE=1 cargo test --package efgs-api --test conformance document`.

[protocol/wire.md](protocol/wire.md) describes the protocol as a whole. `§11.9` is the ninth rule of
its section 11; where a section has subsections, `§4.0.5` is the fifth rule before the first of them
and `§4.2.5` the fifth of subsection 4.2. `(a).7` is item 7 of the checklist in
[protocol/clients.md](protocol/clients.md). `A-1` and the like are defects of the reference, described
in [protocol/reference.md](protocol/reference.md#2-defects), and `#233` is an issue of its project.

A test runs on SQLite and on MariaDB; `cargo test --package efgs-api --test conformance §11.9` runs
that of one row. A test that is named by file and function belongs to another suite.
";

/// Where a section of the document is described: the page, and how its heading there begins.
fn described_in(section: &Section) -> (&'static str, &'static str) {
    match section.heading.split_once(' ') {
        Some(("(a)", _)) => ("clients.md", "§3"),
        Some((number, _)) => ("wire.md", number),
        None => panic!("{} has no number", section.heading),
    }
}

/// A link to where a section is described.
fn link(section: &Section) -> String {
    let (page, number) = described_in(section);
    let path = workspace().join("docs/protocol").join(page);
    let text = std::fs::read_to_string(&path).unwrap();
    let start = format!("{number} ");
    let heading = text
        .lines()
        .filter(|line| line.starts_with('#'))
        .map(|line| line.trim_start_matches('#').trim())
        .find(|heading| heading.starts_with(&start))
        .unwrap_or_else(|| panic!("{page} has no heading {number}"));
    let label = page.trim_end_matches(".md");
    format!("[{label} {number}](protocol/{page}#{})", anchor(heading))
}

/// The anchor that a heading gets where Markdown is shown.
fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase().replace(' ', "-");
    lower
        .chars()
        .filter(|c| c.is_alphanumeric() || *c == '-')
        .collect()
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Compares the committed document with the rows, or writes it.
pub(super) fn check() {
    let path = workspace().join("docs/conformance.md");
    let made = render();
    if std::env::var_os(WRITE).is_some() {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(&path, &made).unwrap();
    }
    let committed = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        committed == made,
        "docs/conformance.md is out of date: run the tests once with {WRITE}=1 and commit it"
    );
}

/// Row names are unique, and the tests that rows name exist.
pub(super) fn check_rows() {
    let (mut ids, mut tests) = (HashSet::new(), HashSet::new());
    for section in SECTIONS {
        for row in section.rows {
            assert!(ids.insert(row.id), "{} twice", row.id);
            match row.covered_by {
                CoveredBy::Check(name, _) => assert!(tests.insert((section.name, name)), "{name}"),
                CoveredBy::Test(test) => check_other_test(test),
            }
        }
    }
}

fn check_other_test(test: &str) {
    let (file, function) = test.split_once("::").unwrap();
    let path = workspace().join(file);
    let text = std::fs::read_to_string(path).unwrap_or_else(|error| panic!("{test}: {error}"));
    assert!(text.contains(&format!("fn {function}(")), "no test {test}");
}

fn render() -> String {
    let mut out = String::from(HEAD);
    let rows = || SECTIONS.iter().flat_map(|section| section.rows);
    let differing = rows().filter(|row| row.difference.is_some()).count();
    let count = rows().count();
    writeln!(out, "\n{count} rows, {differing} deliberate differences.").unwrap();
    for section in SECTIONS {
        render_section(&mut out, section);
    }
    out
}

fn render_section(out: &mut String, section: &Section) {
    writeln!(out, "\n## {}\n", section.heading).unwrap();
    writeln!(out, "Described in {}.\n", link(section)).unwrap();
    if section.rows.is_empty() {
        out.push_str("No row yet.\n");
        return;
    }
    out.push_str("| Row | Reference | This gateway | Test | Why it differs |\n");
    out.push_str("| --- | --- | --- | --- | --- |\n");
    for row in section.rows {
        render_row(out, section, row);
    }
}

fn render_row(out: &mut String, section: &Section, row: &Row) {
    let (gateway, reason) = match &row.difference {
        None => ("the same", ""),
        Some(difference) => (difference.gateway, difference.reason),
    };
    let test = match row.covered_by {
        CoveredBy::Check(name, _) => row_test(section, row, name),
        CoveredBy::Test(test) => test.to_owned(),
    };
    let cells = [row.reference, gateway, reason].map(|text| text.replace('|', "\\|"));
    let [reference, gateway, reason] = cells;
    writeln!(
        out,
        "| {} | {reference} | {gateway} | `{test}` | {reason} |",
        row.id
    )
    .unwrap();
}
