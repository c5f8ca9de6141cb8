//! `POST /diagnosiskeys/upload` (wire §11 and §12): the HTTP side of the walk.
//!
//! - *In*: a request, not authenticated yet.
//! - *Out*: 201 after the commit, or 207 with the positions of the duplicates.
//! - *Refuses*: in this order: unauthenticated requests, media types, headers, an overloaded gateway
//!   (before a byte of the body is read), a body too large or too slow, participants who may not
//!   upload any more when it is complete, and whatever the engine refuses.
//! - *Assumes*: the connection has bounded the headers.
//! - *Runs on*: a tokio thread, which only waits; the engine's threads do the work.

use axum::body::Body;
use bytes::Bytes;
use engine::domain::{Country, Format, Thumbprint, UploadTag};
use engine::limits::UPLOAD_ANSWER_MAX;
use engine::upload::{Receipt, UploadRequest};
use engine::verify::{SignatureError, ValiditySeconds};
use engine::{Failure, Rejection, UploadError};
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body::Body as _;
use tokio::sync::oneshot;

use crate::gateway::Gateway;
use crate::participant::Participant;
use crate::request_body::read_body;
use crate::response::{self, BATCH_SIGNATURE, BATCH_TAG, Refusal, RequestError};
use crate::{negotiate, participant_counters, telemetry};

/// Answers an upload.
///
/// # Errors
/// Any [`Refusal`] but that of a route.
pub(crate) async fn answer(
    gateway: &Gateway,
    parts: &Parts,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let participant = gateway.authenticate(parts)?;
    let format = negotiate::upload_format(&parts.headers)?;
    negotiate::json_answer(&parts.headers)?;
    let tag = upload_tag(&parts.headers)?;
    let batch_signature = batch_signature(&parts.headers)?;
    let dry_run = dry_run(parts.uri.query())?;
    let request = |participant: Participant, body| UploadRequest {
        country: participant.country,
        uploader: participant.thumbprint,
        tag: tag.clone(),
        batch_signature,
        body,
        format,
        dry_run,
    };
    let outcome = receive(gateway, parts, body, participant.country, request).await;
    if dry_run {
        log_dry_run(&outcome, &participant, &tag);
        let answered = outcome.map(|receipt| response::receipt(&receipt, &tag));
        let answered = answered.unwrap_or_else(|refusal| gateway.refuse(&refusal));
        return Ok(response::marked_as_dry_run(answered));
    }
    participant_counters::count_upload(participant.country, &outcome);
    log(&outcome, &participant, &tag);
    Ok(response::receipt(&outcome?, &tag))
}

/// Whether the query asks for a dry run. Anything but true and false is refused: a misspelled value
/// must not store anything. Other parameters are passed over.
fn dry_run(query: Option<&str>) -> Result<bool, RequestError> {
    let mut dry_run = false;
    for (name, value) in url::form_urlencoded::parse(query.unwrap_or_default().as_bytes()) {
        if name.eq_ignore_ascii_case("dryRun") {
            dry_run = match &*value {
                "true" => true,
                "false" if !dry_run => false,
                _ => return Err(RequestError::InvalidDryRun),
            };
        }
    }
    Ok(dry_run)
}

/// Not the reference's events, which report stored keys.
fn log_dry_run(outcome: &Result<Receipt, Refusal>, participant: &Participant, tag: &UploadTag) {
    let (country, batch_tag) = (participant.country, tag.as_str());
    let outcome = match outcome {
        Ok(Receipt::Stored { .. }) => "would be stored",
        Ok(Receipt::Refused { .. }) => "duplicates",
        Err(refusal) => response::code(refusal),
    };
    tracing::info!(%country, batchTag = batch_tag, outcome, "dry run of an upload");
}

/// From admission to the receipt.
async fn receive(
    gateway: &Gateway,
    parts: &Parts,
    body: Body,
    country: Country,
    request: impl FnOnce(Participant, Bytes) -> UploadRequest,
) -> Result<Receipt, Refusal> {
    let bytes_max = gateway.body_bytes_max;
    let announced_bytes = announced_bytes(&body, bytes_max)?;
    let admission = gateway.engine.admission();
    let mut permit = admission.admit(country, announced_bytes)?;
    let body = read_body(parts, body, bytes_max, &gateway.timeouts).await?;
    permit.shrink_to(body.len());
    // Again: a body may take minutes, and its sender may have been revoked meanwhile.
    let request = request(gateway.authenticate(parts)?, body);
    if request.body.is_empty() && request.format == Format::Json {
        return Err(RequestError::EmptyJson.into());
    }
    let (sender, receiver) = oneshot::channel();
    gateway.engine.upload(permit, request, move |outcome| {
        // Fails when the participant has disconnected; what is stored stays stored.
        let _ = sender.send(outcome);
    });
    let outcome = tokio::time::timeout(UPLOAD_ANSWER_MAX, receiver).await;
    match outcome {
        Ok(Ok(outcome)) => Ok(outcome?),
        Ok(Err(_)) => Err(UploadError::from(Failure::ShuttingDown).into()),
        // Whatever it waits for: the participant is answered before its client times out.
        Err(_) => Err(UploadError::from(Failure::NoOutcome).into()),
    }
}

