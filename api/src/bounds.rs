//! All bounds of one participant, in one place: `docs/bounds.md` is generated from it, and the
//! metrics `efgs_participant_bound` and `efgs_participant_use_max` show each, and the largest
//! use by any participant.
//!
//! The engine's own bounds are in `engine/src/limits.rs`, which this file reads.

use std::fmt;
use std::time::Duration;

use engine::{Engine, limits};

use crate::shares::ShareLimits;

/// Concurrent requests on one HTTP/2 connection.
pub(crate) const STREAMS_MAX: u32 = 64;
/// Bytes that a connection reads per time slice, and what one read brings on top: as the TLS buffer. As
/// small HTTP/2 frames they take some hundred microseconds, as a part of an upload's body ten.
pub(crate) const TIME_SLICE_BYTES: usize = 32 << 10;
/// What a connection has of a full port at the least: time for its first request to arrive. The 64 places
/// of the operations port then take 320 connections per second, and the others wait in the system's
/// queue, in their order.
pub(crate) const SLOT_TIME_MIN: Duration = Duration::from_millis(200);
/// Control frames on one HTTP/2 connection at once: far more than a client sends that opens 64
/// streams, resets some and measures its line; they take a millisecond.
pub(crate) const CONTROL_FRAMES_MAX: u32 = 1000;
/// Requests on one connection at once that no participant is authenticated for: enough for whoever
/// sets up a client.
pub(crate) const UNIDENTIFIED_REQUESTS: u32 = 20;
/// Between two of them beyond that. All 128 connections of unidentified peers together then have 640 requests
/// per second, one part in fifty of a core.
pub(crate) const UNIDENTIFIED_REQUEST_INTERVAL: Duration = Duration::from_millis(200);
/// Log lines of one sender and cause at once, for completed work.
pub(crate) const WORK_LINES: u32 = 1000;
/// The same for all other causes.
pub(crate) const OTHER_LINES: u32 = 10;

/// Name lookups under way for the checks of one participant's new subscriptions, and of all.
pub(crate) const CHECK_LOOKUPS: ShareLimits = ShareLimits {
    all_max: 16,
    participant_max: 4,
};

/// Name lookups under way for deliveries: of their own, so that nobody who subscribes delays them.
pub(crate) const DELIVERY_LOOKUPS: ShareLimits = ShareLimits {
    all_max: 32,
    participant_max: 8,
};

/// What is bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ParticipantBound {
    Connections,
    Streams,
    Uploads,
    UploadBytes,
    BundleBytes,
    AuditBytes,
    KeysPerDay,
    ColdReads,
    CallbackRequests,
    Subscriptions,
    CheckLookups,
    Deliveries,
    DeliveryLookups,
    WorkLines,
    OtherLines,
}

impl ParticipantBound {
    /// All of them, in the order of the page.
    const ALL: [Self; 15] = [
        Self::Connections,
        Self::Streams,
        Self::Uploads,
        Self::UploadBytes,
        Self::BundleBytes,
        Self::AuditBytes,
        Self::KeysPerDay,
        Self::ColdReads,
        Self::CallbackRequests,
        Self::Subscriptions,
        Self::CheckLookups,
        Self::Deliveries,
        Self::DeliveryLookups,
        Self::WorkLines,
        Self::OtherLines,
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Connections => "connections",
            Self::Streams => "streams",
            Self::Uploads => "uploads",
            Self::UploadBytes => "upload_bytes",
            Self::BundleBytes => "bundle_bytes",
            Self::AuditBytes => "audit_bytes",
            Self::KeysPerDay => "keys_per_day",
            Self::ColdReads => "cold_reads",
            Self::CallbackRequests => "callback_requests",
            Self::Subscriptions => "subscriptions",
            Self::CheckLookups => "check_lookups",
            Self::Deliveries => "deliveries",
            Self::DeliveryLookups => "delivery_lookups",
            Self::WorkLines => "work_lines",
            Self::OtherLines => "other_lines",
        }
    }

    /// The names in metrics.
    pub(crate) fn names() -> Vec<&'static str> {
        Self::ALL.map(Self::name).to_vec()
    }

    /// The bound, where there is no setting.
    const fn fixed_value(self) -> u64 {
        match self {
            Self::Streams => STREAMS_MAX as u64,
            Self::ColdReads => limits::PARTICIPANT_COLD_READS_MAX as u64,
            Self::CallbackRequests => limits::PARTICIPANT_CALLBACK_JOBS_MAX as u64,
            Self::Subscriptions => limits::CALLBACKS_PER_COUNTRY_MAX,
            Self::CheckLookups => CHECK_LOOKUPS.participant_max as u64,
            Self::DeliveryLookups => DELIVERY_LOOKUPS.participant_max as u64,
            Self::WorkLines => WORK_LINES as u64,
            Self::OtherLines => OTHER_LINES as u64,
            Self::Connections
            | Self::Uploads
            | Self::UploadBytes
            | Self::BundleBytes
            | Self::AuditBytes
            | Self::KeysPerDay
            | Self::Deliveries => 0,
        }
    }
}

