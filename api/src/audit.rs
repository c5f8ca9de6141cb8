//! `GET /diagnosiskeys/audit/download/{date}/{batchTag}` (wire §15).
//!
//! - *In*: a request, not authenticated yet.
//! - *Out*: one JSON object per upload of the batch, the caller's own last (repairs FI), ten
//!   members each, none of them null (FI refuses the whole response otherwise).
//! - *Refuses*: in this order: unauthenticated requests, media types, an invalid date, and whatever
//!   the engine refuses.
//! - *Assumes*: the engine has put the entries in order.
//! - *Runs on*: a tokio thread.

use axum::body::Body;
use engine::Failure;
use engine::bundle::{AuditEntry, DownloadError, DownloadRefusal};
use engine::domain::{CertificateKind, Day, Thumbprint, UnixMillis};
use engine::trust::{ListedCertificate, Trust};
use http::Response;
use http::request::Parts;
use serde::Serialize;
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;
use tokio::sync::oneshot;

use crate::gateway::Gateway;
use crate::negotiate;
use crate::participant::Participant;
use crate::request_date::read_day;
use crate::response::{self, Refusal};

/// Answers an audit.
///
/// # Errors
/// Any [`Refusal`] but that of a route.
pub(crate) async fn answer(
    gateway: &Gateway,
    parts: &Parts,
    date: &str,
    tag: &str,
) -> Result<Response<Body>, Refusal> {
    let participant = gateway.authenticate(parts)?;
    let json_type = negotiate::json_answer(&parts.headers)?;
    let day = read_day(date)?;
    let outcome = ask(gateway, &participant, day, tag).await;
    log(&outcome, &participant, tag);
    let trust = gateway.engine.trust();
    let entries = outcome?;
    let shown: Vec<_> = entries
        .iter()
        .map(|entry| ShownEntry::new(entry, &trust))
        .collect();
    Ok(response::found(json_type, &shown))
}

async fn ask(
    gateway: &Gateway,
    participant: &Participant,
    day: Day,
    tag: &str,
) -> Result<Vec<AuditEntry>, DownloadError> {
    let (sender, receiver) = oneshot::channel();
    gateway
        .engine
        .audit(participant.country, day, tag, move |outcome| {
            // Fails when the participant has disconnected.
            let _ = sender.send(outcome);
        });
    receiver
        .await
        .unwrap_or(Err(DownloadError::Failure(Failure::ShuttingDown)))
}

/// An entry as it is sent. Unknown members are empty, never null.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownEntry<'a> {
    country: &'a str,
    uploaded_time: String,
    uploader_certificate: &'a str,
    uploader_thumbprint: String,
    uploader_operator_signature: &'a str,
    signing_certificate: &'a str,
    uploader_signing_thumbprint: String,
    signing_certificate_operator_signature: &'a str,
    amount: u32,
    batch_signature: &'a str,
}

impl<'a> ShownEntry<'a> {
    fn new(entry: &'a AuditEntry, trust: &'a Trust) -> Self {
        let uploader = trust.find(&entry.uploader, CertificateKind::Authentication);
        let signer = trust.find(&entry.signer, CertificateKind::Signing);
        Self::with_certificates(
            entry,
            SignedCertificate::new(&entry.uploader, uploader.map(AsRef::as_ref)),
            SignedCertificate::new(&entry.signer, signer.map(AsRef::as_ref)),
        )
    }

    fn with_certificates(
        entry: &'a AuditEntry,
        uploader: SignedCertificate<'a>,
        signer: SignedCertificate<'a>,
    ) -> Self {
        Self {
            country: entry.country.as_str(),
            uploaded_time: iso_time(entry.uploaded_at),
            uploader_certificate: uploader.pem,
            uploader_thumbprint: uploader.legacy_thumbprint,
            uploader_operator_signature: uploader.operator_signature,
            signing_certificate: signer.pem,
            uploader_signing_thumbprint: signer.legacy_thumbprint,
            signing_certificate_operator_signature: signer.operator_signature,
            amount: entry.key_count,
            batch_signature: &entry.batch_signature,
        }
    }
}

/// A certificate and the operator's signature over it. Revocation is not considered: what was
/// uploaded with it must stay verifiable.
struct SignedCertificate<'a> {
    pem: &'a str,
    legacy_thumbprint: String,
    operator_signature: &'a str,
}

impl<'a> SignedCertificate<'a> {
    fn new(thumbprint: &Thumbprint, listed: Option<&'a ListedCertificate>) -> Self {
        let row = listed
            .filter(|listed| listed.is_intact())
            .map(|listed| &listed.row);
        if row.is_none() {
            let message = "the certificate of an upload is no longer listed";
            tracing::warn!(certVerifyThumbprint = %thumbprint, "{message}");
        }
        Self {
            pem: row.map_or("", |row| &row.pem),
            legacy_thumbprint: thumbprint.legacy_hex(),
            operator_signature: row.map_or("", |row| &row.operator_signature),
        }
    }
}

