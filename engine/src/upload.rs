//! The spine: one upload through all CPU stages in order. The caller hands the result to persist.

mod error;

pub use error::{Rejection, UploadError};

use std::borrow::Cow;
use std::fmt;

use bytes::Bytes;

use crate::admission::Permit;
use crate::clock::Clock;
use crate::decode::decode;
use crate::dedup::{Duplicates, IdentitySet, Probe, TagIndex, TagState, UniqueBatch, dedup};
use crate::domain::{
    ContentDigest, Country, FORMAT_VERSION, Format, Thumbprint, UnixMillis, UploadTag,
};
use crate::log_chain::{ColumnsDigest, LogColumns};
use crate::overload::Overload;
use crate::seal::{Keys, SealedRow};
use crate::settings::UploadSettings;
use crate::stage::{StageTime, timed};
use crate::trust::Trust;
use crate::validate::{ValidBatch, validate_on};
use crate::verify::{
    Exceptions, Mismatch, SignatureError, SignedContent, VerifiedBatch, VerifyContext, VerifyError,
    verify,
};
use crate::wire::{BodyError, json, name_mix_up};

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
    /// Whether it is only to be checked: everything is done but storing it.
    pub dry_run: bool,
}

/// The answer to a valid upload.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Receipt {
    /// Stored whole and durable: 201. After a dry run: would be stored.
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

/// Delivers the answer to the waiting uploader. Called exactly once; must not block.
pub(crate) type Reply = Box<dyn FnOnce(Result<Receipt, UploadError>) + Send>;

/// Decides whether another upload may be stored.
pub trait Allow: fmt::Debug {
    /// Whether a participant may store so many new keys now. Asked before they are sealed: a
    /// refused upload costs no encryption.
    ///
    /// # Errors
    /// [`Overload`] at the bound that the upload would exceed.
    fn allow(&self, country: Country, key_count: u32) -> Result<(), Overload>;
}

/// The context of the stages.
#[derive(Debug)]
pub struct UploadContext<'a> {
    /// Bounds of uploads.
    pub settings: &'a UploadSettings,
    /// Participants that may sign with SHA-1.
    pub legacy_sha1: &'a [Country],
    /// Participants that may sign with RSA-PSS.
    pub pss: &'a [Country],
    /// Makes identities, and seals.
    pub keys: &'a Keys,
    /// The certificate list.
    pub trust: &'a Trust,
    /// Known keys.
    pub set: &'a IdentitySet,
    /// Known upload tags.
    pub tags: &'a TagIndex,
    /// The quota and the memory that is left.
    pub allowance: &'a dyn Allow,
    /// Tells the time, and the day that the age of keys is counted from.
    pub clock: &'a dyn Clock,
}

/// The result of the CPU stages.
#[derive(Debug)]
pub enum Prepared {
    /// Everything is in order: to be stored.
    Sealed(Box<SealedBatch>),
    /// Nothing is to be stored. The answer comes from memory, so persist confirms it
    /// before it is sent.
    Answered(Result<Receipt, Rejection>, Permit),
    /// Nothing is to be stored: some keys are known or occur twice. Persist confirms these, too, and
    /// adds what other gateways have stored meanwhile.
    Duplicated(Duplicates, Permit),
    /// A dry run that has passed all stages: nothing is to be stored. Persist confirms it, and adds
    /// duplicates of what other gateways have stored meanwhile.
    DryRun(Duplicates, Permit),
}