/// The participant's own name for the upload: the first header of that name.
fn upload_tag(headers: &HeaderMap) -> Result<UploadTag, RequestError> {
    let sent = headers
        .get(BATCH_TAG)
        .ok_or(RequestError::MissingBatchTag)?;
    let text = sent.to_str().map_err(|_| RequestError::InvalidUploadTag)?;
    UploadTag::parse(text).map_err(|_| RequestError::InvalidUploadTag)
}

/// The signature as sent; the verify stage parses it.
fn batch_signature(headers: &HeaderMap) -> Result<Box<str>, RequestError> {
    let sent = headers
        .get(BATCH_SIGNATURE)
        .ok_or(RequestError::MissingBatchSignature)?;
    Ok(String::from_utf8_lossy(sent.as_bytes()).into())
}

/// How many bytes to ask a permit for: those announced, otherwise the maximum.
fn announced_bytes(body: &Body, bytes_max: usize) -> Result<usize, RequestError> {
    let announced = body.size_hint().exact().map(usize::try_from);
    match announced {
        Some(Ok(bytes)) if bytes <= bytes_max => Ok(bytes),
        Some(_) => Err(RequestError::BodyTooLarge { bytes_max }),
        None => Ok(bytes_max),
    }
}

/// The reference's events (wire §18.3), one per upload. Refusals are warnings: some backends delete keys that
/// they cannot upload, so that an operator has to act.
fn log(outcome: &Result<Receipt, Refusal>, participant: &Participant, tag: &UploadTag) {
    let (country, batch_tag) = (participant.country, tag.as_str());
    match outcome {
        Ok(Receipt::Stored {
            key_count,
            replayed,
        }) => {
            tracing::info!(
                %country,
                batchTag = batch_tag,
                numKeys = key_count,
                replayed,
                "successfull batch upload"
            );
        }
        Ok(Receipt::Refused {
            key_count,
            duplicates,
        }) => {
            let conflicts = duplicates.len();
            tracing::info!(
                %country,
                batchTag = batch_tag,
                numKeys = key_count,
                insertedKeyCount = 0,
                conflictKeysCount = conflicts,
                failedKeysCount = 0,
                "error inserting keys"
            );
        }
        Err(Refusal::Upload(UploadError::Rejection(rejection))) => {
            log_rejection(*rejection, participant, tag);
        }
        Err(Refusal::Upload(UploadError::ContentMismatch { error, .. })) => {
            log_signature(*error, participant, tag);
        }
        Err(Refusal::Upload(UploadError::Failure(failure))) => {
            let exception = engine::chain(failure);
            tracing::error!(%country, batchTag = batch_tag, exception, "upload failed");
        }
        Err(refusal) => {
            let reason = response::code(refusal);
            tracing::warn!(%country, batchTag = batch_tag, reason, "upload refused");
        }
    }
}

fn log_rejection(rejection: Rejection, participant: &Participant, tag: &UploadTag) {
    let (country, batch_tag) = (participant.country, tag.as_str());
    match rejection {
        Rejection::TooManyKeys { max } => {
            // Decoding stops at the first key above the maximum.
            let keys = max.saturating_add(1);
            let message = "too many diagnosis keys";
            tracing::warn!(%country, batchTag = batch_tag, numKeys = keys, maxKeys = max, "{message}");
        }
        Rejection::UploadTagTaken { key_count } => {
            let message = "batchTag already exists";
            tracing::warn!(%country, batchTag = batch_tag, numKeys = key_count, "{message}");
        }
        Rejection::OriginMismatch(mismatch) => {
            let (index, keys) = (mismatch.index, mismatch.key_count);
            let message = "invalid uploader country";
            tracing::warn!(%country, batchTag = batch_tag, numKeys = keys, index, "{message}");
        }
        Rejection::Signature(error) => log_signature(error, participant, tag),
        Rejection::InvalidKey { index, rule } => {
            let reason = rule.to_string();
            let message = "Validation of diagnosis key failed";
            tracing::warn!(%country, batchTag = batch_tag, index, reason, "{message}");
        }
        Rejection::MalformedBatch(error) => {
            tracing::warn!(%country, batchTag = batch_tag, reason = %error, "malformed batch");
        }
    }
}

