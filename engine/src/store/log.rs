//! The log of uploads.

mod append;
mod read;
mod rows;

pub(super) use append::insert_row;
pub(crate) use append::{Appended, UploadRow};
pub(crate) use read::LogTail;
pub(super) use read::read_upload;
pub(super) use rows::read_log_entry;
pub(crate) use rows::{AuditEntry, LogEntry, SealedUpload, UncutUpload, UploadMeta};
