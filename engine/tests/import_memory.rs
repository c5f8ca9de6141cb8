//! Import: a large download batch takes no more memory than a small one.
//!
//! `EFGS_IMPORT_UPLOADS` sets how many uploads of 5000 keys it has (160 for 800,000 keys).

#![allow(clippy::unwrap_used, reason = "tests")]
#![allow(clippy::print_stdout, reason = "shows what was measured")]

mod reference;
mod support;

use std::fs;

use mysql::prelude::Queryable as _;
use reference::{DE, ReferenceServer, STRICT, run};
use support::Installation;
use testkit::local::MariaDb;

/// Bytes that were resident: now, or at most since the peak was reset.
fn resident(name: &str) -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find(|line| line.starts_with(name)).unwrap();
    let kibibytes: u64 = line.split_whitespace().nth(1).unwrap().parse().unwrap();
    kibibytes * 1024
}

#[test]
fn a_large_download_batch_is_streamed() {
    let uploads = std::env::var("EFGS_IMPORT_UPLOADS").map_or(5, |text| text.parse().unwrap());
    let begun = std::time::Instant::now();
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    let mut reference = ReferenceServer::new(&server, "reference");
    reference.list_batch("20210601-1", None, "2021-06-01 00:05:00");
    for number in 0..uploads {
        let keys = number * 5000..(number + 1) * 5000;
        let request = reference.request(DE, &number.to_string(), keys);
        reference
            .connection
            .query_drop("START TRANSACTION")
            .unwrap();
        reference.store(&request, 0..5000, Some("20210601-1"));
        reference.connection.query_drop("COMMIT").unwrap();
    }
    println!("{:?}: prepared", begun.elapsed());
    let target = Installation::fresh_on_sqlite();
    let before = resident("VmRSS:");
    fs::write("/proc/self/clear_refs", "5").unwrap();
    let imported = run(&reference, &target, STRICT).unwrap();
    let more = resident("VmHWM:").saturating_sub(before);
    println!(
        "{:?}: {} keys in one download batch: {} MiB more",
        begun.elapsed(),
        imported.keys,
        more >> 20
    );
    assert_eq!(imported.keys, uploads * 5000);
    assert!(more < 25 << 20, "{more} bytes");
}
