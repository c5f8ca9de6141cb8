//! `GET /diagnosiskeys/download/{date}` (wire §14): the stage *serve*.
//!
//! - *In*: a request, not authenticated yet.
//! - *Out*: the segments of a bundle, shared by all its readers, never copied; for `HEAD`, what there
//!   is without reading keys.
//! - *Refuses*: in this order: unauthenticated requests, media types, an invalid date, and whatever
//!   the engine refuses.
//! - *Assumes*: the engine answers warm requests on the calling thread.
//! - *Runs on*: a tokio thread.

use std::convert::Infallible;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::body::Body;
use bytes::Bytes;
use engine::Failure;
use engine::bundle::{Download, DownloadError, DownloadHead, DownloadRefusal, DownloadRequest};
use engine::domain::BatchTag;
use http::request::Parts;
use http::{HeaderMap, Method, Response};
use http_body::{Body as _, Frame, SizeHint};
use tokio::sync::oneshot;

use crate::gateway::Gateway;
use crate::negotiate;
use crate::participant::Participant;
use crate::participant_counters::{BodyKind, count_body};
use crate::request_date::read_day;
use crate::response::{self, BATCH_TAG, Refusal};
use crate::segment_body::SegmentBody;

/// Answers a download.
///
/// # Errors
/// Any [`Refusal`] but that of a route.
pub(crate) async fn answer(
    gateway: &Gateway,
    parts: &Parts,
    date: &str,
) -> Result<Response<Body>, Refusal> {
    let participant = gateway.authenticate(parts)?;
    let format = negotiate::download_format(&parts.headers)
        .inspect_err(|error| negotiate::log(*error, &parts.headers, participant.country))?;
    let request = DownloadRequest {
        country: participant.country,
        date: read_day(date)?,
        tag: requested_tag(&parts.headers),
        format,
    };
    if parts.method == Method::HEAD {
        let head =
            ask::<DownloadHead>(|reply| gateway.engine.download_head(request.clone(), reply)).await;
        let found = head.as_ref().map(|head| (head.tag, 0));
        log(found, &participant, &request);
        let head = head?;
        let body = Body::new(OmittedBody(head.body_bytes));
        return Ok(response::bundle(head.tag, head.next, format, body));
    }
    let outcome = ask::<Download>(|reply| gateway.engine.download(request.clone(), reply)).await;
    let found = outcome.as_ref();
    let found = found.map(|download| (download.batch.tag, download.key_count()));
    log(found, &participant, &request);
    let download = outcome?;
    let (tag, next) = (download.batch.tag, download.next);
    let body = Body::new(SegmentBody::new(download));
    count_body(
        participant.country,
        BodyKind::Batch,
        body.size_hint().exact(),
    );
    Ok(response::bundle(tag, next, format, body))
}

/// Waits for the engine's answer.
async fn ask<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, DownloadError>) + Send>),
) -> Result<T, DownloadError> {
    let (sender, receiver) = oneshot::channel();
    ask(Box::new(move |outcome| {
        // Fails when the participant has disconnected.
        let _ = sender.send(outcome);
    }));
    receiver
        .await
        .unwrap_or(Err(DownloadError::Failure(Failure::ShuttingDown)))
}

/// The requested tag. Blank and the literal `null` count as absent: PL's library may send either
/// for "none" (clients §2.10). Anything unreadable matches no batch.
fn requested_tag(headers: &HeaderMap) -> Option<Box<str>> {
    let sent = headers.get(BATCH_TAG)?;
    let text = String::from_utf8_lossy(sent.as_bytes());
    match text.trim() {
        "" | "null" => None,
        tag => Some(tag.into()),
    }
}

/// The reference's events (wire §18.3), with the tag of the batch and how many keys are sent of it.
fn log(
    outcome: Result<(BatchTag, u32), &DownloadError>,
    participant: &Participant,
    request: &DownloadRequest,
) {
    let country = participant.country;
    match outcome {
        Ok((tag, keys)) => {
            // Every participant asks every few minutes, on the busiest day every few seconds: counted by
            // `efgs_downloads_total`, and in the log at DEBUG.
            tracing::debug!(%country, batchTag = %tag, numKeys = keys, "Successful Batch Download");
        }
        Err(DownloadError::Refused(refusal)) => log_refusal(*refusal, participant, request),
        Err(DownloadError::Overload(overload)) => {
            tracing::warn!(%country, reason = %overload, "download refused");
        }
        Err(DownloadError::Failure(failure)) => {
            let exception = engine::chain(failure);
            tracing::error!(%country, exception, "download failed");
        }
    }
}

fn log_refusal(refusal: DownloadRefusal, participant: &Participant, request: &DownloadRequest) {
    let (country, date) = (participant.country, request.date);
    let tag = request.tag.as_deref().unwrap_or("");
    match refusal {
        DownloadRefusal::DateTooOld => {
            tracing::info!(%country, requestedDate = %date, "Requested date is too old");
        }
        DownloadRefusal::NoBatchOnDate => {
            let message = "Could not find any batches for given date";
            tracing::info!(%country, requestedDate = %date, "{message}");
        }
        DownloadRefusal::UnknownBatchTag => {
            let message = "Could not find batch with given batchTag";
            tracing::info!(%country, batchTag = tag, "{message}");
        }
        DownloadRefusal::BatchBeforeDate => {
            let message = "Given date does is not after or equals the requested batchTag";
            tracing::info!(%country, batchTag = tag, requestedDate = %date, "{message}");
        }
        // Audit only.
        DownloadRefusal::OtherDay | DownloadRefusal::NoEntries => {}
    }
}

/// The body that a `HEAD` leaves out, and its length if it is known.
#[derive(Debug)]
struct OmittedBody(Option<u64>);

impl http_body::Body for OmittedBody {
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        Poll::Ready(None)
    }

    fn size_hint(&self) -> SizeHint {
        self.0.map_or_else(SizeHint::default, SizeHint::with_exact)
    }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn tag(value: &[u8]) -> Option<Box<str>> {
        let mut headers = HeaderMap::new();
        headers.insert(BATCH_TAG, HeaderValue::from_bytes(value).unwrap());
        requested_tag(&headers)
    }

    #[test]
    fn treats_blank_and_null_as_no_tag() {
        assert_eq!(requested_tag(&HeaderMap::new()), None);
        assert_eq!(tag(b""), None);
        assert_eq!(tag(b" \t"), None);
        assert_eq!(tag(b"null"), None);
        assert_eq!(tag(b"20201006-1").as_deref(), Some("20201006-1"));
        assert_eq!(tag(b"nullx").as_deref(), Some("nullx"));
        assert_eq!(tag(b"\xff").as_deref(), Some("\u{fffd}"));
    }
}
