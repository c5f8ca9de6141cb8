//! Servers of one's own, on loopback and free ports, for tests, benches and the demo. They end when
//! their value is dropped; nothing else is ever ended. They outlive an owner that is itself ended
//! with SIGKILL: a child can be bound to its parent's life only with unsafe code.

mod error;
mod gateway;
mod installation;
mod mariadb;
mod process;
mod program;

pub use error::LocalError;
pub use gateway::{Gateway, GatewayOptions, initialise, initialise_for};
pub use installation::{Installation, LocalDatabase};
pub use mariadb::{HeldWrites, MariaDb};
