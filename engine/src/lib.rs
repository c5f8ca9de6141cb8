//! Batch processing engine of the European Federation Gateway Service. Synchronous: threads, no
//! futures, no HTTP. [`upload`] walks through the stages; ARCHITECTURE.md draws the layers.

pub mod admin;
pub mod admission;
pub mod bundle;
pub mod callbacks;
pub mod clock;
mod continuity;
mod cpu_pool;
mod database;
pub mod decode;
pub mod dedup;
pub mod domain;
mod engine;
mod failure;
mod fair_queue;
pub mod import;
pub mod limits;
mod overload;
mod persist;
pub mod pki;
mod retention;
pub mod seal;
pub mod settings;
mod stage;
pub mod statistics;
mod store;
pub mod trust;
mod trust_list;
pub mod upload;
pub mod validate;
pub mod verify;
pub mod wire;

pub use clock::{Clock, ManualClock, SystemClock};
pub use engine::{Engine, Status};
pub use failure::{DatabaseError, Failure, StartError, chain};
pub use overload::{Overload, OverloadBound};
pub use upload::{Rejection, UploadError};
