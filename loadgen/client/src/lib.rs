//! A national backend's HTTP client: keep-alive connections, mutual TLS or (behind a proxy that
//! terminates TLS) identity headers, and header names in the protocol's letter case. For loadgen,
//! benches and tests.

mod answer;
mod caller;
mod connection;
mod error;
mod get;
mod header_case;
mod open;
mod throttle;

pub use testkit::target::{Target, TargetError};

pub use self::answer::Answer;
pub use self::caller::{Caller, Protocol};
pub use self::connection::Connection;
pub use self::error::{ClientError, SetupError};
pub use self::get::get;
