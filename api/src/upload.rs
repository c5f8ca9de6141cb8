//! `POST /diagnosiskeys/upload` (wire behaviour §11 and §12): HTTP's side of the walk.
//!
//! - *In*: a request of whoever it may be.
//! - *Out*: 201 after the commit, or 207 with the positions of the duplicates.
//! - *Refuses*: in this order: who is nobody, media types, headers, a full gateway (before a byte
//!   of the body is read), a body too large or too slow, and whatever the engine refuses.
//! - *Assumes*: the connection has bounded the headers.
//! - *Runs on*: a tokio thread that only waits; the engine's threads do the work.

use std::time::Instant;

use axum::body::Body;
use bytes::{Bytes, BytesMut};
use engine::domain::{Format, Thumbprint, UploadTag};
use engine::upload::{Receipt, UploadRequest};
use engine::verify::{SignatureError, ValiditySeconds};
use engine::{Failure, Rejection, UploadError};
use http::request::Parts;
use http::{HeaderMap, Response};
use http_body::Body as _;
use http_body_util::BodyExt as _;
use tokio::sync::oneshot;
use tokio::time::timeout_at;

use crate::connection::Patience;
use crate::participant::Participant;
use crate::response::{self, BATCH_SIGNATURE, BATCH_TAG, Refusal, RequestError};
use crate::router::{Gateway, abandon};
use crate::{negotiate, telemetry};

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
    let json_type = negotiate::json_answer(&parts.headers)?;
    let tag = upload_tag(&parts.headers)?;
    let batch_signature = batch_signature(&parts.headers)?;
    let outcome = receive(gateway, parts, body, |body| UploadRequest {
        country: participant.country,
        uploader: participant.thumbprint,
        tag: tag.clone(),
        batch_signature,
        body,
        format,
    });
    let outcome = outcome.await;
    log(&outcome, &participant, &tag);
    Ok(response::receipt(&outcome?, &tag, json_type))
}

/// From the permit to the receipt.
async fn receive(
    gateway: &Gateway,
    parts: &Parts,
    mut body: Body,
    request: impl FnOnce(Bytes) -> UploadRequest,
) -> Result<Receipt, Refusal> {
    let bytes_max = gateway.body_bytes_max;
    let announced_bytes = announced_bytes(&body, bytes_max)?;
    let request = request(Bytes::new());
    let mut permit = gateway
        .engine
        .admission()
        .admit(request.country, announced_bytes)?;
    let read = read_body(&mut body, bytes_max, &gateway.patience).await;
    if read == Err(RequestError::BodyStalled) {
        // Before the body is dropped, which would wait for the rest of it once more.
        abandon(parts);
    }
    let body = read?;
    permit.shrink_to(body.len());
    if body.is_empty() && request.format == Format::Json {
        return Err(RequestError::EmptyJson.into());
    }
    let request = UploadRequest { body, ..request };
    let (sender, receiver) = oneshot::channel();
    gateway.engine.upload(permit, request, move |outcome| {
        // Fails when the participant has hung up; what is stored stays stored.
        let _ = sender.send(outcome);
    });
    let outcome = receiver.await;
    let receipt = outcome.unwrap_or(Err(UploadError::Failure(Failure::ShuttingDown)))?;
    Ok(receipt)
}

/// The participant's own name for the upload: the first header of that name.
fn upload_tag(headers: &HeaderMap) -> Result<UploadTag, RequestError> {
    let sent = headers
        .get(BATCH_TAG)
        .ok_or(RequestError::MissingBatchTag)?;
    let text = sent.to_str().map_err(|_| RequestError::InvalidUploadTag)?;
    UploadTag::parse(text).map_err(|_| RequestError::InvalidUploadTag)
}

/// The signature as sent; whether it is one, verify says.
fn batch_signature(headers: &HeaderMap) -> Result<Box<str>, RequestError> {
    let sent = headers
        .get(BATCH_SIGNATURE)
        .ok_or(RequestError::MissingBatchSignature)?;
    Ok(String::from_utf8_lossy(sent.as_bytes()).into())
}

/// How many bytes to ask a permit for: those announced, else as many as may come.
fn announced_bytes(body: &Body, bytes_max: usize) -> Result<usize, RequestError> {
    let announced = body.size_hint().exact().map(usize::try_from);
    match announced {
        Some(Ok(bytes)) if bytes <= bytes_max => Ok(bytes),
        Some(_) => Err(RequestError::BodyTooLarge { bytes_max }),
        None => Ok(bytes_max),
    }
}

/// Reads a body into one piece. What arrives in one piece is not copied.
///
/// # Errors
/// When it is too large, comes too slowly, or breaks off.
pub(crate) async fn read_body(
    body: &mut Body,
    bytes_max: usize,
    patience: &Patience,
) -> Result<Bytes, RequestError> {
    let expected = usize::try_from(body.size_hint().lower()).unwrap_or(bytes_max);
    let begun = Instant::now();
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    loop {
        let read_bytes = first.len() + whole.len();
        let due = begun + patience.allowance(read_bytes as u64);
        let due = due.min(Instant::now() + patience.stall);
        let frame = timeout_at(due.into(), body.frame()).await;
        let frame = match frame.map_err(|_| RequestError::BodyStalled)? {
            Some(frame) => frame.map_err(|_| RequestError::BodyUnreadable)?,
            None if whole.is_empty() => return Ok(first),
            None => return Ok(whole.freeze()),
        };
        let Ok(data) = frame.into_data() else {
            continue;
        };
        if read_bytes + data.len() > bytes_max {
            return Err(RequestError::BodyTooLarge { bytes_max });
        }
        if read_bytes == 0 {
            first = data;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(expected.clamp(read_bytes + data.len(), bytes_max));
            whole.extend_from_slice(&std::mem::take(&mut first));
        }
        whole.extend_from_slice(&data);
    }
}

