//! The gateway may open few files, while peers hold all connections that they can and it is killed.

use std::fs;
use std::net::TcpStream;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use tempfile::TempDir;

use crate::crash_test::{CrashTest, Setup};
use crate::seed;

/// As many connections as files, and some.
const HELD: usize = 450;

#[test]
fn goes_on_when_peers_hold_more_connections_than_files() {
    let mut test = CrashTest::start(&Setup {
        program: with_few_files,
        ..Setup::new("few files")
    });
    test.put_under_load();
    for round in 0..seed::crashes(8).div_ceil(5) {
        let public = test.gateways[0].public();
        let connect = || TcpStream::connect(public).ok();
        let held: Vec<_> = (0..HELD).filter_map(|_| connect()).collect();
        test.wait_for_more("uploads", 10, |counts| counts.stored);
        drop(held);
        test.wait_for_a_random_instant(round);
        test.gateways[0].kill9().unwrap();
        test.gateways[0].restart().unwrap();
    }
    test.finish();
}

/// `efgs` under a limit on open files.
fn with_few_files(folder: &TempDir) -> PathBuf {
    let program = folder.path().join("efgs.sh");
    let efgs = env!("CARGO_BIN_EXE_efgs");
    let script = format!("#!/bin/sh\nulimit -n 400\nexec '{efgs}' \"$@\"\n");
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    program
}
