//! Runs and their labels in a report.

use std::path::Path;

use crate::results::Results;

/// Processes in the order in which they are shown.
pub(super) const PROCESSES: [&str; 3] = ["gateway", "database", "loadgen"];

/// A run and its label in the report.
#[derive(Debug)]
pub struct Named {
    /// Its label.
    pub label: String,
    /// Its file's name.
    pub file: String,
    /// Its results.
    pub results: Results,
}

/// Labels runs by their names, or by their files where names are the same.
pub fn named(runs: Vec<(&Path, Results)>) -> Vec<Named> {
    let names: Vec<_> = runs
        .iter()
        .map(|(_, results)| results.run.name.clone())
        .collect();
    let label = |(path, results): (&Path, Results)| {
        let file = path.file_name().unwrap_or(path.as_os_str());
        let file = file.to_string_lossy().into_owned();
        let name = &results.run.name;
        let alone = names.iter().filter(|other| *other == name).count() == 1;
        Named {
            label: if alone {
                name.clone()
            } else {
                format!("{name} ({file})")
            },
            file,
            results,
        }
    };
    runs.into_iter().map(label).collect()
}
