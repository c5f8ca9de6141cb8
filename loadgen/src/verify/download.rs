//! One participant's downloads: without a tag first, then `nextBatchTag` after `nextBatchTag`, and
//! the audit of each batch.

use std::time::{Duration, Instant};

use bytes::Bytes;
use engine::domain::{BatchTag, Country};
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method};

use super::delivery::{Delivery, Received};
use super::error::VerifyError;
use super::options::VerifyOptions;
use crate::client::{Answer, ClientError, Connection};

/// Poll interval for the next batch.
const POLL: Duration = Duration::from_millis(100);

/// Downloads until every acknowledged key has been received and no batch is announced, or nothing
/// new has come for `delivery_timeout`. Also returns the total bytes of the bodies.
pub(super) async fn follow(
    mut connection: Connection,
    mut delivery: Delivery,
    options: VerifyOptions,
    progress: impl Fn(u64),
) -> Result<(Delivery, u64), VerifyError> {
    let country = delivery.country();
    connect(&mut connection, country, options.targets.len()).await?;
    let path = format!("/diagnosiskeys/download/{}", options.day);
    let (mut last, mut next): (Option<String>, Option<String>) = (None, None);
    let mut bytes = 0;
    let mut news = Instant::now();
    loop {
        let asked = next.as_ref().or(last.as_ref());
        let answer = connection
            .send(Method::GET, &path, &headers(asked), Bytes::new())
            .await;
        let waiting = news.elapsed() < options.delivery_timeout;
        let answer = match classify(country, answer)? {
            Answered::Batch(answer) => answer,
            Answered::NoBatch if !waiting || (last.is_none() && delivery.is_complete()) => {
                return Ok((delivery, bytes));
            }
            Answered::Later(error) if !waiting => return Err(error),
            Answered::NoBatch | Answered::Later(_) => {
                tokio::time::sleep(POLL).await;
                continue;
            }
        };
        let announced = answer.header("nextbatchtag").unwrap_or_default();
        let is_new = last.is_none() || next.is_some();
        if is_new {
            let tag = answer.header("batchtag").unwrap_or_default();
            let before = delivery.delivered();
            let audit = ask_for_audit(&mut connection, tag, options.delivery_timeout).await;
            delivery.take(&Received {
                tag,
                next: announced,
                body: &answer.body,
                audit: audit.as_deref(),
            });
            progress(delivery.delivered() - before);
            bytes += answer.body.len() as u64;
            news = Instant::now();
            last = Some(tag.to_owned());
        } else {
            delivery.announce(announced);
        }
        next = Some(announced.to_owned()).filter(|tag| tag != "null" && !tag.is_empty());
        if next.is_none() {
            if delivery.is_complete() || !waiting {
                return Ok((delivery, bytes));
            }
            tokio::time::sleep(POLL).await;
        }
    }
}

/// The audit of a batch, by the batch's own day; `None` when it is refused, or
/// unavailable (429, 503) for longer than `delivery_timeout`.
async fn ask_for_audit(
    connection: &mut Connection,
    tag: &str,
    delivery_timeout: Duration,
) -> Option<Bytes> {
    let day = BatchTag::parse(tag).ok()?.day;
    let path = format!("/diagnosiskeys/audit/download/{day}/{tag}");
    let accept = [(ACCEPT, HeaderValue::from_static("application/json"))];
    let begun = Instant::now();
    loop {
        let answer = connection
            .send(Method::GET, &path, &accept, Bytes::new())
            .await;
        match answer {
            Ok(answer) if answer.status == 200 => return Some(answer.body),
            Ok(answer) if !matches!(answer.status, 429 | 503) => return None,
            _ if begun.elapsed() >= delivery_timeout => return None,
            _ => tokio::time::sleep(POLL).await,
        }
    }
}

fn headers(tag: Option<&String>) -> Vec<(HeaderName, HeaderValue)> {
    let accept = HeaderValue::from_static("application/protobuf; version=1.0");
    let tag = tag.and_then(|tag| HeaderValue::from_str(tag).ok());
    let tag = tag.map(|tag| (HeaderName::from_static("batchtag"), tag));
    [(ACCEPT, accept)].into_iter().chain(tag).collect()
}

/// Connects before the first request, so that an unreachable gateway is reported at once.
async fn connect(
    connection: &mut Connection,
    country: Country,
    target_count: usize,
) -> Result<(), VerifyError> {
    let mut connected = connection.connect().await;
    for _ in 1..target_count {
        if connected.is_err() {
            connected = connection.connect().await;
        }
    }
    connected.map_err(|source| VerifyError::Client { country, source })
}

enum Answered {
    Batch(Answer),
    /// There is no batch yet.
    NoBatch,
    /// Overload or a broken connection: an error unless it passes.
    Later(VerifyError),
}

/// Classifies a response: a batch, no batch yet, a transient error, or a permanent error.
fn classify(
    country: Country,
    answer: Result<Answer, ClientError>,
) -> Result<Answered, VerifyError> {
    let answer = match answer {
        Ok(answer) => answer,
        Err(source) => return Ok(Answered::Later(VerifyError::Client { country, source })),
    };
    let refused = || VerifyError::Refused {
        country,
        status: answer.status,
        body: String::from_utf8_lossy(&answer.body)
            .chars()
            .take(200)
            .collect(),
    };
    match answer.status {
        200 => Ok(Answered::Batch(answer)),
        404 => Ok(Answered::NoBatch),
        429 | 503 => Ok(Answered::Later(refused())),
        _ => Err(refused()),
    }
}