/// The walk of one upload through the CPU stages.
///
/// # Errors
/// [`UploadError`] of the first stage that refuses it. A taken tag is a [`Prepared::Answered`]
/// instead, because the database has to confirm it.
pub fn prepare(
    request: &UploadRequest,
    permit: Permit,
    context: &UploadContext<'_>,
) -> Result<Prepared, UploadError> {
    let walk = Walk {
        request,
        context,
        now: context.clock.now(),
    };
    let (day, latest) = (context.clock.day(), context.clock.latest());
    let mut decoding = StageTime::of("decode");
    let mixed_up = |error| name_mix_up(error, &request.body, request.format);
    let body = decoding.add(|| walk.protobuf_body()).map_err(mixed_up)?;
    let decoded = decoding.add(|| decode(&body, context.settings.keys_max));
    let decoded = decoded.map_err(mixed_up)?;
    drop(decoding);
    let valid = timed("validate", || validate_on(decoded, day, latest))?;
    walk.log_validated(&valid);
    let key_count = valid.keys().key_count();
    match walk.verify(valid) {
        Ok(Some((verified, content))) => walk.store_or_refuse(verified, &content, permit),
        Ok(None) => Ok(Prepared::Answered(Ok(replay(key_count)), permit)),
        Err(UploadError::Rejection(taken @ Rejection::UploadTagTaken { .. })) => {
            Ok(Prepared::Answered(Err(taken), permit))
        }
        Err(error) => Err(error),
    }
}

/// The same content was stored under the same tag before.
const fn replay(key_count: u32) -> Receipt {
    Receipt::Stored {
        key_count,
        replayed: true,
    }
}

/// An upload on its way through the stages, with the one time that all of them use.
#[derive(Clone, Copy)]
struct Walk<'a> {
    request: &'a UploadRequest,
    context: &'a UploadContext<'a>,
    now: UnixMillis,
}

