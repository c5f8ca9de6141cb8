//! A national backend's HTTP client: kept-alive connections, mutual TLS or (behind a proxy that
//! ends TLS) identity headers, and header names spelled as the protocol spells them.

use std::convert::Infallible;
use std::fmt;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use engine::clock::Clock;
use engine::domain::{Country, Thumbprint};
use http::header::{HOST, RETRY_AFTER};
use http::{Extensions, HeaderMap, HeaderName, HeaderValue, Method, Request, Response, Uri};
use http_body_util::{BodyExt, Collected, Empty, Limited};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncRead, AsyncWrite, AsyncWriteExt, BufReader};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio::sync::OnceCell;
use tokio_rustls::TlsConnector;

use crate::pace::{Payload, read_slowly};
use crate::participants::{Identity, Participant};
use crate::workload::sha256;

/// Largest answer that is read: a full download batch takes half a megabyte, one upload of the
/// largest kind 8 MB.
const ANSWER_BYTES_MAX: usize = 64 << 20;

/// How much longer an answer to a request that trickles may take.
const TRICKLING_MAX: Duration = Duration::from_secs(600);
/// What is read at a time from a connection with TLS: rustls by itself asks for 4 KiB.
const TLS_BUFFER_BYTES: usize = 64 << 10;
/// Buffers of a connection that trickles; the kernel doubles them.
const TRICKLING_BUFFER_BYTES: u32 = 4096;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// Where to.
        target: Target,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke, or the answer was no HTTP.
    #[error("request failed: {0}")]
    Http(#[from] hyper::Error),
    /// The answer's body broke off or was too large.
    #[error("answer failed: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// Not `https://HOST:PORT` or `http://HOST:PORT`.
    #[error("{0:?} is no target; write https://HOST:PORT, or http://HOST:PORT for proxy mode")]
    Target(String),
    /// rustls refuses the certificates.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

/// Where a gateway listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Whether the gateway speaks TLS; else it is its proxy mode.
    pub tls: bool,
    /// Name or address, without brackets.
    pub host: String,
    /// Port.
    pub port: u16,
}

impl Target {
    /// Reads `https://HOST[:PORT]` or `http://HOST[:PORT]`.
    ///
    /// # Errors
    /// When the text is anything else, a path included.
    pub fn parse(text: &str) -> Result<Self, SetupError> {
        let refused = || SetupError::Target(text.to_owned());
        let uri: Uri = text.parse().map_err(|_| refused())?;
        let tls = match uri.scheme_str() {
            Some("https") => true,
            Some("http") => false,
            _ => return Err(refused()),
        };
        let host = uri
            .host()
            .filter(|_| matches!(uri.path(), "" | "/"))
            .ok_or_else(refused)?;
        Ok(Self {
            tls,
            host: host.trim_matches(['[', ']']).to_owned(),
            port: uri.port_u16().unwrap_or(if tls { 443 } else { 80 }),
        })
    }

    /// `HOST:PORT`, as the header `Host` has it.
    pub fn authority(&self) -> String {
        match self.host.contains(':') {
            true => format!("[{}]:{}", self.host, self.port),
            false => format!("{}:{}", self.host, self.port),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{}://{}",
            if self.tls { "https" } else { "http" },
            self.authority()
        )
    }
}

/// Version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Protocol {
    /// HTTP/1.1, which every national backend speaks.
    #[default]
    Http1,
    /// HTTP/2 over TLS.
    Http2,
}

/// Who calls, and how it proves that.
#[derive(Debug)]
pub struct Caller {
    /// The participant.
    pub country: Country,
    protocol: Protocol,
    tls: Arc<ClientConfig>,
    identity: HeaderMap,
}

impl Caller {
    /// A participant's client, which trusts `server_ca` alone.
    ///
    /// # Errors
    /// When rustls refuses a certificate or the key.
    pub fn new(
        participant: &Participant,
        server_ca: &CertificateDer<'static>,
        protocol: Protocol,
    ) -> Result<Self, SetupError> {
        Self::with_identity(
            participant.country,
            &participant.authentication,
            server_ca,
            protocol,
        )
    }

    /// A client that proves its country with any certificate, of the right kind or not.
    ///
    /// # Errors
    /// When rustls refuses a certificate or the key.
    pub fn with_identity(
        country: Country,
        identity: &Identity,
        server_ca: &CertificateDer<'static>,
        protocol: Protocol,
    ) -> Result<Self, SetupError> {
        let mut roots = RootCertStore::empty();
        roots.add(server_ca.clone())?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let mut tls = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())?;
        tls.alpn_protocols = match protocol {
            Protocol::Http1 => vec![b"http/1.1".to_vec()],
            Protocol::Http2 => vec![b"h2".to_vec()],
        };
        Ok(Self {
            country,
            protocol,
            tls: Arc::new(tls),
            identity: identity_headers(country, identity),
        })
    }
}

