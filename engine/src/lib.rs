//! Batch processing engine of the European Federation Gateway Service. Synchronous: threads, no
//! futures, no HTTP. [`upload`] walks through the stages; ARCHITECTURE.md draws the layers.

pub mod admin;
pub mod admission;
mod allowance;
pub mod bundle;
mod calendar;
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
mod fair_channel;
mod fair_queue;
#[cfg(any(test, debug_assertions))]
pub mod fuzzing;
pub mod import;
mod key_ring;
pub mod limits;
pub mod locks;
mod log_chain;
mod machine;
pub mod output;
mod overload;
pub mod overview;
mod persist;
pub mod pki;
mod retention;
pub mod seal;
pub mod settings;
mod stage;
pub mod statistics;
mod store;
pub mod text;
pub mod trust;
mod trust_list;
pub mod upload;
pub mod validate;
pub mod verify;
pub mod wire;

pub use allowance::{QuotaUse, StoredMemory};
pub use calendar::DayStatus;
pub use clock::{Clock, ClockReading, ManualClock, SystemClock};
pub use engine::{Engine, ParticipantLoad, Status};
pub use failure::{DatabaseError, Failure, StartError, WrongKey, chain};
pub use overload::{Overload, OverloadBound};
pub use persist::StartProgress;

/// Faults of the database, for simulations. Not in release programs.
#[cfg(any(test, debug_assertions))]
pub mod faults {
    pub use crate::database::faulty::{Fault, Faults, Step};
}
pub use upload::{Rejection, UploadError};
