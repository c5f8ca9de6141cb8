//! What sealed keys are bound to.

use crate::domain::{ContentDigest, Country, Thumbprint, UploadTag};
use crate::log_chain::ColumnsDigest;

/// The row of the log that sealed keys belong to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SealedRow<'a> {
    pub(crate) country: Country,
    pub(crate) tag: &'a UploadTag,
    pub(crate) content: &'a ContentDigest,
    pub(crate) signer: &'a Thumbprint,
    pub(crate) key_count: u32,
    /// The digest of its columns; none in a row from before the chain.
    pub(crate) columns: Option<ColumnsDigest>,
}

impl SealedRow<'_> {
    /// What its seal is bound to: key data cannot be moved to another row, nor an old seal be put
    /// back under a tag that stands for other content. A row from before the chain is bound to
    /// country and tag alone.
    pub(crate) fn seal_context(&self) -> Vec<u8> {
        let (country, tag) = (self.country.letters(), self.tag.as_str().as_bytes());
        match &self.columns {
            None => [&country, tag].concat(),
            Some(columns) => [
                BOUND_LABEL,
                &columns.0,
                &self.content.0,
                &self.signer.0,
                &self.key_count.to_be_bytes(),
                &country,
                tag,
            ]
            .concat(),
        }
    }
}

/// No country begins like that.
const BOUND_LABEL: &[u8] = b"efgs seal 2";
