//! Sends one upload over one connection until the response is final.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};

use crate::client::{Answer, ClientError, Connection};
use crate::record::Outcome;
use crate::workload::PreparedUpload;

/// Delays after a broken connection: the first one, doubled each time, up to the last one.
const BACKOFF_FIRST: Duration = Duration::from_millis(50);
const BACKOFF_MAX: Duration = Duration::from_secs(2);
/// Delay after 429 or 503 without `Retry-After`.
pub(super) const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);

/// One request and its response.
#[derive(Debug)]
pub(super) struct Attempt {
    pub(super) status: Option<u16>,
    pub(super) micros: u64,
    /// First line of the body, unless the upload was stored.
    pub(super) example: Option<String>,
}

/// An upload with its final response, and all requests that it took.
#[derive(Debug)]
pub(super) struct SentUpload {
    pub(super) upload: PreparedUpload,
    pub(super) outcome: Outcome,
    pub(super) attempts: Vec<Attempt>,
}

/// Sends an upload until the response is final or `retry_for` has passed. Repeating tag and content
/// is a replay, which the gateway answers like the first time (decision 3).
pub(super) async fn deliver(
    connection: &mut Connection,
    upload: PreparedUpload,
    retry_for: Duration,
) -> SentUpload {
    let headers = upload_headers(&upload);
    let deadline = Instant::now() + retry_for;
    let mut backoff = backoff();
    let mut attempts = Vec::with_capacity(1);
    loop {
        let begun = Instant::now();
        let body = upload.body.clone();
        let answer = connection
            .send(Method::POST, "/diagnosiskeys/upload", &headers, body)
            .await;
        let attempt = Attempt::of(&answer, micros_since(begun));
        let outcome = Outcome::of(attempt.status);
        attempts.push(attempt);
        let delay = delay_before_retry(&answer, &mut backoff);
        match delay.filter(|delay| Instant::now() + *delay < deadline) {
            Some(delay) => tokio::time::sleep(delay).await,
            None => {
                return SentUpload {
                    upload,
                    outcome,
                    attempts,
                };
            }
        }
    }
}

fn upload_headers(upload: &PreparedUpload) -> [(HeaderName, HeaderValue); 4] {
    let value =
        |text: &str| HeaderValue::from_str(text).expect("tags and base64 are visible ASCII");
    [
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/protobuf; version=1.0"),
        ),
        (
            ACCEPT,
            HeaderValue::from_static("application/json; version=1.0"),
        ),
        (
            HeaderName::from_static("batchtag"),
            value(upload.spec.tag.as_str()),
        ),
        (
            HeaderName::from_static("batchsignature"),
            value(&upload.batch_signature),
        ),
    ]
}

fn backoff() -> impl Iterator<Item = Duration> {
    ExponentialBuilder::new()
        .with_min_delay(BACKOFF_FIRST)
        .with_max_delay(BACKOFF_MAX)
        .with_factor(2.0)
        .without_max_times()
        .build()
}

/// Delay before the upload is retried; `None` when the response is final.
fn delay_before_retry(
    answer: &Result<Answer, ClientError>,
    backoff: &mut impl Iterator<Item = Duration>,
) -> Option<Duration> {
    match answer {
        Ok(answer) if matches!(answer.status, 429 | 503) => {
            Some(answer.retry_after().unwrap_or(RETRY_AFTER_DEFAULT))
        }
        Ok(answer) if answer.status < 500 => None,
        Ok(_) | Err(_) => backoff.next(),
    }
}

impl Attempt {
    fn of(answer: &Result<Answer, ClientError>, micros: u64) -> Self {
        match answer {
            Ok(answer) => {
                let example = (answer.status != 201).then(|| first_line(&answer.body));
                Self {
                    status: Some(answer.status),
                    micros,
                    example,
                }
            }
            Err(_) => Self {
                status: None,
                micros,
                example: None,
            },
        }
    }
}

/// The beginning of a body, for a message.
pub(super) fn first_line(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    text.chars().take(200).filter(|c| !c.is_control()).collect()
}

/// Microseconds since `begun`.
fn micros_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16) -> Result<Answer, ClientError> {
        Ok(Answer {
            status,
            headers: http::HeaderMap::new(),
            body: bytes::Bytes::new(),
        })
    }

    #[test]
    fn retries_what_may_pass_and_nothing_else() {
        let mut backoff = backoff();
        for status in [201, 207, 400, 403, 409, 413] {
            let delay = delay_before_retry(&answer(status), &mut backoff);
            assert_eq!(delay, None, "{status}");
        }
        assert_eq!(
            delay_before_retry(&answer(503), &mut backoff),
            Some(RETRY_AFTER_DEFAULT)
        );
        let broken = || Err(ClientError::Timeout(Duration::ZERO));
        let delays: Vec<_> = (0..8)
            .map(|_| delay_before_retry(&broken(), &mut backoff).unwrap())
            .collect();
        // The library doubles in floating point.
        let millis = |delay: &Duration| (delay.as_secs_f64() * 1000.0).round();
        let shown: Vec<_> = delays.iter().map(millis).collect();
        assert_eq!(shown[..3], [50.0, 100.0, 200.0], "{delays:?}");
        assert_eq!(delays[7], BACKOFF_MAX);
    }
}
