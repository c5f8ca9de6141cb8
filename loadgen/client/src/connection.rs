//! Keep-alive connections, one request at a time.

use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::HOST;
use http::{HeaderName, HeaderValue, Method, Request, Uri};
use http_body_util::{BodyExt, Collected, Limited};
use testkit::target::Target;

use super::answer::Answer;
use super::caller::{Caller, Protocol};
use super::error::ClientError;
use super::header_case::exact_header_names;
use super::open::{Sender, open};
use super::throttle::{Payload, read_slowly};

/// Largest response that is read: a full download batch takes half a megabyte, one upload of the
/// largest kind 8 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// Additional timeout of a throttled request.
const THROTTLED_EXTRA_MAX: Duration = Duration::from_secs(600);

/// A connection, opened when it is needed and reopened after it broke. One request at a time.
pub struct Connection {
    caller: Arc<Caller>,
    targets: Arc<[Target]>,
    at: usize,
    timeout: Duration,
    bytes_per_second: Option<NonZeroU32>,
    sender: Option<Sender>,
}

impl Connection {
    /// A connection to one of `targets`, starting with index `first`; after a failure the next
    /// attempt goes to the next one.
    pub const fn new(
        caller: Arc<Caller>,
        targets: Arc<[Target]>,
        first: usize,
        timeout: Duration,
    ) -> Self {
        Self {
            caller,
            targets,
            at: first,
            timeout,
            bytes_per_second: None,
            sender: None,
        }
    }

    /// Throttles bodies to that many bytes per second in both directions, with small kernel
    /// buffers. The timeout is extended accordingly.
    #[must_use]
    pub const fn throttled(mut self, bytes_per_second: Option<NonZeroU32>) -> Self {
        self.bytes_per_second = bytes_per_second;
        self
    }

    /// The caller.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Connects, unless connected.
    ///
    /// # Errors
    /// [`ClientError`] when the connection cannot be opened in time.
    pub async fn connect(&mut self) -> Result<(), ClientError> {
        if self
            .sender
            .as_ref()
            .is_some_and(|sender| !sender.is_closed())
        {
            return Ok(());
        }
        let target = self.target().clone();
        let opened = tokio::time::timeout(
            self.timeout,
            open(&self.caller, &target, self.bytes_per_second.is_some()),
        )
        .await;
        match opened {
            Ok(Ok(sender)) => {
                self.sender = Some(sender);
                Ok(())
            }
            Ok(Err(error)) => {
                self.disconnect();
                Err(error)
            }
            Err(_) => {
                self.disconnect();
                Err(ClientError::Timeout(self.timeout))
            }
        }
    }

    /// Sends a request and reads the complete response. `path` begins with a slash.
    ///
    /// # Errors
    /// [`ClientError`]; the outcome of the request is then unknown.
    pub async fn send(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, ClientError> {
        self.connect().await?;
        let request = self.request(method, path, headers, body).await;
        let sender = self.sender.as_mut().expect("connect leaves a sender");
        let timeout = match self.bytes_per_second {
            Some(_) => self.timeout.saturating_add(THROTTLED_EXTRA_MAX),
            None => self.timeout,
        };
        let exchange = exchange(sender, request, self.bytes_per_second);
        let answered = tokio::time::timeout(timeout, exchange).await;
        let answered = answered.unwrap_or(Err(ClientError::Timeout(self.timeout)));
        if answered.is_err() {
            self.disconnect();
        }
        answered
    }

    fn target(&self) -> &Target {
        &self.targets[self.at % self.targets.len()]
    }

    fn disconnect(&mut self) {
        self.sender = None;
        self.at = self.at.wrapping_add(1);
    }

    async fn request(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Request<Payload> {
        let authority = self.target().authority();
        let uri = match self.caller.protocol {
            Protocol::Http1 => path.parse(),
            Protocol::Http2 => format!("https://{authority}{path}").parse::<Uri>(),
        };
        let mut request = Request::new(Payload::new(body, self.bytes_per_second));
        *request.method_mut() = method;
        *request.uri_mut() = uri.expect("paths are made of dates and tags");
        if self.caller.protocol == Protocol::Http1 {
            *request.extensions_mut() = exact_header_names().await;
            let host = HeaderValue::from_str(&authority).expect("a target was read from a URI");
            request.headers_mut().insert(HOST, host);
        }
        if !self.target().tls {
            request.headers_mut().extend(self.caller.identity.clone());
        }
        request.headers_mut().extend(headers.iter().cloned());
        request
    }
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection")
            .field("country", &self.caller.country)
            .field("target", self.target())
            .field("connected", &self.sender.is_some())
            .finish_non_exhaustive()
    }
}

async fn exchange(
    sender: &mut Sender,
    request: Request<Payload>,
    bytes_per_second: Option<NonZeroU32>,
) -> Result<Answer, ClientError> {
    let (head, body) = sender.send(request).await?.into_parts();
    let body = Limited::new(body, ANSWER_BYTES_MAX);
    let body = match bytes_per_second {
        Some(rate) => read_slowly(body, rate).await,
        None => body.collect().await.map(Collected::to_bytes),
    };
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: body.map_err(ClientError::Body)?,
    })
}