/// What a proxy that ends TLS tells the gateway (wire §4).
fn identity_headers(country: Country, identity: &Identity) -> HeaderMap {
    let thumbprint = Thumbprint(sha256(&identity.chain[0])).to_string();
    let name = format!("C={country}");
    let value = |text: &str| HeaderValue::from_str(text).expect("hex and letters are visible");
    HeaderMap::from_iter([
        (
            HeaderName::from_static("x-ssl-client-sha256"),
            value(&thumbprint),
        ),
        (HeaderName::from_static("x-ssl-client-dn"), value(&name)),
    ])
}

enum Sender {
    Http1(http1::SendRequest<Payload>),
    Http2(http2::SendRequest<Payload>),
}

impl Sender {
    fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    async fn send(&mut self, request: Request<Payload>) -> hyper::Result<Response<Incoming>> {
        match self {
            Self::Http1(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
            Self::Http2(sender) => {
                sender.ready().await?;
                sender.send_request(request).await
            }
        }
    }
}

/// An answer, read whole.
#[derive(Debug, Clone)]
pub struct Answer {
    /// Status code.
    pub status: u16,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Answer {
    /// A header's value, when it is there and visible ASCII.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).and_then(|value| value.to_str().ok())
    }

    /// How long `Retry-After` asks to wait, in either of its forms.
    pub fn retry_after(&self) -> Option<Duration> {
        let text = self.headers.get(RETRY_AFTER)?.to_str().ok()?;
        let seconds = text.parse().ok().map(Duration::from_secs);
        seconds.or_else(|| {
            let now = Duration::from_millis(engine::SystemClock.now().0);
            let then = httpdate::parse_http_date(text).ok()?;
            let then = then.duration_since(SystemTime::UNIX_EPOCH).ok()?;
            Some(then.saturating_sub(now))
        })
    }
}

/// One connection, made when it is needed and again when it broke. One request at a time.
pub struct Connection {
    caller: Arc<Caller>,
    targets: Arc<[Target]>,
    at: usize,
    timeout: Duration,
    bytes_per_second: Option<NonZeroU32>,
    sender: Option<Sender>,
}

impl Connection {
    /// A connection to one of `targets`, beginning with the `first`th; when one fails, the next
    /// attempt goes to the next.
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

    /// Makes it trickle: so many bytes a second of a body, in both directions, with small buffers
    /// in the kernel. The longest wait for an answer grows by the time that takes.
    #[must_use]
    pub const fn trickling(mut self, bytes_per_second: Option<NonZeroU32>) -> Self {
        self.bytes_per_second = bytes_per_second;
        self
    }

    /// Who calls.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }

