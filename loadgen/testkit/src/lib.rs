//! Shared by tests, benches and the load generator: synthetic participants, diagnosis keys from a
//! seed, real batch signatures, and private servers. Never part of the gateway's program.
//!
//! | module | what it is |
//! | --- | --- |
//! | [`participants`] | certificates and keys, from the folder that `efgs init` writes |
//! | [`keys`] | diagnosis keys from a seed |
//! | [`protocol`] | protobuf and canonical texts, written from the specification alone |
//! | [`signer`] | detached CMS signatures |
//! | [`workload`] | the uploads of a run, prepared ahead of time |
//! | [`local`] | private MariaDB servers and gateways |
//! | [`poll`] | bounded polling, for tests |
//! | [`ports`] | free ports for servers that restart |
//! | [`target`] | where a gateway listens |
//! | [`digest`] | SHA-256 |

mod der;
pub mod digest;
pub mod keys;
pub mod local;
pub mod participants;
pub mod poll;
pub mod ports;
pub mod protocol;
pub mod signer;
pub mod target;
pub mod workload;
