//! What an import tells beside its counts.

use std::fmt;

use crate::domain::{BatchTag, Country, Thumbprint, UploadTag};

/// What an operator should know of an import.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Note {
    /// A certificate could not be taken over.
    CertificateSkipped {
        /// Its thumbprint column.
        thumbprint: String,
    },
    /// The trust anchor does not vouch for a certificate: it is listed and will not be believed.
    CertificateNotVouchedFor(Thumbprint),
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
    /// So many keys are not what their hash column says.
    KeysAltered(u64),
}

impl fmt::Display for Note {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CertificateSkipped { thumbprint } => {
                write!(
                    f,
                    "certificate {thumbprint:?} cannot be read and is left out"
                )
            }
            Self::CertificateNotVouchedFor(thumbprint) => write!(
                f,
                "certificate {thumbprint} is not vouched for by the trust anchor and will be refused"
            ),
            Self::CertificateNotCanonical(thumbprint) => write!(
                f,
                "certificate {thumbprint} is not written in 64 columns with LF and nothing around \
                 it: IT drops the keys of its country; write it anew with openssl x509, have that \
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
            Self::KeysAltered(count) => {
                write!(
                    f,
                    "{count} keys are not what their hashes say; they are imported as they are"
                )
            }
        }
    }
}
