//! Instruction counts: runs the bench `counts` under callgrind and reads the results.
//!
//! gungraun makes the benches and runs valgrind (fixed environment, no address randomisation, the
//! count limited to the bench function); its own comparison is with files below `target/`, so the
//! committed baseline is compared here.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, bail, ensure};
use serde_json::Value;

/// Where `.ci/gungraun` installs the runner.
const RUNNER: &str = "target/tools/bin/gungraun-runner";
/// Callgrind's name for executed instructions.
const INSTRUCTIONS: &str = "Ir";

/// Executed instructions of each bench, by `stage/shape/size`.
pub(crate) type Counts = BTreeMap<String, u64>;

/// Counts.
///
/// # Errors
/// When a tool is missing; the message says what to install.
pub(crate) fn count() -> anyhow::Result<Counts> {
    let runner = std::env::current_dir()?.join(RUNNER);
    ensure!(
        runner.is_file(),
        "{RUNNER} is missing: run .ci/packages perf && .ci/gungraun, or make perf-counts"
    );
    let home = std::env::current_dir()?.join("target/gungraun");
    let _ = std::fs::remove_dir_all(&home);
    eprintln!("counting instructions under callgrind");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let output = Command::new(cargo)
        .args(["bench", "--quiet", "--package", "efgs-benches"])
        .args(["--features", "counts", "--bench", "counts", "--"])
        .args(["--save-summary=json", "--allow-aslr=no"])
        .arg(format!("--home={}", home.display()))
        .env("GUNGRAUN_RUNNER", &runner)
        .stdin(Stdio::null())
        .output()
        .context("cannot run cargo")?;
    if !output.status.success() {
        bail!(
            "the bench `counts` failed:\n{}{}",
            String::from_utf8_lossy(&output.stdout),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let mut counts = Counts::new();
    for file in summaries(&home)? {
        let text = std::fs::read_to_string(&file)?;
        let (name, count) = read_summary(&text)
            .with_context(|| format!("{} is not as expected", file.display()))?;
        counts.insert(name, count);
    }
    ensure!(!counts.is_empty(), "gungraun wrote no summary");
    Ok(counts)
}

fn summaries(folder: &Path) -> anyhow::Result<Vec<PathBuf>> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            found.extend(summaries(&path)?);
        } else if path.file_name().is_some_and(|name| name == "summary.json") {
            found.push(path);
        }
    }
    Ok(found)
}

/// The name of a bench as the baseline has it, and its count.
fn read_summary(text: &str) -> Option<(String, u64)> {
    let summary: Value = serde_json::from_str(text).ok()?;
    let function = summary.get("function_name")?.as_str()?;
    let id = summary.get("id")?.as_str()?;
    let count = find(&summary, INSTRUCTIONS).and_then(first_number)?;
    Some((bench_name(function, id)?, count))
}

/// `walk_rsa_2048` and `k5000` are `walk/rsa_2048/5000`.
fn bench_name(function: &str, id: &str) -> Option<String> {
    let (stage, shape) = function.split_once('_')?;
    Some(format!("{stage}/{shape}/{}", id.strip_prefix('k')?))
}

/// The first member of that name, however deep.
fn find<'v>(value: &'v Value, name: &str) -> Option<&'v Value> {
    match value {
        Value::Object(members) => members
            .get(name)
            .or_else(|| members.values().find_map(|member| find(member, name))),
        Value::Array(elements) => elements.iter().find_map(|element| find(element, name)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => None,
    }
}

fn first_number(value: &Value) -> Option<u64> {
    match value {
        Value::Number(number) => number.as_u64(),
        Value::Object(members) => members.values().find_map(first_number),
        Value::Array(elements) => elements.iter().find_map(first_number),
        Value::Null | Value::Bool(_) | Value::String(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_benches_by_stage_shape_and_size() {
        let name = bench_name("walk_rsa_2048_json", "k5000");
        assert_eq!(name.as_deref(), Some("walk/rsa_2048_json/5000"));
        assert_eq!(bench_name("walk", "k1"), None);
    }
}
