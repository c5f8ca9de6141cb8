//! Synthetic participants: keys from a seed, real batch signatures, load over real connections, and
//! end-to-end verification that does not trust the gateway. A library first: tests and benches use
//! it; the binary `loadgen` only reads arguments and prints. Participants, keys, signatures and
//! private servers are [`testkit`]; HTTP is [`client`].
//!
//! | module | what it is |
//! | --- | --- |
//! | [`profiles`] | named volumes, spread over the participants |
//! | [`scenario`] | which participants send what, and when |
//! | [`schedule`] | timetables from a seed |
//! | [`hostile`] | requests that no participant should send |
//! | [`load`] | runs scenarios and measures them second by second |
//! | [`objective`] | what a run must reach |
//! | [`verdict`] | the sentence that a run ends with |
//! | [`find_limit`] | the rate at which an objective fails |
//! | [`record`] | what was sent and answered, as JSON lines |
//! | [`results`] | what a run measured, as JSON lines, for plans and reports |
//! | [`plan`] | capacity plans from volumes and unit costs |
//! | [`report`] | what runs measured, as one page with plots |
//! | [`quantity`] | human-readable numbers with units |
//! | [`verify`] | downloads as every participant, and checks |
//! | [`steps`] | prepare, upload, download, each with its progress bar |
//! | [`config`] | settings from a file |
//! | [`progress`] | bars on a terminal |
//! | [`demo`] | all of it in one command |
//! | [`fairness`] | whether large uploads are stored in time alongside small ones on a cluster |

pub mod config;
pub mod demo;
pub mod fairness;
pub mod find_limit;
pub mod hostile;
pub mod load;
pub mod objective;
pub mod plan;
mod process;
pub mod profiles;
pub mod progress;
pub mod quantity;
pub mod record;
pub mod report;
pub mod results;
pub mod scenario;
pub mod schedule;
pub mod steps;
pub mod verdict;
pub mod verify;

pub use efgs_client as client;
pub use testkit::{keys, local, participants, protocol, signer, workload};
