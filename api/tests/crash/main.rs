//! Nothing is lost, stored twice, renumbered or changed, whoever dies: gateways as processes, real
//! TLS, real databases, participants that upload, repeat and download all the while.
//!
//! | scene | what dies |
//! | --- | --- |
//! | [`killed_gateway`] | the only gateway, on either database, 20 times |
//! | [`killed_among_others`] | one of two or four gateways on one MariaDB, the cutter above all |
//! | [`killed_database`] | MariaDB, under one gateway |
//! | [`lost_answers`] | connections to MariaDB, with answers to commits on them |
//! | [`full_disk`] | nobody; SQLite cannot write |
//! | [`orderly_stop`] | nobody; the gateway is told to stop |
//! | [`refusals`] | nobody; the gateway does not start |
//!
//! `EFGS_SEED=N` chooses another run, `EFGS_CRASHES=N` another number of crashes. A seed decides
//! what is uploaded and when a process dies; how threads and processes interleave, it cannot.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test stops at the first surprise and prints its seed"
)]

#[path = "../cli_support/mod.rs"]
mod cli_support;

mod book;
mod judge;
mod lines;
mod load;
mod scene;
mod seed;
mod uploads;

mod full_disk;
mod killed_among_others;
mod killed_database;
mod killed_gateway;
mod lost_answers;
mod orderly_stop;
mod refusals;
