//! The state of this gateway: the body of `/ready` and `/status`.

use engine::callbacks::Summary;
use engine::{StartProgress, Status, StoredMemory};
use serde::Serialize;

/// What an operator reads while the memory is used up.
const MEMORY_USED_UP: &str =
    "the memory for stored uploads is used up: raise [memory] stored_bytes_max";

/// The body of `/ready` and `/status`.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownStatus {
    /// The gateway's name.
    pub(super) gateway: String,
    pub(super) ready: bool,
    /// Why new keys are refused though everything else is served: on all gateways alike, since each
    /// has all that is stored in memory, so that to ask another one is of no use.
    pub(super) uploads_refused: Option<&'static str>,
    pub(super) stopping: bool,
    /// While the engine starts.
    pub(super) starting: Option<ShownProgress>,
    pub(super) database_available: bool,
    /// Why the database refuses all uploads, if it does.
    pub(super) database_refusal: Option<String>,
    /// What was expected and what is there, if the database has gone back.
    pub(super) database_went_back: Option<String>,
    /// Whether the state file could be written at the last attempt.
    pub(super) state_file_writable: bool,
    /// The day that the installation acts on.
    pub(super) day: String,
    /// Why the clock's day is not believed yet.
    pub(super) day_in_doubt: Option<String>,
    /// The gateway's clock minus the database's.
    pub(super) clock_ahead_of_database_ms: i64,
    /// Why this gateway cannot cut download batches.
    pub(super) cutting_stopped: Option<String>,
    /// Uploads that are damaged in the database and cannot be served; all others can, so that this
    /// does not make it unready.
    pub(super) damaged_uploads: Vec<String>,
    pub(super) log_position: u64,
    pub(super) identities: u64,
    pub(super) newest_batch: Option<String>,
    pub(super) cuts: bool,
    /// How many more download batches may be cut for age at once, if this gateway cuts.
    pub(super) bundle_budget: Option<u32>,
    /// Listed certificates that are trusted and not revoked.
    pub(super) certificates: usize,
    /// Why the certificate list of the database is not the one in force, if so.
    pub(super) certificate_list_fault: Option<String>,
    /// Ids of the sealing keys that other gateways have and this one does not.
    pub(super) missing_sealing_keys: Vec<u32>,
    /// What grows with stored uploads.
    pub(super) memory: ShownMemory,
    pub(super) callbacks: ShownCallbacks,
    /// What an operator should see to, though the gateway works.
    pub(super) warnings: Vec<String>,
    /// Whether this is a practice gateway: not for real keys.
    pub(super) practice: bool,
    pub(super) version: &'static str,
}

/// How far the start has come.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownProgress {
    pub(super) keys_read: u64,
    pub(super) keys_expected: u64,
}

impl ShownStatus {
    /// Nothing is known yet but how far it has come.
    pub(super) fn starting(progress: &StartProgress, stopping: bool, delivers: bool) -> Self {
        Self {
            stopping,
            starting: Some(ShownProgress {
                keys_read: progress.keys_read(),
                keys_expected: progress.keys_expected(),
            }),
            callbacks: ShownCallbacks::new(&Summary::default(), delivers),
            version: env!("CARGO_PKG_VERSION"),
            ..Self::default()
        }
    }

    pub(super) fn new(status: &Status, stopping: bool, callbacks: ShownCallbacks) -> Self {
        Self {
            gateway: String::new(),
            ready: status.database_available
                && status.database_refusal.is_none()
                && status.went_back.is_none()
                && status.state_file_writable
                && status.day.cutting_stopped.is_none()
                && !status.failed
                && status.certificates > 0
                && status.missing_sealing_keys.is_empty()
                && !stopping,
            uploads_refused: status.memory.is_full().then_some(MEMORY_USED_UP),
            stopping,
            starting: None,
            database_available: status.database_available,
            database_refusal: status.database_refusal.clone(),
            database_went_back: status.went_back.clone(),
            state_file_writable: status.state_file_writable,
            day: status.day.day.to_string(),
            day_in_doubt: status.day.implausibility.clone(),
            clock_ahead_of_database_ms: status.day.ahead_of_database_ms,
            cutting_stopped: status.day.cutting_stopped.clone(),
            damaged_uploads: status.damaged_uploads.clone(),
            log_position: status.log_position,
            identities: status.identities,
            newest_batch: status.newest_batch.map(|tag| tag.to_string()),
            cuts: status.cuts,
            bundle_budget: status.bundle_budget,
            certificates: status.certificates,
            certificate_list_fault: status.certificate_list_fault.map(|fault| fault.to_string()),
            missing_sealing_keys: status.missing_sealing_keys.clone(),
            memory: ShownMemory::new(&status.memory),
            callbacks,
            warnings: Vec::new(),
            practice: false,
            version: env!("CARGO_PKG_VERSION"),
        }
    }
}

/// Memory for stored uploads: while it is used up, uploads are refused.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownMemory {
    pub(super) stored_bytes: u64,
    pub(super) stored_bytes_max: u64,
    pub(super) used_up: bool,
}

