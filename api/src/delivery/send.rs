//! One delivery attempt: check the URL, connect, authenticate, send the request, read the status.

use std::error::Error;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::callbacks::Delivery;
use engine::domain::UnixMillis;
use engine::trust::Trust;
use http::header::{HOST, PROXY_AUTHORIZATION, USER_AGENT};
use http::{HeaderValue, Method, Request, Response};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Incoming;
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustix::io::Errno;
use rustls_pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_rustls::TlsConnector;

use super::bounded::{Bounded, ReadBound};
use super::lookups::{Lookups, NoLookup};
use super::tls::{DeliveryTls, DeliveryTlsError};
use super::url::{CallbackUrl, CheckError, CheckedUrl, UrlError, UrlPolicy};
use crate::settings::{CallbackProxy, CallbackSettings};
use crate::tls::TlsSettings;

/// The reference's user agent; receivers may check it.
const AGENT: HeaderValue = HeaderValue::from_static("EFGS Callback Engine");
/// Bytes of a response's header that are buffered, and of all headers before its body, informational
/// ones (1xx) included.
const HEAD_BYTES_MAX: usize = 64 << 10;
/// Bytes of a response's body that are read, so that the receiver is not disconnected while it
/// writes. The content does not matter.
const BODY_BYTES_MAX: usize = 64 << 10;

/// A proxy's status for credentials of ours that it does not take.
const PROXY_AUTHENTICATION_REQUIRED: u16 = 407;

/// Why a delivery attempt failed.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AttemptError {
    #[error(transparent)]
    Url(#[from] UrlError),
    #[error(transparent)]
    NoLookup(NoLookup),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("cannot connect to the proxy")]
    ProxyConnect(#[source] io::Error),
    #[error("the proxy responds with status {0}")]
    Proxy(u16),
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("TLS cannot be set up")]
    TlsSetup(#[from] rustls::Error),
    #[error("the response is not valid HTTP: {0}")]
    Http(String),
    #[error("connect timeout")]
    ConnectTimeout,
    #[error("read timeout")]
    ReadTimeout,
    /// Redirects, too: their target has not been checked.
    #[error("the receiver responds with status {0}")]
    Status(u16),
}

impl AttemptError {
    /// Whether the receiver has no part in it: it was not asked.
    pub(crate) fn is_ours(&self) -> bool {
        match self {
            Self::NoLookup(_) | Self::ProxyConnect(_) | Self::TlsSetup(_) => true,
            Self::Connect(error) => is_shortage(error),
            Self::Proxy(status) => *status == PROXY_AUTHENTICATION_REQUIRED,
            Self::Url(_)
            | Self::Tls(_)
            | Self::Http(_)
            | Self::ConnectTimeout
            | Self::ReadTimeout
            | Self::Status(_) => false,
        }
    }
}

/// Whether this machine lacks what a connection takes.
fn is_shortage(error: &io::Error) -> bool {
    let shortages = [
        Errno::MFILE,
        Errno::NFILE,
        Errno::NOBUFS,
        Errno::NOMEM,
        Errno::ADDRNOTAVAIL,
    ];
    Errno::from_io_error(error).is_some_and(|error| shortages.contains(&error))
}

impl From<CheckError> for AttemptError {
    fn from(error: CheckError) -> Self {
        match error {
            CheckError::Url(error) => Self::Url(error),
            CheckError::NoLookup(error) => Self::NoLookup(error),
        }
    }
}

impl From<hyper::Error> for AttemptError {
    fn from(error: hyper::Error) -> Self {
        let error: &(dyn Error + 'static) = &error;
        Self::Http(engine::chain(error))
    }
}

/// A stream to a receiver, direct or through a proxy.
trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<S: AsyncRead + AsyncWrite + Send + Unpin> Stream for S {}

/// Sends deliveries.
#[derive(Debug)]
pub(crate) struct Sender {
    policy: UrlPolicy,
    tls: DeliveryTls,
    proxy: Option<CallbackProxy>,
    connect_timeout: Duration,
    read_timeout: Duration,
}

impl Sender {
    pub(crate) fn new(policy: UrlPolicy, tls: DeliveryTls, settings: &CallbackSettings) -> Self {
        Self {
            policy,
            tls,
            proxy: settings.proxy.clone(),
            connect_timeout: settings.connect_timeout,
            read_timeout: settings.read_timeout,
        }
    }