const ISO_TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// ISO 8601 with milliseconds, UTC: `2020-10-06T09:12:33.120Z`.
fn iso_time(instant: UnixMillis) -> String {
    let nanoseconds = i128::from(instant.0) * 1_000_000;
    let time = OffsetDateTime::from_unix_timestamp_nanos(nanoseconds).ok();
    time.and_then(|time| time.format(ISO_TIME).ok())
        .unwrap_or_default()
}

/// The reference's events (wire §18.3).
fn log(outcome: &Result<Vec<AuditEntry>, DownloadError>, participant: &Participant, tag: &str) {
    let country = participant.country;
    match outcome {
        Ok(_) => tracing::info!(%country, batchTag = tag, "Requested Audit Information"),
        Err(DownloadError::Refused(refusal)) => log_refusal(*refusal, participant, tag),
        Err(DownloadError::Overload(overload)) => {
            tracing::info!(%country, reason = %overload, "audit refused");
        }
        Err(DownloadError::Failure(failure)) => {
            let exception = engine::chain(failure);
            tracing::error!(%country, exception, "audit failed");
        }
    }
}

fn log_refusal(refusal: DownloadRefusal, participant: &Participant, tag: &str) {
    let country = participant.country;
    let message = match refusal {
        DownloadRefusal::DateTooOld => "Requested date is too old",
        DownloadRefusal::UnknownBatchTag
        | DownloadRefusal::NoEntries
        | DownloadRefusal::NoBatchOnDate => "BatchTag Could not found",
        DownloadRefusal::OtherDay | DownloadRefusal::BatchBeforeDate => {
            "Requested date does not match the BatchTag creation date"
        }
    };
    tracing::info!(%country, batchTag = tag, "{message}");
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use engine::domain::Country;
    use engine::trust::{CertificateRow, RowFault};
    use serde_json::{Value, json};

    use super::*;

    fn entry() -> AuditEntry {
        AuditEntry {
            country: Country::parse("IT").unwrap(),
            uploaded_at: UnixMillis(1_601_975_553_120),
            uploader: Thumbprint([0xab; 32]),
            signer: Thumbprint([0; 32]),
            key_count: 17,
            batch_signature: "MIAG".into(),
        }
    }

    fn listed(kind: CertificateKind, fault: Option<RowFault>) -> ListedCertificate {
        ListedCertificate {
            row: CertificateRow {
                thumbprint: Thumbprint([0xab; 32]),
                country: Country::parse("IT").unwrap(),
                kind,
                pem: Arc::from("-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n"),
                operator_signature: Arc::from("c2ln"),
                revoked_at: Some(UnixMillis(1)),
            },
            not_before: UnixMillis(0),
            not_after: UnixMillis(0),
            fault,
        }
    }

    fn show(uploader: Option<&ListedCertificate>, signer: Option<&ListedCertificate>) -> Value {
        let entry = entry();
        let uploader = SignedCertificate::new(&entry.uploader, uploader);
        let signer = SignedCertificate::new(&entry.signer, signer);
        serde_json::to_value(ShownEntry::with_certificates(&entry, uploader, signer)).unwrap()
    }

    /// `date -u -d @1601975553.12`.
    const UPLOADED: &str = "2020-10-06T09:12:33.120Z";

    #[test]
    fn shows_all_ten_members() {
        let uploader = listed(CertificateKind::Authentication, None);
        let signer = listed(CertificateKind::Signing, None);
        let pem = "-----BEGIN CERTIFICATE-----\nMII\n-----END CERTIFICATE-----\n";
        let expected = json!({
            "country": "IT",
            "uploadedTime": UPLOADED,
            "uploaderCertificate": pem,
            "uploaderThumbprint": "ab".repeat(32),
            "uploaderOperatorSignature": "c2ln",
            "signingCertificate": pem,
            "uploaderSigningThumbprint": "",
            "signingCertificateOperatorSignature": "c2ln",
            "amount": 17,
            "batchSignature": "MIAG",
        });
        assert_eq!(show(Some(&uploader), Some(&signer)), expected);
    }

    #[test]
    fn shows_no_null_when_a_certificate_is_missing_or_tampered_with() {
        let tampered = listed(CertificateKind::Signing, Some(RowFault::OperatorSignature));
        let shown = show(None, Some(&tampered));
        assert!(
            shown
                .as_object()
                .unwrap()
                .values()
                .all(|value| !value.is_null())
        );
        assert_eq!(shown["uploaderCertificate"], "");
        assert_eq!(shown["signingCertificate"], "");
    }
}
