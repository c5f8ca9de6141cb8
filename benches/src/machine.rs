//! On what, and on which commit, something was measured.

use std::process::Command;

use serde::{Deserialize, Serialize};

/// What a figure depends on beside the code.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Machine {
    /// The processor's name.
    pub(crate) processor: String,
    /// Its cores.
    pub(crate) cores: usize,
    /// Memory in mebibytes.
    pub(crate) memory_mib: u64,
    /// Kernel.
    pub(crate) kernel: String,
    /// The compiler.
    pub(crate) rustc: String,
    /// What counts instructions.
    pub(crate) valgrind: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
        let field = |text: &str, name: &str| {
            let line = text.lines().find(|line| line.starts_with(name));
            let value = line.and_then(|line| line.split_once(':'));
            value.map_or_else(
                || "unknown".to_owned(),
                |(_, value)| value.trim().to_owned(),
            )
        };
        let memory = field(&read("/proc/meminfo"), "MemTotal");
        let memory = memory.trim_end_matches(" kB").parse::<u64>();
        Self {
            processor: field(&read("/proc/cpuinfo"), "model name"),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory.unwrap_or(0) >> 10,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            rustc: said("rustc", &["--version"]),
            valgrind: said("valgrind", &["--version"]),
        }
    }
}

/// The commit that is checked out; with a plus when files differ from it.
pub(crate) fn commit() -> String {
    let commit = said("git", &["rev-parse", "--short", "HEAD"]);
    let changed = said("git", &["status", "--porcelain", "--untracked-files=no"]);
    let changed = !changed.is_empty() && changed != "unknown";
    format!("{commit}{}", if changed { "+" } else { "" })
}

/// The load average, as the kernel says it.
pub(crate) fn load() -> String {
    let text = std::fs::read_to_string("/proc/loadavg").unwrap_or_default();
    text.split_whitespace()
        .take(3)
        .collect::<Vec<_>>()
        .join(" ")
}

/// What a program prints; `unknown` when it cannot be run.
fn said(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}