    /// Presents another certificate from the next delivery on.
    pub(crate) fn renew_identity(&self, identity: &TlsSettings) -> Result<(), DeliveryTlsError> {
        self.tls.renew(identity)
    }

    pub(crate) const fn lookups(&self) -> &Lookups {
        self.policy.lookups()
    }

    /// Notifies a receiver of a batch. Any 2xx is a success: FI responds with 202.
    ///
    /// # Errors
    /// [`AttemptError`].
    pub(crate) async fn send(
        &self,
        delivery: &Delivery,
        trust: Arc<Trust>,
        now: UnixMillis,
    ) -> Result<(), AttemptError> {
        let config = self.tls.config(delivery.country(), trust, now)?;
        let connector = TlsConnector::from(Arc::new(config));
        let due = Instant::now() + self.connect_timeout;
        let connecting = timeout_at(due, self.connect(delivery, &connector, due));
        let connected = connecting.await.map_err(|_| AttemptError::ConnectTimeout)?;
        let (url, stream) = connected?;
        self.exchange(&url, delivery, stream).await
    }

    async fn connect(
        &self,
        delivery: &Delivery,
        connector: &TlsConnector,
        due: Instant,
    ) -> Result<(CallbackUrl, Box<dyn Stream>), AttemptError> {
        let checked = self.policy.check(delivery.country(), delivery.url());
        let CheckedUrl { url, addresses } = checked.await?;
        let (address, stream) = self.connect_to_any(&addresses, due).await?;
        let name = server_name(&url, address);
        let stream = connector.connect(name, stream).await;
        let stream = stream.map_err(AttemptError::Tls)?;
        Ok((url, Box::new(stream)))
    }

    /// Connects to the first address that accepts. Each gets an equal share of the time left.
    async fn connect_to_any(
        &self,
        addresses: &[SocketAddr],
        due: Instant,
    ) -> Result<(IpAddr, Box<dyn Stream>), AttemptError> {
        let mut failed = AttemptError::ConnectTimeout;
        for (remaining, address) in (1..=addresses.len()).rev().zip(addresses) {
            let time_left = due.saturating_duration_since(Instant::now());
            let share = time_left / u32::try_from(remaining).unwrap_or(u32::MAX);
            match timeout(share, self.connect_to_one(*address)).await {
                Ok(Ok(stream)) => return Ok((address.ip(), stream)),
                Ok(Err(error)) => failed = error,
                Err(_) => failed = AttemptError::ConnectTimeout,
            }
        }
        Err(failed)
    }

    async fn connect_to_one(&self, address: SocketAddr) -> Result<Box<dyn Stream>, AttemptError> {
        match &self.proxy {
            None => Ok(Box::new(
                TcpStream::connect(address)
                    .await
                    .map_err(AttemptError::Connect)?,
            )),
            Some(proxy) => tunnel(proxy, address).await,
        }
    }

    /// Sends the request; the response's status decides.
    async fn exchange(
        &self,
        url: &CallbackUrl,
        delivery: &Delivery,
        stream: Box<dyn Stream>,
    ) -> Result<(), AttemptError> {
        let bound = ReadBound::new(HEAD_BYTES_MAX);
        let stream = TokioIo::new(Bounded::new(stream, bound.clone()));
        let (mut sender, connection) = client().handshake(stream).await?;
        // Aborted when this function returns, whatever the receiver does.
        let mut driver = JoinSet::new();
        driver.spawn(connection);
        let requested = timeout(self.read_timeout, request(&mut sender, url, delivery)).await;
        let response = requested.map_err(|_| AttemptError::ReadTimeout)??;
        // Of the body, `drain` reads no more than it wants.
        bound.lift();
        let status = response.status();
        drain(response).await;
        if status.is_success() {
            Ok(())
        } else {
            Err(AttemptError::Status(status.as_u16()))
        }
    }
}

/// The server name for TLS, which a CA-issued certificate must match: the URL's host. A host that TLS
/// cannot send is replaced by its address.
fn server_name(url: &CallbackUrl, address: IpAddr) -> ServerName<'static> {
    let host = url.host().trim_end_matches('.').to_owned();
    ServerName::try_from(host).unwrap_or_else(|_| ServerName::from(address))
}