impl ShownMemory {
    const fn new(memory: &StoredMemory) -> Self {
        Self {
            stored_bytes: memory.bytes(),
            stored_bytes_max: memory.bytes_max,
            used_up: memory.is_full(),
        }
    }
}

/// Counts of callback subscriptions.
#[derive(Debug, Clone, Copy, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownCallbacks {
    /// Whether this gateway delivers.
    pub(super) delivers: bool,
    pub(super) active: u64,
    pub(super) disabled: u64,
    pub(super) batches_behind_max: u64,
}

impl ShownCallbacks {
    pub(super) const fn new(summary: &Summary, delivers: bool) -> Self {
        Self {
            delivers,
            active: summary.active,
            disabled: summary.disabled,
            batches_behind_max: summary.batches_behind_max,
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::DayStatus;
    use engine::domain::BatchTag;
    use serde_json::json;

    use super::*;

    #[test]
    fn is_ready_unless_the_database_is_unavailable_or_the_gateway_is_stopping() {
        let day = DayStatus {
            day: BatchTag::parse("20201006-7").unwrap().day,
            implausibility: None,
            ahead_of_database_ms: -40,
            cutting_stopped: None,
        };
        let status = |database_available| Status {
            database_available,
            database_refusal: None,
            log_position: 31,
            identities: 151_000,
            newest_batch: Some(BatchTag::parse("20201006-7").unwrap()),
            cuts: true,
            bundle_budget: Some(48),
            certificates: 6,
            certificate_list_fault: None,
            failed: false,
            went_back: None,
            state_file_writable: true,
            missing_sealing_keys: Vec::new(),
            day: day.clone(),
            damaged_uploads: Vec::new(),
            memory: StoredMemory {
                set_bytes: 700,
                tags_bytes: 200,
                catalog_bytes: 99,
                bytes_max: 1000,
            },
        };
        let summary = Summary {
            active: 3,
            disabled: 1,
            batches_behind_max: 7,
        };
        let show = |status: &Status, stopping| {
            ShownStatus::new(status, stopping, ShownCallbacks::new(&summary, true))
        };
        assert!(show(&status(true), false).ready);
        assert!(!show(&status(true), true).ready);
        assert!(!show(&status(false), false).ready);
        let refused = Status {
            database_refusal: Some("the disk is full".to_owned()),
            ..status(true)
        };
        assert!(!show(&refused, false).ready);
        let failed = Status {
            failed: true,
            ..status(true)
        };
        assert!(!show(&failed, false).ready);
        let nothing_listed = Status {
            certificates: 0,
            ..status(true)
        };
        assert!(!show(&nothing_listed, false).ready);
        let cannot_remember = Status {
            state_file_writable: false,
            ..status(true)
        };
        assert!(!show(&cannot_remember, false).ready);
        let mut used_up = status(true);
        used_up.memory.bytes_max = 999;
        let shown = show(&used_up, false);
        assert!(shown.ready, "downloads go on");
        assert_eq!(shown.uploads_refused, Some(MEMORY_USED_UP));
        let memory = json!({"storedBytes": 999, "storedBytesMax": 999, "usedUp": true});
        assert_eq!(serde_json::to_value(shown.memory).unwrap(), memory);
        let in_doubt = Status {
            day: DayStatus {
                implausibility: Some("the clock shows 2020-11-15".to_owned()),
                ..day.clone()
            },
            ..status(true)
        };
        let shown = show(&in_doubt, false);
        assert!(shown.ready, "uploads go on");
        assert_eq!(shown.day_in_doubt, in_doubt.day.implausibility);
        let never_cut = Status {
            day: DayStatus {
                cutting_stopped: Some("the clock is two days ahead".to_owned()),
                ..day.clone()
            },
            ..status(true)
        };
        let shown = show(&never_cut, false);
        assert!(!shown.ready);
        assert_eq!(shown.cutting_stopped, never_cut.day.cutting_stopped);
        let went_back = Status {
            went_back: Some("expected position 7; found no row there".to_owned()),
            ..status(true)
        };
        let shown = show(&went_back, false);
        assert!(!shown.ready);
        assert_eq!(shown.database_went_back, went_back.went_back);
        let damaged = Status {
            damaged_uploads: vec!["upload a of DE at position 7 is broken".to_owned()],
            ..status(true)
        };
        let shown = show(&damaged, false);
        assert!(shown.ready, "all others are served");
        assert_eq!(shown.damaged_uploads, damaged.damaged_uploads);
        let shown = serde_json::to_value(show(&status(true), false)).unwrap();
        let callbacks =
            json!({"delivers": true, "active": 3, "disabled": 1, "batchesBehindMax": 7});
        assert_eq!(shown["callbacks"], callbacks);
        assert_eq!(shown["newestBatch"], json!("20201006-7"));
        assert_eq!(shown["identities"], json!(151_000));
        assert_eq!(shown["bundleBudget"], json!(48));
        assert_eq!(shown["day"], json!("2020-10-06"));
        assert_eq!(shown["clockAheadOfDatabaseMs"], json!(-40));
    }
}
