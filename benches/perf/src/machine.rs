//! The machine and the commit of a measurement.

use std::process::Command;

use procfs::{CpuInfo, Current as _, LoadAverage, Meminfo};
use serde::{Deserialize, Serialize};

/// The environment of a measurement.
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
    /// The instruction counter.
    pub(crate) valgrind: String,
}

impl Machine {
    pub(crate) fn here() -> Self {
        let cpu = CpuInfo::current().ok();
        let memory = Meminfo::current().map_or(0, |memory| memory.mem_total);
        let unknown = || "unknown".to_owned();
        Self {
            processor: cpu
                .and_then(|cpu| cpu.model_name(0).map(str::to_owned))
                .unwrap_or_else(unknown),
            cores: std::thread::available_parallelism().map_or(1, usize::from),
            memory_mib: memory >> 20,
            kernel: rustix::system::uname()
                .release()
                .to_string_lossy()
                .into_owned(),
            rustc: command_output("rustc", &["--version"]),
            valgrind: command_output("valgrind", &["--version"]),
        }
    }
}

/// The commit that is checked out, with a plus sign when the working tree differs from it.
pub(crate) fn commit() -> String {
    let commit = command_output("git", &["rev-parse", "--short", "HEAD"]);
    let changed = command_output("git", &["status", "--porcelain", "--untracked-files=no"]);
    let changed = !changed.is_empty() && changed != "unknown";
    format!("{commit}{}", if changed { "+" } else { "" })
}

/// The load averages over 1, 5 and 15 minutes.
pub(crate) fn load() -> String {
    LoadAverage::current().map_or_else(
        |_| "unknown".to_owned(),
        |load| format!("{:.2} {:.2} {:.2}", load.one, load.five, load.fifteen),
    )
}

/// The output of a program; `unknown` when it cannot be run.
fn command_output(program: &str, arguments: &[&str]) -> String {
    match Command::new(program).args(arguments).output() {
        Ok(output) if output.status.success() => {
            String::from_utf8_lossy(&output.stdout).trim().to_owned()
        }
        _ => "unknown".to_owned(),
    }
}