/// Opens a tunnel through a proxy to the checked address. The proxy does not get the name: it could
/// resolve it to another address.
async fn tunnel(
    proxy: &CallbackProxy,
    address: SocketAddr,
) -> Result<Box<dyn Stream>, AttemptError> {
    let stream = TcpStream::connect((proxy.host.as_str(), proxy.port)).await;
    let stream = stream.map_err(AttemptError::ProxyConnect)?;
    let (mut sender, connection) = client().handshake(TokioIo::new(stream)).await?;
    let mut driver = JoinSet::new();
    driver.spawn(connection.with_upgrades());
    let mut request = Request::new(Empty::<Bytes>::new());
    let target = address.to_string();
    *request.method_mut() = Method::CONNECT;
    *request.uri_mut() = target.parse().map_err(http_error)?;
    let headers = request.headers_mut();
    headers.insert(HOST, target.parse().map_err(http_error)?);
    headers.insert(USER_AGENT, AGENT);
    if let Some((user, password)) = &proxy.credentials {
        let credentials = STANDARD.encode(format!("{user}:{password}"));
        let mut value =
            HeaderValue::try_from(format!("Basic {credentials}")).map_err(http_error)?;
        value.set_sensitive(true);
        headers.insert(PROXY_AUTHORIZATION, value);
    }
    let response = sender.send_request(request).await?;
    if !response.status().is_success() {
        return Err(AttemptError::Proxy(response.status().as_u16()));
    }
    let upgraded = hyper::upgrade::on(response).await?;
    Ok(Box::new(TokioIo::new(upgraded)))
}

async fn request(
    sender: &mut SendRequest<Empty<Bytes>>,
    url: &CallbackUrl,
    delivery: &Delivery,
) -> Result<Response<Incoming>, AttemptError> {
    let mut request = Request::new(Empty::new());
    *request.uri_mut() = url.target(delivery.batch()).parse().map_err(http_error)?;
    let headers = request.headers_mut();
    headers.insert(HOST, url.authority().parse().map_err(http_error)?);
    headers.insert(USER_AGENT, AGENT);
    Ok(sender.send_request(request).await?)
}

fn client() -> http1::Builder {
    let mut builder = http1::Builder::new();
    builder
        .title_case_headers(true)
        .max_buf_size(HEAD_BYTES_MAX);
    builder
}

/// Reads a body to its end or its bound. The status has already decided.
async fn drain(response: Response<Incoming>) {
    let mut body = response.into_body();
    let mut rest_bytes = BODY_BYTES_MAX;
    let read = async {
        while let Some(Ok(frame)) = body.frame().await {
            let bytes = frame.data_ref().map_or(0, Bytes::len);
            rest_bytes = match rest_bytes.checked_sub(bytes) {
                Some(rest_bytes) => rest_bytes,
                None => return,
            };
        }
    };
    // The delivery has succeeded or failed, however long the body takes.
    let _ended = timeout(BODY_TIMEOUT, read).await;
}

/// How long a response's body is read.
const BODY_TIMEOUT: Duration = Duration::from_millis(500);

fn http_error(error: impl Error) -> AttemptError {
    AttemptError::Http(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tells_what_is_ours_from_what_is_the_receivers() {
        let os_error = |error: Errno| io::Error::from(error);
        for ours in [
            AttemptError::NoLookup(NoLookup),
            AttemptError::Connect(os_error(Errno::MFILE)),
            AttemptError::ProxyConnect(os_error(Errno::CONNREFUSED)),
            AttemptError::Proxy(407),
        ] {
            assert!(ours.is_ours(), "{ours}");
        }
        for receivers in [
            AttemptError::Url(UrlError::Unresolvable),
            AttemptError::Connect(os_error(Errno::CONNREFUSED)),
            AttemptError::ConnectTimeout,
            AttemptError::Proxy(502),
            AttemptError::Status(503),
        ] {
            assert!(!receivers.is_ours(), "{receivers}");
        }
    }
}
