//! Why a verification ended early.

use engine::domain::{Country, Day, UploadTag};

use crate::client::ClientError;
use crate::client::signature::CertificateError;

/// Why a verification ended early.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// The trust anchor's certificate cannot be used.
    #[error("the trust anchor")]
    TrustAnchor(#[from] CertificateError),
    /// A record names a country without certificates.
    #[error("the record names {0}, which has no certificates in the PKI folder")]
    NoParticipant(Country),
    /// A record is inconsistent.
    #[error("upload {0:?} of the record does not fit its seed: other keys were signed")]
    Record(UploadTag),
    /// A participant's download failed permanently.
    #[error("{country}")]
    Client {
        /// The participant.
        country: Country,
        /// Why.
        source: ClientError,
    },
    /// A participant's download was refused.
    #[error("{country}: download was answered {status}: {body}")]
    Refused {
        /// The participant.
        country: Country,
        /// The status.
        status: u16,
        /// The response body, shortened.
        body: String,
    },
    /// Without a record, and without a download batch, there is nothing to check.
    #[error(
        "nothing to verify: no participant received a download batch of {day} or later, and no \
         record says that there should be one; is it the right day (--date)?"
    )]
    NothingReceived {
        /// The first day asked for.
        day: Day,
    },
    /// A participant's task failed.
    #[error("a download task failed")]
    Task(#[from] tokio::task::JoinError),
}
