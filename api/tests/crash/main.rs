//! Nothing is lost, stored twice, renumbered or changed, whatever fails: gateways as processes,
//! real TLS, real databases, participants that upload, repeat and download throughout.
//!
//! | test | what fails |
//! | --- | --- |
//! | [`killed_gateway`] | the only gateway, on either database, 20 times |
//! | [`killed_among_others`] | one of two or four gateways on one MariaDB, the cutter above all |
//! | [`killed_database`] | MariaDB, under one gateway |
//! | [`lost_answers`] | connections to MariaDB, with answers to commits on them |
//! | [`full_disk`] | nothing; SQLite cannot write |
//! | [`graceful_shutdown`] | nothing; the gateway gets a shutdown signal |
//! | [`refusals`] | nothing; the gateway does not start |
//!
//! `EFGS_SEED=N` chooses another run, `EFGS_CRASHES=N` another number of crashes. A seed decides
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

mod full_disk;
mod graceful_shutdown;
mod killed_among_others;
mod killed_database;
mod killed_gateway;
mod lost_answers;
mod refusals;
