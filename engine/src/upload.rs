//! The spine: one upload, stage after stage, then the hand-over to persist.

use bytes::Bytes;

use crate::admission::Permit;
use crate::clock::Clock;
use crate::decode::decode;
use crate::dedup::{IdentitySet, Probe, TagIndex, TagState, UniqueBatch, dedup};
use crate::domain::{ContentDigest, Country, Format, Thumbprint, UnixMillis, UploadTag};
use crate::error::{Rejection, UploadError};
use crate::seal::Keys;
use crate::settings::UploadSettings;
use crate::stage::timed;
use crate::trust::Trust;
use crate::validate::validate;
use crate::verify::verify;
use crate::wire::json;

/// An authenticated upload, as it came in.
#[derive(Debug)]
pub struct UploadRequest {
    /// The participant: the country of its certificate row.
    pub country: Country,
    /// Its authentication certificate.
    pub uploader: Thumbprint,
    /// The participant's own name for the upload.
    pub tag: UploadTag,
    /// Base64 of a detached CMS `SignedData`, as sent.
    pub batch_signature: Box<str>,
    /// The body.
    pub body: Bytes,
    /// The body's media type.
    pub format: Format,
}

/// The answer to an upload that broke no rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// Stored whole and durable: 201.
    Stored {
        /// How many keys the upload had.
        key_count: u32,
        /// The same content was stored under the same tag before; nothing was stored now.
        replayed: bool,
    },
    /// Nothing was stored, because some keys are known already or occur twice: 207.
    Refused {
        /// How many keys the upload had.
        key_count: u32,
        /// Zero-based positions in the request of the duplicates, ascending.
        duplicates: Vec<u32>,
    },
}

/// Who waits for an answer. Called exactly once; must not block.
pub(crate) type Reply = Box<dyn FnOnce(Result<Receipt, UploadError>) + Send>;

/// What the stages need to know beside the upload itself.
#[derive(Debug)]
pub struct Surroundings<'a> {
    /// Bounds of uploads.
    pub settings: &'a UploadSettings,
    /// Participants that may sign with SHA-1.
    pub legacy_sha1: &'a [Country],
    /// Makes identities, and seals.
    pub keys: &'a Keys,
    /// The certificate list.
    pub trust: &'a Trust,
    /// Known keys.
    pub set: &'a IdentitySet,
    /// Known upload tags.
    pub tags: &'a TagIndex,
    /// Tells the time.
    pub clock: &'a dyn Clock,
}

/// What the CPU stages made of an upload.
#[derive(Debug)]
pub enum Prepared {
    /// Everything is in order: to be stored.
    Sealed(Box<SealedBatch>),
    /// Nothing is to be stored, and this is the answer.
    Answered(Receipt),
}

/// The walk of one upload through the CPU stages.
///
/// # Errors
/// [`UploadError::Rejection`] of the first stage that refuses it.
pub fn prepare(
    request: &UploadRequest,
    permit: Permit,
    around: &Surroundings<'_>,
) -> Result<Prepared, UploadError> {
    let now = around.clock.now();
    let transcoded;
    let body: &[u8] = match request.format {
        Format::Protobuf => &request.body,
        Format::Json => {
            transcoded = json::to_protobuf(&request.body, around.settings.keys_max)?;
            &transcoded
        }
    };
    let decoded = timed("decode", || decode(body, around.settings.keys_max))?;
    let valid = timed("validate", || validate(decoded, now))?;
    let key_count = valid.keys().key_count();
    let (country, tag) = (request.country, request.tag.as_str());
    let message = "Successful validation of diagnosis keys";
    tracing::debug!(stage = "validate", %country, batchTag = tag, numKeys = key_count, "{message}");
    let content = timed("verify", || crate::verify::signed_content(&valid));
    let tag_state = || {
        around
            .tags
            .state(request.country, &request.tag, content.digest())
    };
    // The reference looks at the tag before the signature (wire behaviour §11, row 10).
    let known = tag_state();
    if known == TagState::Taken {
        return Err(Rejection::UploadTagTaken { key_count }.into());
    }
    let verified = timed("verify", || verify(valid, &content, request, around, now))?;
    let message = "verified batch signature";
    tracing::debug!(
        stage = "verify",
        %country,
        batchTag = tag,
        numKeys = key_count,
        certThumbprint = %verified.signer(),
        "{message}"
    );
    let replayed = Receipt::Stored {
        key_count,
        replayed: true,
    };
    if known == TagState::SameContent {
        return Ok(Prepared::Answered(replayed));
    }
    let canonical = content.canonical();
    match timed("dedup", || {
        dedup(verified, canonical, around.keys, around.set)
    }) {
        Ok(unique) => {
            let sealed = timed("persist", || seal(unique, request, permit, around, now));
            Ok(Prepared::Sealed(Box::new(sealed)))
        }
        // A twin of this upload may have been stored since the tag was looked at.
        Err(_) if tag_state() == TagState::SameContent => Ok(Prepared::Answered(replayed)),
        Err(duplicates) => Ok(Prepared::Answered(Receipt::Refused {
            key_count,
            duplicates,
        })),
    }
}

/// An upload ready to be stored: nothing in it borrows from the request any more.
#[derive(Debug)]
pub struct SealedBatch {
    pub(crate) country: Country,
    pub(crate) tag: UploadTag,
    pub(crate) uploader: Thumbprint,
    pub(crate) signer: Thumbprint,
    pub(crate) content: ContentDigest,
    pub(crate) batch_signature: Box<str>,
    pub(crate) key_count: u32,
    pub(crate) created_at: UnixMillis,
    /// What is known of its keys, one identity each in upload order.
    pub(crate) probe: Probe,
    /// The encoded keys, as they will be served.
    pub(crate) segment: Bytes,
    /// The same, sealed.
    pub(crate) sealed: Vec<u8>,
    pub(crate) permit: Permit,
}

impl SealedBatch {
    /// Bytes that the row takes, about.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.sealed.len()
            + size_of_val(self.probe.identities.as_slice())
            + self.batch_signature.len()
            + 256
    }
}

/// What a seal is bound to: a row's key data cannot be moved to another row.
pub(crate) fn seal_context(country: Country, tag: &UploadTag) -> Vec<u8> {
    [country.as_str().as_bytes(), tag.as_str().as_bytes()].concat()
}

/// Seal: encode once, encrypt once.
fn seal(
    unique: UniqueBatch<'_>,
    request: &UploadRequest,
    permit: Permit,
    around: &Surroundings<'_>,
    now: UnixMillis,
) -> SealedBatch {
    let (verified, probe) = unique.into_parts();
    let segment = verified.encode_segment();
    let context = seal_context(request.country, &request.tag);
    SealedBatch {
        country: request.country,
        tag: request.tag.clone(),
        uploader: request.uploader,
        signer: verified.signer(),
        content: verified.content(),
        batch_signature: request.batch_signature.clone(),
        key_count: verified.key_count(),
        created_at: now,
        probe,
        sealed: around.keys.seal(&segment, &context),
        segment: Bytes::from(segment),
        permit,
    }
}