/// The setting that would permit the signature, by country.
const fn permitting_setting(error: SignatureError) -> Option<&'static str> {
    match error {
        SignatureError::WeakDigest => Some("[signatures] legacy_sha1"),
        SignatureError::PssNotAllowed => Some("[signatures] pss"),
        _ => None,
    }
}

fn log_signature(error: SignatureError, participant: &Participant, tag: &UploadTag) {
    let facts = SignatureFacts::of(error);
    let date = telemetry::utc_seconds;
    macro_rules! log {
        ($($field:ident = $value:expr)?) => {
            tracing::warn!(
                country = %participant.country,
                batchTag = tag.as_str(),
                reason = error.code(),
                certThumbprint = facts.thumbprint.map(|thumbprint| thumbprint.to_string()),
                certNotBefore = facts.validity.map(|validity| date(validity.not_before)),
                certNotAfter = facts.validity.map(|validity| date(validity.not_after)),
                index = facts.index,
                $($field = $value,)?
                exception = %error,
                "{}",
                facts.event
            )
        };
    }
    match permitting_setting(error) {
        Some(setting) => log!(setting = setting),
        None => log!(),
    }
}

/// A refused signature in the terms of the reference's events.
#[derive(Debug, Default)]
struct SignatureFacts {
    event: &'static str,
    thumbprint: Option<Thumbprint>,
    validity: Option<ValiditySeconds>,
    index: Option<u32>,
}

impl SignatureFacts {
    fn of(error: SignatureError) -> Self {
        let plain = |event| Self {
            event,
            ..Self::default()
        };
        let about = |event, thumbprint| Self {
            thumbprint: Some(thumbprint),
            ..plain(event)
        };
        match error {
            SignatureError::NoSigner => plain("no signer information"),
            SignatureError::NoCertificate => plain("no signer certificate"),
            SignatureError::NotYetValid(validity) | SignatureError::Expired(validity) => Self {
                validity: Some(validity),
                ..plain("signing certificate expired")
            },
            SignatureError::UnknownCertificate(thumbprint) => {
                about("unknown signing certificate", thumbprint)
            }
            SignatureError::BrokenRow(thumbprint) => {
                about("invalid signing certificate signature", thumbprint)
            }
            SignatureError::OtherCountry(thumbprint) => {
                about("signing certificate of another country", thumbprint)
            }
            SignatureError::RevokedCertificate(thumbprint) => {
                about("certificate is revoked", thumbprint)
            }
            SignatureError::ForeignOrigin { index, .. } => Self {
                index: Some(index),
                ..plain("different origins")
            },
            SignatureError::NotBase64
            | SignatureError::NotCms
            | SignatureError::AttachedContent
            | SignatureError::SeveralSigners
            | SignatureError::NoCountry
            | SignatureError::UnsupportedAlgorithm
            | SignatureError::WeakDigest
            | SignatureError::PssNotAllowed
            | SignatureError::WeakKey
            | SignatureError::SignedAttributes
            | SignatureError::SigningTime
            | SignatureError::DigestMismatch
            | SignatureError::Wrong => plain("error verifying batch signature"),
        }
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use http_body_util::BodyExt as _;

    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn accepts_tags_of_1_to_64_visible_characters_only() {
        let tag = |value: &[u8]| upload_tag(&headers(&[("BatchTag", value)]));
        assert_eq!(
            tag(b"2020-10-5-Ab+/==-1").unwrap().as_str(),
            "2020-10-5-Ab+/==-1"
        );
        assert_eq!(tag(&[b'x'; 64]).unwrap().as_str().len(), 64);
        for value in [
            &b""[..],
            &[b'x'; 65],
            b"a b",
            b"a\tb",
            "é".as_bytes(),
            b"\xff",
        ] {
            assert_eq!(tag(value), Err(RequestError::InvalidUploadTag), "{value:?}");
        }
        assert_eq!(
            upload_tag(&headers(&[])),
            Err(RequestError::MissingBatchTag)
        );
    }

    #[test]
    fn leaves_an_empty_signature_to_the_verify_stage() {
        let signature = batch_signature(&headers(&[("batchsignature", b"")]));
        assert_eq!(signature, Ok("".into()));
        let missing = batch_signature(&headers(&[("batchtag", b"t")]));
        assert_eq!(missing, Err(RequestError::MissingBatchSignature));
    }

    #[test]
    fn asks_for_as_many_bytes_as_are_announced() {
        let announced = |body| announced_bytes(&body, 3);
        assert_eq!(announced(Body::from("abc")), Ok(3));
        let too_large = Err(RequestError::BodyTooLarge { bytes_max: 3 });
        assert_eq!(announced(Body::from("abcd")), too_large);
        let of_unknown_size = Body::new(Body::from("a").map_frame(|frame| frame));
        assert_eq!(announced(of_unknown_size), Ok(3));
    }
}
