//! `GET /diagnosiskeys/audit/download/{date}/{batchTag}` (wire §15).
//!
//! - *In*: a request, not authenticated yet.
//! - *Out*: the engine's bytes, shared by all readers of the audit.
//! - *Refuses*: in this order: unauthenticated requests, media types, an invalid date, and whatever
//!   the engine refuses.
//! - *Assumes*: the engine has encoded the entries, and answers warm requests on the calling thread.
//! - *Runs on*: a tokio thread.

use axum::body::Body;
use engine::Failure;
use engine::bundle::{Audit, DownloadError, DownloadRefusal};
use engine::domain::Day;
use http::Response;
use http::request::Parts;
use http_body::Body as _;
use tokio::sync::oneshot;

use crate::gateway::Gateway;
use crate::negotiate;
use crate::participant::Participant;
use crate::participant_counters::{BodyKind, count_body};
use crate::request_date::read_day;
use crate::response::{self, Refusal};
use crate::segment_body::SegmentBody;

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
    let json_type = negotiate::json_answer(&parts.headers)
        .inspect_err(|error| negotiate::log(*error, &parts.headers, participant.country))?;
    let day = read_day(date)?;
    let outcome = ask(gateway, &participant, day, tag).await;
    log(&outcome, &participant, tag);
    let body = Body::new(SegmentBody::new(outcome?));
    count_body(
        participant.country,
        BodyKind::Audit,
        body.size_hint().exact(),
    );
    Ok(response::text(json_type, body))
}

async fn ask(
    gateway: &Gateway,
    participant: &Participant,
    day: Day,
    tag: &str,
) -> Result<Audit, DownloadError> {
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

/// The reference's events (wire §18.3).
fn log(outcome: &Result<Audit, DownloadError>, participant: &Participant, tag: &str) {
    let country = participant.country;
    match outcome {
        Ok(_) => tracing::info!(%country, batchTag = tag, "Requested Audit Information"),
        Err(DownloadError::Refused(refusal)) => log_refusal(*refusal, participant, tag),
        Err(DownloadError::Overload(overload)) => {
            tracing::warn!(%country, reason = %overload, "audit refused");
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
