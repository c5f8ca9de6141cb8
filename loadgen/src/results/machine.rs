//! What a run was measured on.

use serde::{Deserialize, Serialize};

/// A machine, as Linux describes it.
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
        let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cpu_model: value_of(&read("/proc/cpuinfo"), "model name").unwrap_or_default(),
            cpus: std::thread::available_parallelism().map_or(1, usize::from),
            memory_bytes: memory_bytes(&read("/proc/meminfo")).unwrap_or(0),
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
        }
    }
}

fn value_of(text: &str, name: &str) -> Option<String> {
    let mut pairs = text.lines().filter_map(|line| line.split_once(':'));
    let (_, value) = pairs.find(|(key, _)| key.trim() == name)?;
    Some(value.trim().to_owned())
}

fn memory_bytes(meminfo: &str) -> Option<u64> {
    let total = value_of(meminfo, "MemTotal")?;
    let kilobytes: u64 = total.strip_suffix(" kB")?.parse().ok()?;
    Some(kilobytes * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_what_linux_writes() {
        let cpuinfo = "processor\t: 0\nmodel name\t: Intel(R) Xeon(R) @ 2.20GHz\nflags\t\t: fpu\n";
        let name = value_of(cpuinfo, "model name");
        assert_eq!(name.as_deref(), Some("Intel(R) Xeon(R) @ 2.20GHz"));
        let meminfo = "MemTotal:       24602468 kB\nMemFree:         1000 kB\n";
        assert_eq!(memory_bytes(meminfo), Some(25_192_927_232));
        assert_eq!(memory_bytes("MemTotal: many"), None);
    }
}
