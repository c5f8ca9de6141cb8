//! The disk with an SQLite database. A database server watches its own.

use std::path::Path;

use super::finding::{Finding, Severity};

/// The space of a disk, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Space {
    free: u64,
    all: u64,
}

/// The space for a file, as far as the process may use it.
pub(super) fn space(file: &Path) -> Option<Space> {
    let folder = file.parent()?;
    let folder = if folder.as_os_str().is_empty() {
        Path::new(".")
    } else {
        folder
    };
    let read = rustix::fs::statvfs(folder).ok()?;
    Some(Space {
        free: read.f_bavail.saturating_mul(read.f_frsize),
        all: read.f_blocks.saturating_mul(read.f_frsize),
    })
}

const MIB: u64 = 1 << 20;

/// A tenth of a disk warns, a fiftieth is an error; on large disks 10 GiB and 1 GiB do.
pub(super) fn finding(space: Space) -> Option<Finding> {
    let below = |share: u64, bytes_max: u64| space.free < (space.all / share).min(bytes_max);
    let severity = if below(50, 1024 * MIB) {
        Severity::Error
    } else if below(10, 10 * 1024 * MIB) {
        Severity::Warning
    } else {
        return None;
    };
    let (free, all) = (space.free / MIB, space.all / MIB);
    Some(Finding {
        severity,
        subject: "disk".to_owned(),
        text: format!(
            "the disk with the database has {free} MiB free of {all}: uploads are refused once it is full; \
             make room"
        ),
    })
}

/// Sets the metrics.
#[allow(clippy::cast_precision_loss, reason = "bytes are far below 2^53")]
pub(super) fn measure(space: Option<Space>) {
    let (free, all) = space.map_or((f64::NAN, f64::NAN), |space| {
        (space.free as f64, space.all as f64)
    });
    metrics::gauge!("efgs_database_disk_free_bytes").set(free);
    metrics::gauge!("efgs_database_disk_bytes").set(all);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_the_space_of_a_file_that_may_not_exist_yet() {
        let folder = tempfile::tempdir().unwrap();
        let space = space(&folder.path().join("efgs.sqlite")).unwrap();
        assert!(space.free <= space.all && space.all > 0, "{space:?}");
        assert_eq!(super::space(&folder.path().join("no/efgs.sqlite")), None);
    }

    #[test]
    fn warns_at_a_tenth_and_calls_a_fiftieth_an_error() {
        let check = |free_mib: u64, all_mib: u64, expected| {
            let (free, all) = (free_mib * MIB, all_mib * MIB);
            let found = finding(Space { free, all });
            assert_eq!(
                found.map(|found| found.severity),
                expected,
                "{free_mib} of {all_mib}"
            );
        };
        check(10_000, 100_000, None);
        check(9_999, 100_000, Some(Severity::Warning));
        check(1_023, 100_000, Some(Severity::Error));
        check(19, 1000, Some(Severity::Error));
        check(20 * 1024, 10_000_000, None);
        check(10 * 1024 - 1, 10_000_000, Some(Severity::Warning));
        check(1023, 10_000_000, Some(Severity::Error));
    }
}
