//! Downloads everything as all participants concurrently, without checking it, so that the cost of
//! serving can be measured.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use engine::domain::Day;
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method};
use tokio::task::JoinSet;

use crate::client::{Caller, ClientError, Connection, Target};

/// Timeout of a request.
const TIMEOUT: Duration = Duration::from_secs(30);
/// Poll interval for a batch that has not been cut yet.
const POLL: Duration = Duration::from_millis(100);
/// Maximum number of polls: longer than any delay of cutting.
const POLLS_MAX: u32 = 100;

/// Why a download stopped.
#[derive(Debug, thiserror::Error)]
pub enum FetchError {
    /// No response.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// A response other than a batch.
    #[error("a download was answered {0}")]
    Refused(u16),
    /// The work failed.
    #[error("a download task failed")]
    Task(#[from] tokio::task::JoinError),
}

/// Follows the day's batches to the last one as every participant; returns the bytes of all bodies.
pub(super) async fn fetch(
    callers: &[Arc<Caller>],
    target: &Target,
    day: Day,
) -> Result<u64, FetchError> {
    let targets: Arc<[Target]> = Arc::new([target.clone()]);
    let mut running = JoinSet::new();
    for caller in callers {
        let connection = Connection::new(Arc::clone(caller), Arc::clone(&targets), 0, TIMEOUT);
        running.spawn(follow(connection, day));
    }
    let mut bytes = 0;
    while let Some(followed) = running.join_next().await {
        bytes += followed??;
    }
    Ok(bytes)
}

async fn follow(mut connection: Connection, day: Day) -> Result<u64, FetchError> {
    let path = format!("/diagnosiskeys/download/{day}");
    let (mut tag, mut bytes, mut polls): (Option<HeaderValue>, u64, u32) = (None, 0, 0);
    loop {
        let accept = HeaderValue::from_static("application/protobuf; version=1.0");
        let named = tag
            .clone()
            .map(|tag| (HeaderName::from_static("batchtag"), tag));
        let headers: Vec<_> = [(ACCEPT, accept)].into_iter().chain(named).collect();
        let answer = connection
            .send(Method::GET, &path, &headers, Bytes::new())
            .await?;
        match answer.status {
            200 => {}
            404 | 503 if polls < POLLS_MAX => {
                polls += 1;
                tokio::time::sleep(POLL).await;
                continue;
            }
            status => return Err(FetchError::Refused(status)),
        }
        bytes += answer.body.len() as u64;
        let next = answer.header("nextbatchtag").filter(|next| *next != "null");
        match next.and_then(|next| HeaderValue::from_str(next).ok()) {
            Some(next) => tag = Some(next),
            None => return Ok(bytes),
        }
    }
}