/// What one participant uses of something, of the participant that uses most.
type Use = Box<dyn Fn() -> usize + Send + Sync>;

/// The bounds of this gateway, and where to look up what is used.
pub(crate) struct Bounds {
    values: Vec<(ParticipantBound, u64)>,
    uses: Vec<(ParticipantBound, Use)>,
}

impl fmt::Debug for Bounds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Bounds").field(&self.values).finish()
    }
}

impl Bounds {
    /// Those of an engine, and those that no setting changes.
    pub(crate) fn of(engine: &Engine) -> Self {
        let set = engine.participant_bounds();
        let value = |bound| match bound {
            ParticipantBound::Uploads => set.uploads,
            ParticipantBound::UploadBytes => set.upload_bytes,
            ParticipantBound::BundleBytes => set.bundle_bytes,
            ParticipantBound::AuditBytes => set.audit_bytes,
            ParticipantBound::KeysPerDay => set.keys_today,
            fixed => fixed.fixed_value(),
        };
        let all = ParticipantBound::ALL.into_iter();
        Self {
            values: all.map(|bound| (bound, value(bound))).collect(),
            uses: Vec::new(),
        }
    }

    /// A bound that a setting gives.
    pub(crate) fn set(&mut self, bound: ParticipantBound, value: usize) {
        let mut values = self.values.iter_mut();
        if let Some(known) = values.find(|(known, _)| *known == bound) {
            known.1 = value as u64;
        }
    }

    /// Where to look up what is used of a bound.
    pub(crate) fn watch(
        &mut self,
        bound: ParticipantBound,
        used: impl Fn() -> usize + Send + Sync + 'static,
    ) {
        self.uses.push((bound, Box::new(used)));
    }

    /// Sets the metrics.
    pub(crate) fn measure(&self, engine: &Engine) {
        for (bound, value) in &self.values {
            show("efgs_participant_bound", *bound, *value);
        }
        for (bound, used) in &self.uses {
            show("efgs_participant_use_max", *bound, used() as u64);
        }
        let used = engine.largest_use();
        for (bound, used) in [
            (ParticipantBound::Uploads, used.uploads),
            (ParticipantBound::UploadBytes, used.upload_bytes),
            (ParticipantBound::BundleBytes, used.bundle_bytes),
            (ParticipantBound::AuditBytes, used.audit_bytes),
            (ParticipantBound::KeysPerDay, used.keys_today),
            (ParticipantBound::ColdReads, used.cold_reads),
            (ParticipantBound::CallbackRequests, used.callback_requests),
        ] {
            show("efgs_participant_use_max", bound, used);
        }
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "bounds are far below 2^53, or mean that there is none"
)]
fn show(metric: &'static str, bound: ParticipantBound, value: u64) {
    metrics::gauge!(metric, "bound" => bound.name()).set(value as f64);
}

#[cfg(test)]
mod tests {
    mod page;
}
