//! Finds programs on this machine, and the last lines of their logs.

use std::path::{Path, PathBuf};
use std::time::Duration;

/// Timeout for a server to become ready.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(60);

/// The last lines of a log, for an error message.
pub(super) fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<_> = text.lines().collect();
    lines[lines.len().saturating_sub(5)..].join(" | ")
}

/// Finds a program in `PATH` or the usual folders of servers.
pub(super) fn find_program(names: &[&str]) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let usual = ["/usr/sbin", "/usr/local/sbin", "/usr/libexec"].map(PathBuf::from);
    let folders: Vec<_> = std::env::split_paths(&path).chain(usual).collect();
    let candidates = names
        .iter()
        .flat_map(|name| folders.iter().map(move |f| f.join(name)));
    candidates.into_iter().find(|candidate| candidate.is_file())
}
