//! What an import reports beside its counts.

use std::fmt;

use super::upload::UploadFault;
use crate::domain::{BatchTag, Country, Thumbprint, UploadTag};

/// What an operator should know of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A certificate is refused.
    CertificateLeftOut {
        /// Its thumbprint column.
        thumbprint: String,
        /// Its country, as it was.
        country: String,
        /// Why.
        why: String,
    },
    /// A certificate is listed for two uses.
    CertificateForTwoUses(Thumbprint),
    /// A certificate has expired.
    CertificateExpired(Thumbprint),
    /// A signing certificate has an RSA key of fewer than 2048 bits.
    CertificateWeak(Thumbprint),
    /// A signing certificate has a key that signs no batches.
    CertificateUnsupported(Thumbprint),
    /// An upload is refused.
    UploadLeftOut {
        /// Its country, as it was.
        country: String,
        /// Its tag, as it was.
        tag: String,
        /// How many keys it has here.
        key_count: u64,
        /// Why.
        fault: UploadFault,
    },
    /// The PEM of a signing certificate is not as BouncyCastle writes it, and signed so.
    CertificateNotCanonical(Thumbprint),
    /// A callback subscription is left out: the API would refuse it.
    SubscriptionSkipped {
        /// The participant, as it was.
        country: String,
        /// Its name for the subscription, as it was.
        callback_id: String,
        /// Why.
        why: String,
    },
    /// The chain of the reference has another link here: it ended, or it is ambiguous.
    LinkDiffers {
        /// The download batch.
        batch: BatchTag,
        /// The batch that now follows it.
        next: BatchTag,
    },
    /// Two download batches have this name; they are one now.
    BatchNameTwice(BatchTag),
    /// Keys are in a download batch that the reference does not list; it is listed now.
    BatchUnlisted(BatchTag),
    /// Keys of several uploads lie in a muddle in a download batch (defect D-1); each upload's keys
    /// are together now.
    Interleaved(BatchTag),
    /// An upload got another tag: its own was taken by another part of the same upload in another
    /// download batch or by another upload (defect U-2), or is not allowed.
    TagChanged {
        /// The participant.
        country: Country,
        /// As it was.
        from: String,
        /// As it is now.
        to: UploadTag,
    },
    /// An upload's certificate column is no thumbprint; audits will show it without certificate.
    ThumbprintLost {
        /// The participant.
        country: Country,
        /// Its upload.
        tag: UploadTag,
    },
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificateLeftOut {
                thumbprint,
                country,
                why,
            } => write!(
                f,
                "certificate {thumbprint:?} of {country:?} is left out: {why}"
            ),
            Self::CertificateForTwoUses(thumbprint) => write!(
                f,
                "certificate {thumbprint} is listed for two uses: each should have its own"
            ),
            Self::CertificateExpired(thumbprint) => write!(
                f,
                "certificate {thumbprint} has expired: its owner needs a new one"
            ),
            Self::CertificateWeak(thumbprint) => write!(
                f,
                "certificate {thumbprint} has an RSA key of fewer than 2048 bits: uploads that it \
                 signs are refused"
            ),
            Self::CertificateUnsupported(thumbprint) => write!(
                f,
                "certificate {thumbprint} has a key that signs no batches (neither RSA of 2048 to \
                 8192 bits nor on P-256, P-384 or P-521): uploads that it signs are refused"
            ),
            Self::UploadLeftOut {
                country,
                tag,
                key_count,
                fault,
            } => write!(
                f,
                "upload {tag:?} of {country:?} with {key_count} keys is left out: {fault}"
            ),
            Self::CertificateNotCanonical(thumbprint) => write!(
                f,
                "certificate {thumbprint} is not written in 64 columns with LF and nothing around \
                 it: IT drops the keys of its country; write it again with openssl x509, have that \
                 signed, put both into the reference's table and import again"
            ),
            // The URL itself may hold a secret.
            Self::SubscriptionSkipped {
                country,
                callback_id,
                why,
            } => write!(
                f,
                "callback subscription {callback_id:?} of {country:?} is left out: {why}; its \
                 participant has to subscribe again"
            ),
            Self::LinkDiffers { batch, next } => write!(
                f,
                "download batch {batch} had no link to {next}, which now follows it"
            ),
            Self::BatchNameTwice(batch) => {
                write!(
                    f,
                    "two download batches are named {batch}; they are one now"
                )
            }
            Self::BatchUnlisted(batch) => {
                write!(
                    f,
                    "download batch {batch} had keys and was not listed; it is now"
                )
            }
            Self::Interleaved(batch) => write!(
                f,
                "uploads were interleaved in download batch {batch}; each one's keys are together now"
            ),
            Self::TagChanged { country, from, to } => write!(
                f,
                "an upload of {country} with the tag {from:?}, which is in use twice or not \
                 allowed, has the tag {to} now"
            ),
            Self::ThumbprintLost { country, tag } => write!(
                f,
                "upload {tag} of {country} names no certificate; audits will show none"
            ),
        }
    }
}
