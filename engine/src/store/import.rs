//! What an import writes: uploads, some at a time, each download batch after its own, the
//! certificates and callback subscriptions last. A mark says that an import has begun, so that an
//! incomplete one is never served.

use super::callbacks::{ImportedSubscription, insert_subscription};
use super::certificates::{bump_certificate_revision, insert_certificate, relist};
use super::download_batches::{DownloadBatchRow, insert_download_batch};
use super::log::{UploadRow, insert_row};
use super::session::Store;
use crate::database::SqlError;
use crate::domain::{CertificateRow, UnixMillis};
use crate::limits;
use crate::seal::MacKey;

const IMPORT: &str = "import";
const BEGUN: &str = "begun";
const DONE: &str = "done";

/// What an import finds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum ImportState {
    /// A fresh installation.
    Empty,
    /// An import was begun and did not end.
    Begun,
    /// Something is there.
    InUse,
}

impl Store {
    /// What there is to import into.
    pub(crate) fn import_state(&mut self) -> Result<ImportState, SqlError> {
        if self.installation_value(IMPORT)?.as_deref() == Some(BEGUN.as_bytes()) {
            return Ok(ImportState::Begun);
        }
        for table in [
            "upload_log",
            "download_batch",
            "certificate",
            "callback_subscription",
        ] {
            let found = self
                .0
                .first(&format!("SELECT 1 FROM {table} LIMIT 1"), &[])?;
            if found.is_some() {
                return Ok(ImportState::InUse);
            }
        }
        Ok(ImportState::Empty)
    }

    /// Whether a gateway works on this database now.
    pub(crate) fn is_served(&mut self) -> Result<bool, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let sql = format!("SELECT 1 FROM lease WHERE expires_at_ms > {now_ms} LIMIT 1");
        Ok(self.0.first(&sql, &[])?.is_some())
    }

    /// Marks an import as begun; what an import before it has left behind is deleted.
    pub(crate) fn begin_import(&mut self) -> Result<(), SqlError> {
        self.agree_on(IMPORT, BEGUN.as_bytes())?;
        let mark = "UPDATE installation SET value = ? WHERE name = ?";
        self.0.execute(mark, &[BEGUN.into(), IMPORT.into()])?;
        let mut last = self.log_end()?.0;
        while last > 0 {
            let first = last.saturating_sub(limits::IMPORT_DELETED_ROWS) + 1;
            let sql = "DELETE FROM upload_log WHERE seq BETWEEN ? AND ?";
            self.0.execute(sql, &[first.into(), last.into()])?;
            last = first - 1;
        }
        self.0.script("DELETE FROM download_batch")
    }

    /// Writes uploads, all or none.
    pub(crate) fn import_uploads(&mut self, uploads: &[UploadRow<'_>]) -> Result<(), SqlError> {
        self.0
            .transaction(|c| uploads.iter().try_for_each(|row| insert_row(c, row)))
    }

    /// Writes a download batch whose uploads are written.
    pub(crate) fn import_download_batch(
        &mut self,
        row: &DownloadBatchRow,
        created_at: UnixMillis,
    ) -> Result<(), SqlError> {
        self.0
            .transaction(|c| insert_download_batch(c, row, created_at))
    }

    /// Lists the certificates and the callback subscriptions, and marks the import as done.
    pub(crate) fn finish_import(
        &mut self,
        list_key: &MacKey,
        certificates: &[CertificateRow],
        subscriptions: &[ImportedSubscription],
        now: UnixMillis,
    ) -> Result<(), SqlError> {
        self.0.transaction(|c| {
            c.execute("DELETE FROM certificate", &[])?;
            certificates
                .iter()
                .try_for_each(|row| insert_certificate(c, row, now))?;
            bump_certificate_revision(c)?;
            relist(c, list_key, certificates, now)?;
            subscriptions
                .iter()
                .try_for_each(|row| insert_subscription(c, row, now))?;
            let sql = "UPDATE installation SET value = ? WHERE name = ?";
            c.execute(sql, &[DONE.into(), IMPORT.into()]).map(|_| ())
        })
    }
}
