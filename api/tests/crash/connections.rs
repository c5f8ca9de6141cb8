//! A task's connections, one per gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use efgs_client::{Answer, Caller, ClientError, Connection, Target};
use engine::domain::{BatchTag, Day};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use serde_json::Value;

use crate::uploads::Upload;

/// Longer than a gateway waits for its database: a request without an answer by then hangs.
const ANSWER_WITHIN: Duration = Duration::from_secs(30);

pub(crate) struct Connections {
    connections: Vec<Connection>,
    /// The first day to download.
    day: Day,
    /// When the last upload was sent.
    sent_at: Instant,
}

impl Connections {
    pub(crate) fn new(caller: &Arc<Caller>, targets: &[Target], day: Day) -> Self {
        let connect = |target: &Target| {
            let targets = [target.clone()].into();
            Connection::new(Arc::clone(caller), targets, 0, ANSWER_WITHIN)
        };
        Self {
            connections: targets.iter().map(connect).collect(),
            day,
            sent_at: Instant::now(),
        }
    }

    pub(crate) fn gateways(&self) -> usize {
        self.connections.len()
    }

    /// When the last upload was sent on an existing connection.
    pub(crate) fn sent_at(&self) -> Instant {
        self.sent_at
    }

    pub(crate) async fn upload(
        &mut self,
        gateway: usize,
        upload: &Upload,
    ) -> Result<Answer, ClientError> {
        let headers = [
            (CONTENT_TYPE, value("application/protobuf; version=1.0")),
            (ACCEPT, value("application/json; version=1.0")),
            (HeaderName::from_static("batchtag"), value(&upload.tag)),
            (
                HeaderName::from_static("batchsignature"),
                value(&upload.batch_signature),
            ),
        ];
        let connection = &mut self.connections[gateway];
        connection.connect().await?;
        self.sent_at = Instant::now();
        let (path, body) = ("/diagnosiskeys/upload", upload.body.clone());
        connection.send(Method::POST, path, &headers, body).await
    }

    /// Requests a batch, or the first one.
    pub(crate) async fn download(
        &mut self,
        gateway: usize,
        tag: Option<BatchTag>,
    ) -> Result<Answer, ClientError> {
        let path = format!("/diagnosiskeys/download/{}", self.day);
        let mut headers = vec![(ACCEPT, value("application/protobuf; version=1.0"))];
        if let Some(tag) = tag {
            headers.push((HeaderName::from_static("batchtag"), value(&tag.to_string())));
        }
        let connection = &mut self.connections[gateway];
        connection
            .send(Method::GET, &path, &headers, Bytes::new())
            .await
    }

    /// Sends a request to an operations port.
    pub(crate) async fn get(&mut self, gateway: usize, path: &str) -> Result<Answer, ClientError> {
        let connection = &mut self.connections[gateway];
        connection.send(Method::GET, path, &[], Bytes::new()).await
    }
}

/// The positions under `409` of a 207 response, if it is consistent with the upload: every position
/// is under `201` or `409`, in ascending order, and none under `500`.
pub(crate) fn duplicates(body: &[u8], key_count: usize) -> Option<Vec<usize>> {
    let outcomes: Value = serde_json::from_slice(body).ok()?;
    let positions = |name: &str| -> Option<Vec<usize>> {
        let listed = outcomes.get(name)?.as_array()?.iter();
        listed.map(|at| at.as_u64()?.try_into().ok()).collect()
    };
    let (created, duplicates) = (positions("201")?, positions("409")?);
    let mut all = [created, duplicates.clone()].concat();
    all.sort_unstable();
    let fits = all.into_iter().eq(0..key_count)
        && positions("500")?.is_empty()
        && duplicates.is_sorted()
        && !duplicates.is_empty();
    fits.then_some(duplicates)
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap()
}
