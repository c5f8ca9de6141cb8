//! Synthetic participants: keys from a seed, real batch signatures, load over real connections, and
//! end-to-end verification that trusts the gateway in nothing. A library first: tests and benches
//! borrow it; the binary `loadgen` only reads arguments and prints.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`participants`] | certificates and keys, from the folder that `efgs init` writes |
//! | [`profiles`] | named volumes, spread over the participants |
//! | [`keys`] | diagnosis keys from a seed |
//! | [`signer`] | detached CMS signatures |
//! | [`workload`] | the uploads of a run, made ready ahead of time |
//! | [`client`] | kept-alive HTTP with mutual TLS, or with a proxy's identity headers |
//! | [`scenario`] | who sends what, when |
//! | [`schedule`] | timetables from a seed |
//! | [`hostile`] | requests that no participant should send |
//! | [`load`] | runs scenarios and measures them second by second |
//! | [`find_limit`] | the rate at which an objective breaks |
//! | [`record`] | what was sent and answered, as JSON lines |
//! | [`results`] | what a run measured, as JSON lines, for plans and reports |
//! | [`plan`] | capacity plans from volumes and unit costs |
//! | [`report`] | what runs measured, as one page with plots |
//! | [`quantity`] | numbers with units, for people |
//! | [`verify`] | downloads as every participant, and judges |
//! | [`steps`] | prepare, upload, download, each with its progress bar |
//! | [`config`] | settings from a file |
//! | [`progress`] | bars on a terminal |
//! | [`local`] | private MariaDB servers and gateways, for tests, benches and the demo |
//! | [`demo`] | all of it with one command |

pub mod client;
pub mod config;
pub mod demo;
mod der;
pub mod find_limit;
pub mod hostile;
pub mod keys;
pub mod load;
pub mod local;
mod pace;
pub mod participants;
pub mod plan;
pub mod profiles;
pub mod progress;
pub mod protocol;
pub mod quantity;
pub mod record;
pub mod report;
pub mod results;
pub mod scenario;
pub mod schedule;
pub mod signer;
pub mod steps;
pub mod verify;
pub mod workload;