    /// Connects, unless connected.
    ///
    /// # Errors
    /// [`ClientError`] when there is no connection in time.
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
                self.give_up();
                Err(error)
            }
            Err(_) => {
                self.give_up();
                Err(ClientError::Timeout(self.timeout))
            }
        }
    }

    /// Sends a request and reads its answer whole. `path` begins with a slash.
    ///
    /// # Errors
    /// [`ClientError`]; what the gateway made of the request is then unknown.
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
        let patience = match self.bytes_per_second {
            Some(_) => self.timeout.saturating_add(TRICKLING_MAX),
            None => self.timeout,
        };
        let exchange = exchange(sender, request, self.bytes_per_second);
        let answered = tokio::time::timeout(patience, exchange).await;
        let answered = answered.unwrap_or(Err(ClientError::Timeout(self.timeout)));
        if answered.is_err() {
            self.give_up();
        }
        answered
    }

    fn target(&self) -> &Target {
        &self.targets[self.at % self.targets.len()]
    }

    fn give_up(&mut self) {
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

/// Connects; `trickling` connections read through the smallest buffer that the kernel gives, so
/// that what is not read is felt at the other end.
async fn open(caller: &Caller, target: &Target, trickling: bool) -> Result<Sender, ClientError> {
    let failed = |source| ClientError::Connect {
        target: target.clone(),
        source,
    };
    let tcp = match trickling {
        true => connect_with_small_buffers(target).await,
        false => TcpStream::connect((target.host.as_str(), target.port)).await,
    };
    let tcp = tcp.map_err(failed)?;
    tcp.set_nodelay(true).map_err(failed)?;
    if !target.tls {
        return Ok(shake_hands(caller.protocol, tcp).await?);
    }
    let name = ServerName::try_from(target.host.clone())
        .map_err(|error| failed(std::io::Error::other(error)))?;
    let connector = TlsConnector::from(Arc::clone(&caller.tls));
    let buffer_bytes = match trickling {
        true => TRICKLING_BUFFER_BYTES as usize,
        false => TLS_BUFFER_BYTES,
    };
    let buffered = BufReader::with_capacity(buffer_bytes, tcp);
    let tls = connector.connect(name, buffered).await.map_err(failed)?;
    Ok(shake_hands(caller.protocol, tls).await?)
}

async fn connect_with_small_buffers(target: &Target) -> std::io::Result<TcpStream> {
    let mut addresses = lookup_host((target.host.as_str(), target.port)).await?;
    let unknown = || std::io::Error::from(std::io::ErrorKind::NotFound);
    let address = addresses.next().ok_or_else(unknown)?;
    let socket = match address.is_ipv4() {
        true => TcpSocket::new_v4()?,
        false => TcpSocket::new_v6()?,
    };
    socket.set_recv_buffer_size(TRICKLING_BUFFER_BYTES)?;
    socket.set_send_buffer_size(TRICKLING_BUFFER_BYTES)?;
    socket.connect(address).await
}

async fn shake_hands<S>(protocol: Protocol, stream: S) -> hyper::Result<Sender>
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
{
    // The driver ends with the connection; why it ended shows in the request that fails.
    match protocol {
        Protocol::Http1 => {
            let builder = http1::Builder::new()
                .title_case_headers(true)
                .handshake(TokioIo::new(stream));
            let (sender, driver) = builder.await?;
            tokio::spawn(driver);
            Ok(Sender::Http1(sender))
        }
        Protocol::Http2 => {
            let builder = http2::Builder::new(TokioExecutor::new()).handshake(TokioIo::new(stream));
            let (sender, driver) = builder.await?;
            tokio::spawn(driver);
            Ok(Sender::Http2(sender))
        }
    }
}

/// Makes hyper write `batchTag`, `batchSignature` and the proxy's headers as the protocol spells
/// them. hyper writes header names in the spelling that it read them in, which is the only way to
/// tell it a spelling: so it reads a request once.
async fn exact_header_names() -> Extensions {
    static NAMES: OnceCell<Extensions> = OnceCell::const_new();
    NAMES.get_or_init(read_header_names).await.clone()
}

async fn read_header_names() -> Extensions {
    const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nbatchTag: x\r\nbatchSignature: x\r\n\
        X-SSL-Client-SHA256: x\r\nX-SSL-Client-DN: x\r\nConnection: close\r\n\r\n";
    let (near, mut far) = tokio::io::duplex(4096);
    far.write_all(REQUEST)
        .await
        .expect("the pipe holds the request");
    let (take, mut taken) = tokio::sync::mpsc::channel(1);
    let service = hyper::service::service_fn(move |request: Request<Incoming>| {
        let sent = take.try_send(request.into_parts().0.extensions);
        async move {
            sent.ok();
            Ok::<_, Infallible>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let server = hyper::server::conn::http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(near), service)
        .await;
    drop((server, far));
    taken.recv().await.unwrap_or_default()
}

/// Milliseconds and parts since `begun`, in whole microseconds.
pub(crate) fn micros_since(begun: Instant) -> u64 {
    u64::try_from(begun.elapsed().as_micros()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_targets() {
        let target = Target::parse("https://localhost:8443/").unwrap();
        assert_eq!(target.to_string(), "https://localhost:8443");
        assert_eq!(
            Target::parse("http://127.0.0.1").unwrap().to_string(),
            "http://127.0.0.1:80"
        );
        let six = Target::parse("https://[::1]:9").unwrap();
        assert_eq!(
            (six.host.as_str(), six.authority().as_str()),
            ("::1", "[::1]:9")
        );
        for text in [
            "",
            "localhost:8443",
            "ftp://x",
            "https://x/diagnosiskeys",
            "https://",
        ] {
            assert!(Target::parse(text).is_err(), "{text:?}");
        }
    }

    #[test]
    fn reads_both_forms_of_retry_after() {
        let answer = |value: &str| Answer {
            status: 503,
            headers: HeaderMap::from_iter([(RETRY_AFTER, HeaderValue::from_str(value).unwrap())]),
            body: Bytes::new(),
        };
        assert_eq!(answer("7").retry_after(), Some(Duration::from_secs(7)));
        assert_eq!(
            answer("Tue, 06 Oct 2020 12:00:00 GMT").retry_after(),
            Some(Duration::ZERO)
        );
        let far = answer("Fri, 31 Dec 9999 00:00:00 GMT")
            .retry_after()
            .unwrap();
        assert!(far > Duration::from_secs(86_400));
        assert_eq!(answer("soon").retry_after(), None);
    }
}
