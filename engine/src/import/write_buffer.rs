//! Uploads of an import that wait to be written, so that small ones share a commit.

use super::upload::ReadUpload;
use crate::database::SqlError;
use crate::domain::{Country, Seq, Thumbprint, UploadTag};
use crate::limits;
use crate::log_chain::Link;
use crate::store::{ReferenceUpload, Store, UploadRow};

/// Uploads that are to be written together.
#[derive(Debug, Default)]
pub(super) struct WriteBuffer {
    uploads: Vec<SealedUpload>,
    bytes: usize,
}

/// An upload as the log will have it.
#[derive(Debug)]
pub(super) struct SealedUpload {
    pub(super) seq: Seq,
    pub(super) country: Country,
    pub(super) tag: UploadTag,
    pub(super) read: ReadUpload,
    pub(super) shared: ReferenceUpload,
    pub(super) uploader: Thumbprint,
    pub(super) signer: Thumbprint,
    pub(super) link: Link,
    pub(super) sealed: Vec<u8>,
}

impl WriteBuffer {
    /// Adds an upload; writes all if there is enough.
    pub(super) fn push(
        &mut self,
        upload: SealedUpload,
        target: &mut Store,
    ) -> Result<(), SqlError> {
        self.bytes += upload.sealed.len() + upload.shared.batch_signature.len();
        self.uploads.push(upload);
        if self.bytes < limits::IMPORT_WRITE_BYTES
            && self.uploads.len() < limits::IMPORT_WRITE_UPLOADS
        {
            return Ok(());
        }
        std::mem::take(self).write(target)
    }

    pub(super) fn write(self, target: &mut Store) -> Result<(), SqlError> {
        let rows: Vec<_> = self.uploads.iter().map(SealedUpload::row).collect();
        if rows.is_empty() {
            return Ok(());
        }
        target.import_uploads(&rows)
    }
}

impl SealedUpload {
    fn row(&self) -> UploadRow<'_> {
        UploadRow {
            seq: self.seq,
            created_at: self.read.created_at,
            country: self.country,
            tag: &self.tag,
            key_count: self.read.key_count,
            format_version: self.shared.format_version(),
            uploader: &self.uploader,
            signer: &self.signer,
            content: &self.read.content,
            link: self.link,
            batch_signature: &self.shared.batch_signature,
            identities: &self.read.identities,
            sealed: &self.sealed,
        }
    }
}
