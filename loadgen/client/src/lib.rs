//! A national backend's HTTP client: kept-alive connections, mutual TLS or (behind a proxy that ends
//! TLS) identity headers, and header names spelled as the protocol spells them. For loadgen, benches
//! and tests.

mod answer;
mod caller;
mod connection;
mod error;
mod get;
mod open;
mod pace;
mod spelling;

pub use testkit::target::{Target, TargetError};

pub use self::answer::Answer;
pub use self::caller::{Caller, Protocol};
pub use self::connection::Connection;
pub use self::error::{ClientError, SetupError};
pub use self::get::get;
