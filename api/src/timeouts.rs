//! How long a peer may take: the bounds that connections and request bodies share.

use std::time::Duration;

/// Timeouts for a peer.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Timeouts {
    /// For a handshake, a header, the next part of a body, or room to send a response. Also for
    /// the next request on a connection that no participant has authenticated on.
    pub(crate) stall: Duration,
    /// Keep-alive: for the next request on a participant's or an operator's connection.
    pub(crate) idle: Duration,
    /// How often the watchdog checks a connection; adds to both.
    pub(crate) check_interval: Duration,
    /// Slowest acceptable transfer, in bytes per second, after the first `stall`.
    pub(crate) rate_min: u32,
}

/// Slowest acceptable transfer: the largest usual body, 1.7 MB, takes under two minutes.
const RATE_MIN: u32 = 16 << 10;

impl Timeouts {
    /// Checks often enough to act within nine eighths of either timeout.
    pub(crate) fn new(stall: Duration, idle: Duration) -> Self {
        Self {
            stall,
            idle,
            check_interval: (stall / 8).max(Duration::from_millis(10)),
            rate_min: RATE_MIN,
        }
    }

    /// How long a transfer of `bytes` may have waited for the peer in total.
    pub(crate) fn allowance(&self, bytes: u64) -> Duration {
        let rate = u64::from(self.rate_min.max(1));
        self.stall + Duration::from_millis(bytes.saturating_mul(1000) / rate)
    }
}
