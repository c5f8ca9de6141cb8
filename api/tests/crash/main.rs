//! Nothing is lost, stored twice, renumbered or changed, whatever fails: gateways as processes,
//! real TLS, real databases, participants that upload, repeat and download throughout.
//!
//! | test | what fails |
//! | --- | --- |
//! | [`killed_gateway`] | the only gateway, on either database, 8 times |
//! | [`killed_among_others`] | one of two or four gateways on one MariaDB, the cutter above all |
//! | [`killed_database`] | MariaDB, under one gateway |
//! | [`galera`] | nodes of a cluster, one after the other and all at once |
//! | [`lost_answers`] | connections to MariaDB, with answers to commits on them |
//! | [`refusing_database`] | MariaDB is read-only, full, or behind, under two gateways |
//! | [`clock_jumps`] | nothing; the wall clock of the only gateway jumps |
//! | [`full_disk`] | nothing; SQLite cannot write |
//! | [`few_files`] | the only gateway; peers hold more connections than it may open files |
//! | [`graceful_shutdown`] | nothing; the gateway gets a shutdown signal |
//! | [`refusals`] | nothing; the gateway does not start |
//!
//! `EFGS_SEED=N` chooses another run, `EFGS_CRASHES=N` another number of crashes than 8 (`make crash`:
//! 20). A seed decides
//! what is uploaded and when a process dies, but not how threads and processes interleave.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at the first failure and prints its seed"
)]

#[path = "../cli_support/mod.rs"]
mod cli_support;

mod connections;
mod crash_test;
mod final_check;
mod history;
mod load;
mod seed;
mod uploads;

mod changed_password;
mod clock_jumps;
mod few_files;
mod full_disk;
mod galera;
mod graceful_shutdown;
mod killed_among_others;
mod killed_database;
mod killed_gateway;
mod lost_answers;
mod refusals;
mod refusing_database;
mod restored;
