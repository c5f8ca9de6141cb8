//! Private servers on loopback and free ports, for tests, benches and the demo. They end when their
//! value is dropped; no other process is ever ended. They outlive an owner that is killed with
//! SIGKILL: binding a child to its parent's life would need unsafe code.

mod authority;
mod error;
mod galera;
mod gateway;
mod installation;
mod mariadb;
mod process;
mod program;

pub use authority::{DatabaseAuthority, IssuedFiles};
pub use error::LocalError;
pub use galera::Galera;
pub use gateway::{Gateway, GatewayOptions, initialise, initialise_for};
pub use installation::{Installation, LocalDatabase};
pub use mariadb::{Frozen, HeldWrites, MariaDb};
