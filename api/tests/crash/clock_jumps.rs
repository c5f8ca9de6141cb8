//! The gateway's clock jumps by hours and weeks under load, and back: as a virtual machine that was
//! paused, or a time server that is wrong. The monotonic clock continues as it does then.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use rand::seq::IndexedRandom as _;
use tempfile::TempDir;

use testkit::poll::holds_within;

use crate::crash_test::{CrashTest, Setup, TIMEOUT};
use crate::seed;

/// As libfaketime reads them. Not to the next day, which is believed once.
const JUMPS: [&str; 5] = ["+40d", "+15d", "+2d", "+300d", "+3d"];
const RIGHT: &str = "+0";

#[test]
fn nothing_is_lost_or_deleted_whatever_the_clock_shows() {
    let mut test = CrashTest::start(&Setup {
        // Certificates and signatures are checked by the clock that is there.
        errors_allowed: true,
        program: with_a_clock_that_is_set,
        ..Setup::new("clock jumps")
    });
    test.put_under_load();
    for round in 0..seed::crashes(8).div_ceil(2) {
        test.wait_for_a_random_instant(round);
        let jump = JUMPS.choose(&mut test.random).unwrap();
        set_clock(&test.folder, jump);
        wait_until_day_is_in_doubt(&test);
        // Whatever is answered meanwhile; and one that starts then knows the day from the database.
        test.wait_for_more("answers", 20, |counts| counts.stored + counts.errors);
        if round % 2 == 1 {
            test.gateways[0].kill9().unwrap();
            test.gateways[0].restart().unwrap();
            test.wait_for_more("answers", 10, |counts| counts.stored + counts.errors);
        }
        set_clock(&test.folder, RIGHT);
        test.wait_for_more("uploads", 10, |counts| counts.stored);
    }
    test.finish();
}

fn wait_until_day_is_in_doubt(test: &CrashTest) {
    let in_doubt = || {
        let status = test.get_operations(0, "/status");
        status.is_some_and(|(_, status)| status.contains("\"dayInDoubt\":\""))
    };
    if !holds_within(TIMEOUT, in_doubt) {
        test.fail("the gateway does not see that its clock jumps");
    }
}

fn clock_file(folder: &TempDir) -> PathBuf {
    folder.path().join("clock")
}

/// In one step: the gateway reads the file at each look at its clock.
fn set_clock(folder: &TempDir, offset: &str) {
    let beside = folder.path().join("clock.new");
    fs::write(&beside, offset).unwrap();
    fs::rename(beside, clock_file(folder)).unwrap();
}

/// `efgs` with libfaketime, whose wall clock is off by what the file says.
fn with_a_clock_that_is_set(folder: &TempDir) -> PathBuf {
    set_clock(folder, RIGHT);
    let program = folder.path().join("efgs.sh");
    let (efgs, file) = (env!("CARGO_BIN_EXE_efgs"), clock_file(folder));
    let script = format!(
        "#!/bin/sh\nexport LD_PRELOAD='{}' FAKETIME_TIMESTAMP_FILE='{}'\n\
         export FAKETIME_NO_CACHE=1 FAKETIME_DONT_FAKE_MONOTONIC=1\nexec '{efgs}' \"$@\"\n",
        library().display(),
        file.display()
    );
    fs::write(&program, script).unwrap();
    fs::set_permissions(&program, fs::Permissions::from_mode(0o700)).unwrap();
    program
}

fn library() -> PathBuf {
    let folders = fs::read_dir("/usr/lib").unwrap();
    let libraries = folders.filter_map(Result::ok).map(|folder| folder.path());
    let mut libraries = libraries.map(|folder| folder.join("faketime/libfaketimeMT.so.1"));
    let found = libraries.find(|library| Path::exists(library));
    found.expect("libfaketime is there: .ci/packages installs it")
}
