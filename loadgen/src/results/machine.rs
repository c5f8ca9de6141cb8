//! The machine of a run.

use procfs::{CpuInfo, Current as _, Meminfo};
use serde::{Deserialize, Serialize};

/// A machine, as described by Linux.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machine {
    /// The processor's name; empty when unknown.
    pub cpu_model: String,
    /// Processors that this process may use.
    pub cpus: usize,
    /// Memory of the machine; 0 when unknown.
    pub memory_bytes: u64,
    /// Version of the kernel; empty when unknown.
    pub kernel: String,
}

impl Machine {
    /// This machine.
    pub fn here() -> Self {
        let model = CpuInfo::current().ok();
        let model = model.as_ref().and_then(|cpus| cpus.model_name(0));
        let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease");
        Self {
            cpu_model: model.unwrap_or_default().to_owned(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: Meminfo::current().map_or(0, |memory| memory.mem_total),
            // procfs reads three numbers of it, and drops what a distribution appends.
            kernel: kernel.unwrap_or_default().trim().to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn describes_this_machine() {
        let here = Machine::here();
        assert!(here.cpus > 0 && !here.kernel.contains('\n'), "{here:?}");
        assert!(here.memory_bytes > 100 << 20, "{here:?}");
    }
}
