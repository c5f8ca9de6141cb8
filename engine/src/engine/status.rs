//! What the engine shows of itself.

use crate::allowance::StoredMemory;
use crate::calendar::DayStatus;
use crate::domain::BatchTag;
use crate::trust::ListFault;

/// What `/health`, `/ready` and the dashboard say.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// Whether the database answers, as far as is known: at most three seconds old.
    pub database_available: bool,
    /// Why the database refuses all uploads, if it does.
    pub database_refusal: Option<String>,
    /// Number of uploads in the log, as far as this gateway has followed it.
    pub log_position: u64,
    /// Key identities in memory.
    pub identities: u64,
    /// The newest download batch.
    pub newest_batch: Option<BatchTag>,
    /// Whether this gateway cuts download batches now.
    pub cuts: bool,
    /// How many more download batches may be cut for age at once; `None` if another gateway cuts, or
    /// if they are not paced.
    pub bundle_budget: Option<u32>,
    /// Listed certificates that are trusted and not revoked. Without any, nobody can connect or sign.
    pub certificates: usize,
    /// Why the certificate list of the database is not the one in force, if so.
    pub certificate_list_fault: Option<ListFault>,
    /// Ids of the sealing keys that other gateways have and this one does not, ascending: it cannot
    /// open what they seal.
    pub missing_sealing_keys: Vec<u32>,
    /// Whether a thread of the engine has panicked: nothing but a restart helps.
    pub failed: bool,
    /// What was expected and what is there, if the database has gone back: nothing is taken or
    /// served until an operator has seen to it and starts the gateway again.
    pub went_back: Option<String>,
    /// Whether the state file could be written at the last attempt: uploads need it.
    pub state_file_writable: bool,
    /// The day that the installation acts on, and what is wrong with the clock.
    pub day: DayStatus,
    /// Uploads that were found damaged in the database and cannot be served, one sentence for each
    /// of the first [`crate::limits::DAMAGED_UPLOADS_NAMED_MAX`]. All others can.
    pub damaged_uploads: Vec<String>,
    /// The memory that grows with what is stored: uploads are refused while it is used up.
    pub memory: StoredMemory,
}

/// What one participant has, or may have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ParticipantLoad {
    /// Uploads in flight.
    pub uploads: u64,
    /// Bytes of their bodies.
    pub upload_bytes: u64,
    /// Bytes of bundles being sent.
    pub bundle_bytes: u64,
    /// Bytes of audits being sent.
    pub audit_bytes: u64,
    /// Downloads and audits that wait for the database.
    pub cold_reads: u64,
    /// Requests about callbacks that wait for the database.
    pub callback_requests: u64,
    /// Keys stored today.
    pub keys_today: u64,
}
