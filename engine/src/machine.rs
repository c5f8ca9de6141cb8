//! How much memory this process may use.

use std::fs;
use std::path::{Path, PathBuf};

/// The memory of the machine, or the limit of the control group that the process is in, whichever is
/// less; `None` where neither can be found out.
pub(crate) fn memory_bytes() -> Option<u64> {
    let group = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let limits = group_limits(Path::new("/sys/fs/cgroup"), &group);
    limits.into_iter().chain(total(&info)).min()
}

/// The limits of a group and of those that it is in: version 2, otherwise version 1.
fn group_limits(root: &Path, group: &str) -> Vec<u64> {
    let mut files: Vec<PathBuf> = vec![root.join("memory/memory.limit_in_bytes")];
    for line in group.lines() {
        let path = line.rsplit(':').next().unwrap_or_default();
        let relative = Path::new(path.trim_start_matches('/'));
        let is_memory = line.split(':').nth(1) == Some("memory");
        let (top, name) = match is_memory {
            true => (root.join("memory"), "memory.limit_in_bytes"),
            false => (root.to_owned(), "memory.max"),
        };
        files.extend(relative.ancestors().map(|group| top.join(group).join(name)));
    }
    let read = |file: &PathBuf| fs::read_to_string(file).ok()?.trim().parse().ok();
    files.iter().filter_map(read).collect()
}

/// `MemTotal` of `/proc/meminfo`.
fn total(info: &str) -> Option<u64> {
    let line = info
        .lines()
        .find_map(|line| line.strip_prefix("MemTotal:"))?;
    let kibibytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kibibytes << 10)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_the_least_of_the_machine_and_the_groups_around_the_process() {
        let root = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let file = root.path().join(name);
            fs::create_dir_all(file.parent().unwrap()).unwrap();
            fs::write(file, text).unwrap();
        };
        write("kube/pod/memory.max", "max\n");
        write("kube/memory.max", "536870912\n");
        assert_eq!(group_limits(root.path(), "0::/kube/pod\n"), [512 << 20]);
        assert!(group_limits(root.path(), "0::/\n").is_empty());
        write("memory/docker/memory.limit_in_bytes", "1073741824\n");
        let limits = group_limits(root.path(), "4:memory:/docker\n1:name=systemd:/x\n");
        assert_eq!(limits, [1 << 30]);
        assert_eq!(
            total("MemTotal:       16384 kB\nMemFree: 1 kB\n"),
            Some(16 << 20)
        );
        assert_eq!(total(""), None);
        assert!(memory_bytes().is_some(), "this machine has memory");
    }
}