impl<'a> Walk<'a> {
    fn protobuf_body(&self) -> Result<Cow<'a, [u8]>, BodyError> {
        let body = &self.request.body;
        match self.request.format {
            Format::Protobuf => Ok(Cow::Borrowed(body)),
            Format::Json => json::to_protobuf(body, self.context.settings.keys_max).map(Cow::Owned),
        }
    }

    /// Verify; `None` if the upload's content was stored under its tag before.
    fn verify<'b>(
        &self,
        valid: ValidBatch<'b>,
    ) -> Result<Option<(VerifiedBatch<'b>, SignedContent)>, UploadError> {
        let mut verifying = StageTime::of("verify");
        let content = verifying.add(|| crate::verify::signed_content(&valid));
        let key_count = valid.keys().key_count();
        // The reference looks at the tag before the signature (wire §11.10).
        let known = self.tag_state(&content);
        if known == TagState::Taken {
            return Err(Rejection::UploadTagTaken { key_count }.into());
        }
        let context = VerifyContext {
            country: self.request.country,
            batch_signature: &self.request.batch_signature,
            exceptions: Exceptions {
                sha1: self.context.legacy_sha1.contains(&self.request.country),
                pss: self.context.pss.contains(&self.request.country),
            },
            trust: self.context.trust,
            now: self.now,
        };
        let verified = verifying.add(|| verify(valid, &content, &context));
        let verified = verified.map_err(|error| self.explain(error, &content))?;
        self.log_verified(&verified);
        let is_new = known != TagState::SameContent;
        Ok(is_new.then_some((verified, content)))
    }

    /// Adds what the gateway computed to a signature that covers something else, and which mistake
    /// explains it.
    fn explain(&self, error: VerifyError, content: &SignedContent) -> UploadError {
        let VerifyError::Signature(
            error @ (SignatureError::DigestMismatch | SignatureError::Wrong),
        ) = error
        else {
            return error.into();
        };
        let mismatch = Mismatch {
            canonical: content.canonical(),
            body: &self.request.body,
            batch_signature: &self.request.batch_signature,
        };
        // The certificate and its country were checked before the digest: nobody else gets here.
        let mistake = (error == SignatureError::DigestMismatch).then(|| mismatch.mistake());
        UploadError::ContentMismatch {
            error,
            content: Box::new(content.summary(mistake.flatten())),
        }
    }

    /// Dedup; without duplicates, ask for the allowance and seal.
    fn store_or_refuse(
        &self,
        verified: VerifiedBatch<'_>,
        content: &SignedContent,
        permit: Permit,
    ) -> Result<Prepared, UploadError> {
        let key_count = verified.key_count();
        let (keys, set) = (self.context.keys, self.context.set);
        let unique = match timed("dedup", || dedup(verified, content.canonical(), keys, set)) {
            Ok(unique) => unique,
            // The same upload may have been stored since the tag was looked up.
            Err(duplicates) => {
                return Ok(match self.tag_state(content) {
                    TagState::SameContent => Prepared::Answered(Ok(replay(key_count)), permit),
                    TagState::Free | TagState::Taken => Prepared::Duplicated(duplicates, permit),
                });
            }
        };
        let country = self.request.country;
        self.context.allowance.allow(country, key_count)?;
        if self.request.dry_run {
            return Ok(Prepared::DryRun(unique.into_dry_run(), permit));
        }
        let sealed = timed("seal", || self.seal(unique, permit));
        Ok(Prepared::Sealed(Box::new(sealed)))
    }

    fn tag_state(&self, content: &SignedContent) -> TagState {
        let (country, tag) = (self.request.country, &self.request.tag);
        self.context.tags.state(country, tag, content.digest())
    }

    /// Seal: encode once, encrypt once.
    fn seal(&self, unique: UniqueBatch<'_>, permit: Permit) -> SealedBatch {
        let request = self.request;
        let (verified, probe) = unique.into_parts();
        let segment = verified.encode_segment();
        let (signer, content) = (verified.signer(), verified.content());
        let key_count = verified.key_count();
        let tag = self
            .context
            .tags
            .for_next_use(request.country, &request.tag);
        let columns = self.context.keys.chain().columns(&LogColumns {
            created_at: self.now,
            country: request.country,
            tag: &tag,
            key_count,
            format_version: FORMAT_VERSION,
            uploader: &request.uploader,
            signer: &signer,
            content: &content,
            batch_signature: &request.batch_signature,
            identities: &probe.identities,
        });
        let row = SealedRow {
            country: request.country,
            tag: &tag,
            content: &content,
            signer: &signer,
            key_count,
            columns: Some(columns),
        };
        let sealed = self.context.keys.seal(&segment, &row.seal_context());
        SealedBatch {
            country: request.country,
            tag,
            uploader: request.uploader,
            signer,
            content,
            batch_signature: request.batch_signature.clone(),
            key_count,
            created_at: self.now,
            columns,
            probe,
            sealed,
            segment: Bytes::from(segment),
            permit,
        }
    }

    fn log_validated(&self, valid: &ValidBatch<'_>) {
        let (country, tag) = (self.request.country, self.request.tag.as_str());
        let keys = valid.keys().key_count();
        let message = "Successful validation of diagnosis keys";
        tracing::debug!(stage = "validate", %country, batchTag = tag, numKeys = keys, "{message}");
    }

    fn log_verified(&self, verified: &VerifiedBatch<'_>) {
        let message = "verified batch signature";
        tracing::debug!(
            stage = "verify",
            country = %self.request.country,
            batchTag = self.request.tag.as_str(),
            numKeys = verified.key_count(),
            certThumbprint = %verified.signer(),
            "{message}"
        );
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
    /// The chain's digest of the row that it becomes.
    pub(crate) columns: ColumnsDigest,
    /// What is known of its keys, one identity each in upload order.
    pub(crate) probe: Probe,
    /// The encoded keys, as they will be served.
    pub(crate) segment: Bytes,
    /// The same, sealed.
    pub(crate) sealed: Vec<u8>,
    pub(crate) permit: Permit,
}

impl SealedBatch {
    /// Approximate size of the row in bytes.
    pub(crate) fn stored_bytes(&self) -> usize {
        self.sealed.len()
            + size_of_val(self.probe.identities.as_slice())
            + self.batch_signature.len()
            + 256
    }
}
