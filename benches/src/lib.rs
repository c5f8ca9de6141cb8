//! Shared by the benches: seeded inputs, participants with real keys, databases and gateways. The
//! inputs are the same on every machine and in every run.
//!
//! Bench ids are `stage/shape/size`; sizes are keys per upload, and throughput is in keys. `cargo
//! bench` measures; `cargo test` runs each bench once with a small input, so that none breaks
//! unnoticed.

mod backend;
mod bundles;
mod fixture;
mod harness;
mod inputs;
mod installation;

pub use backend::{Backend, ECDSA_P256, RSA_2048, SHAPES, record_signatures, recorded_upload};
pub use bundles::spread_download;
pub use fixture::StageFixture;
pub use harness::{bench, criterion, group, slow_group};
pub use inputs::{FULL, NOON, SIZES, measures, random_identities, scaled};
pub use installation::{
    BenchDatabase, EngineOptions, Installation, PendingUpload, bench_databases, certificate_list,
    download, fill, keys, settings, upload, wait_for_batches,
};

/// The same allocator as the gateway's.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;
