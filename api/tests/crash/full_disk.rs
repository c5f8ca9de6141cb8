//! SQLite's files cannot grow, and later they can again.
//!
//! A bound on the size of files stands in for a full disk: it needs no privileges, and hits a write
//! in the middle as a full disk does.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use rand::Rng;
use tempfile::TempDir;

use crate::crash_test::{CrashTest, Setup};
use crate::seed;

#[test]
fn refuses_uploads_until_the_disk_has_space_again() {
    let mut test = CrashTest::start(&Setup {
        errors_allowed: true,
        program: ignoring_sigxfsz,
        ..Setup::new("full disk")
    });
    test.put_under_load();
    for round in 0..seed::crashes(8).div_ceil(5) {
        test.wait_for_a_random_instant(round);
        let growth = test.random.random_range(0..300_000);
        let full = largest_file(&test) + growth;
        test.gateways[0].limit_file_bytes(Some(full)).unwrap();
        test.wait_for_more("errors", 5, |counts| counts.errors);
        if round % 2 == 0 {
            test.gateways[0].limit_file_bytes(None).unwrap();
        } else {
            // A new process has no bound.
            test.gateways[0].kill9().unwrap();
            test.gateways[0].restart().unwrap();
        }
        test.wait_for_more("uploads", 10, |counts| counts.stored);
    }
    test.finish();
}

/// `efgs`, with a write beyond the bound that fails instead of ending the process.
fn ignoring_sigxfsz(folder: &TempDir) -> PathBuf {
    let program = folder.path().join("efgs.sh");
    let efgs = env!("CARGO_BIN_EXE_efgs");
    let script = format!("#!/bin/sh\ntrap '' XFSZ\nexec '{efgs}' \"$@\"\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    program
}

/// Size of the database file or its log, whichever is larger.
fn largest_file(test: &CrashTest) -> u64 {
    let names = ["efgs.sqlite", "efgs.sqlite-wal"];
    let files = names.map(|name| test.folder.path().join("efgs").join(name));
    let sizes = files.iter().filter_map(|file| fs::metadata(file).ok());
    sizes.map(|metadata| metadata.len()).max().unwrap()
}
