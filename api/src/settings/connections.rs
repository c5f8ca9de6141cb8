//! `[connections]`: how many connections may be open, and whose.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

/// Open connections. Beyond a bound, the connection that was idle longest gives way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConnectionSettings {
    /// Connections on the public port, and on the proxy's. When all are open, one of the holder with most
    /// is closed for a new one. Fewer if the limit on open files does not suffice.
    // Each usually holds about 60 KiB of buffers, at most 416 KiB over HTTP/1 and 1.2 MiB over HTTP/2,
    // whose window is 1 MiB; 27 participants with a dozen connections each stay far below.
    #[default = 1024]
    #[schemars(range(min = 16, max = 100_000))]
    pub per_port_max: usize,
    /// Connections of one participant on the public port.
    #[default = 256]
    #[schemars(range(min = 1, max = 100_000))]
    pub per_participant_max: usize,
    /// Connections of all peers together that no participant has been authenticated on: those in a
    /// TLS handshake, and those without a listed certificate.
    #[default = 128]
    #[schemars(range(min = 4, max = 100_000))]
    pub unidentified_max: usize,
    /// Connections on the operations port.
    #[default = 64]
    #[schemars(range(min = 4, max = 10_000))]
    pub operations_max: usize,
}