/// The reference's events (wire behaviour §18.3), one per upload.
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
        Err(Refusal::Upload(UploadError::Failure(failure))) => {
            let exception = telemetry::chain(failure);
            tracing::error!(%country, batchTag = batch_tag, exception, "upload failed");
        }
        Err(refusal) => {
            let reason = response::code(refusal);
            tracing::info!(%country, batchTag = batch_tag, reason, "upload not taken");
        }
    }
}

fn log_rejection(rejection: Rejection, participant: &Participant, tag: &UploadTag) {
    let (country, batch_tag) = (participant.country, tag.as_str());
    match rejection {
        Rejection::TooManyKeys { max } => {
            // Reading ends at the first key too many.
            let keys = max.saturating_add(1);
            let message = "too many diagnosis keys";
            tracing::info!(%country, batchTag = batch_tag, numKeys = keys, maxKeys = max, "{message}");
        }
        Rejection::UploadTagTaken { key_count } => {
            let message = "batchTag already exists";
            tracing::info!(%country, batchTag = batch_tag, numKeys = key_count, "{message}");
        }
        Rejection::OriginMismatch(mismatch) => {
            let (index, keys) = (mismatch.index, mismatch.key_count);
            let message = "invalid uploader country";
            tracing::info!(%country, batchTag = batch_tag, numKeys = keys, index, "{message}");
        }
        Rejection::Signature(error) => log_signature(error, participant, tag),
        Rejection::InvalidKey { index, rule } => {
            let reason = rule.to_string();
            let message = "Validation of diagnosis key failed";
            tracing::info!(%country, batchTag = batch_tag, index, reason, "{message}");
        }
        Rejection::MalformedBatch(error) => {
            tracing::info!(%country, batchTag = batch_tag, reason = %error, "malformed batch");
        }
    }
}

fn log_signature(error: SignatureError, participant: &Participant, tag: &UploadTag) {
    let facts = SignatureFacts::of(error);
    let date = telemetry::utc_seconds;
    tracing::info!(
        country = %participant.country,
        batchTag = tag.as_str(),
        reason = error.code(),
        certThumbprint = facts.thumbprint.map(|thumbprint| thumbprint.to_string()),
        certNotBefore = facts.validity.map(|validity| date(validity.not_before)),
        certNotAfter = facts.validity.map(|validity| date(validity.not_after)),
        index = facts.index,
        exception = %error,
        "{}",
        facts.event
    );
}

/// A refused signature as the reference's events tell it.
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
            SignatureError::ForeignOrigin { index } => Self {
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
    use std::convert::Infallible;
    use std::pin::Pin;
    use std::task::{Context, Poll};
    use std::time::Duration;

    use http::HeaderValue;
    use http_body::Frame;

    use super::*;

    fn headers(pairs: &[(&'static str, &[u8])]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in pairs {
            headers.append(*name, HeaderValue::from_bytes(value).unwrap());
        }
        headers
    }

    #[test]
    fn takes_tags_of_1_to_64_visible_characters_only() {
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
    fn leaves_an_empty_signature_to_verify() {
        let signature = batch_signature(&headers(&[("batchsignature", b"")]));
        assert_eq!(signature, Ok("".into()));
        let missing = batch_signature(&headers(&[("batchtag", b"t")]));
        assert_eq!(missing, Err(RequestError::MissingBatchSignature));
    }

    const PATIENCE: Patience = Patience {
        stall: Duration::from_millis(40),
        idle: Duration::from_secs(75),
        tick: Duration::from_secs(1),
        rate_min: 1 << 20,
    };

    /// A body that gives these pieces and then ends, or waits for ever.
    struct Pieces {
        pieces: std::vec::IntoIter<&'static [u8]>,
        ends: bool,
    }

    impl http_body::Body for Pieces {
        type Data = Bytes;
        type Error = Infallible;

        fn poll_frame(
            mut self: Pin<&mut Self>,
            _: &mut Context<'_>,
        ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
            match self.pieces.next() {
                Some(piece) => Poll::Ready(Some(Ok(Frame::data(Bytes::from_static(piece))))),
                None if self.ends => Poll::Ready(None),
                None => Poll::Pending,
            }
        }
    }

    fn body(pieces: &[&'static [u8]], ends: bool) -> Body {
        Body::new(Pieces {
            pieces: Vec::from(pieces).into_iter(),
            ends,
        })
    }

    #[tokio::test]
    async fn reads_a_body_into_one_piece() {
        for pieces in
            [&[][..], &[b"abc"], &[b"a", b"", b"bc"], &[b"a", b"b", b"c"]] as [&[&[u8]]; 4]
        {
            let read = read_body(&mut body(pieces, true), 3, &PATIENCE)
                .await
                .unwrap();
            assert_eq!(read, pieces.concat());
        }
    }

    #[tokio::test]
    async fn stops_at_the_first_byte_too_many() {
        let read = read_body(&mut body(&[b"ab", b"cd"], false), 3, &PATIENCE).await;
        assert_eq!(read, Err(RequestError::BodyTooLarge { bytes_max: 3 }));
        let announced = announced_bytes(&Body::from("abcd"), 3);
        assert_eq!(announced, Err(RequestError::BodyTooLarge { bytes_max: 3 }));
        assert_eq!(announced_bytes(&Body::from("abc"), 3), Ok(3));
        assert_eq!(announced_bytes(&body(&[], true), 3), Ok(3));
    }

    #[tokio::test]
    async fn does_not_wait_for_a_sender_that_stalls() {
        let read = read_body(&mut body(&[b"ab"], false), 30, &PATIENCE).await;
        assert_eq!(read, Err(RequestError::BodyStalled));
    }
}
