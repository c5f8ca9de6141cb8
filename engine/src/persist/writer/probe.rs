//! Whether the database would store an upload: asked where that is in doubt. An upload that is
//! refused may be to blame itself; and a disk may fill up while no uploads come.
//!
//! The probe writes a row as an upload's and takes it back in the same transaction, so that other
//! gateways and a cluster's other nodes do not hear of it.

use std::time::Instant;

use super::Writer;
use crate::database::SqlError;
use crate::limits;
use crate::persist::submission::Submission;

impl Writer {
    /// Between uploads: asks at an interval, and soon while the database refuses.
    pub(super) fn probe_if_due(&mut self) {
        if self.probing.is_due() && !self.continuity.has_gone_back() {
            self.probe();
        }
    }

    /// Whether the database refuses uploads altogether, or only those of a group that it has just
    /// refused.
    pub(super) fn refuses_everything(&mut self, group: &[Submission]) -> bool {
        let bytes = group
            .iter()
            .map(|submission| submission.batch.stored_bytes());
        self.probing.bytes = bytes.min().unwrap_or(limits::PROBE_BYTES);
        self.probe();
        self.retries.refusing_since.is_some()
    }

    /// A commit has gone through.
    pub(super) fn note_stored(&mut self) {
        self.committing_backoff.succeeded();
        self.retries.refusing_since = None;
        self.state.health.note_stored();
        self.probing.bytes = limits::PROBE_BYTES;
        self.probing.again_in(limits::PROBE_INTERVAL);
    }

    /// The database stores nothing.
    pub(super) fn note_refusal(&mut self, error: &str) {
        self.retries.refusing_since = self.retries.refusing_since.or_else(|| Some(Instant::now()));
        self.state.health.note_refusal(error);
        self.committing_backoff.failed();
        self.probing.again_in(limits::PROBE_RETRY);
    }

    fn probe(&mut self) {
        // A connection may have ended while nobody used it: that says nothing yet.
        let outcome = match self.probe_once() {
            Some(Err(SqlError::Lost(_))) => self.probe_once(),
            outcome => outcome,
        };
        match outcome {
            Some(Ok(())) => self.note_stored(),
            // Another gateway or program has written at the same time.
            Some(Err(SqlError::Conflict(_) | SqlError::Duplicate(_))) | None => {
                self.probing.again_in(limits::PROBE_RETRY);
            }
            Some(Err(error)) => self.note_refusal(&error.to_string()),
        }
    }

    /// `None` if the database is unavailable.
    fn probe_once(&mut self) -> Option<Result<(), SqlError>> {
        let bytes = self.probing.bytes;
        let outcome = self.connected()?.probe_append(bytes);
        match &outcome {
            Ok(()) => self.state.health.note_answer(),
            Err(_) => self.store = None,
        }
        Some(outcome)
    }
}
