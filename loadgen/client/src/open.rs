//! Opens connections: TCP, TLS, HTTP.

use std::sync::Arc;

use http::{Request, Response};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::ServerName;
use testkit::target::Target;
use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tokio_rustls::TlsConnector;

use super::caller::{Caller, Protocol};
use super::error::ClientError;
use super::throttle::Payload;

/// Read buffer of a TLS connection: rustls by itself reads 4 KiB at a time.
const TLS_BUFFER_BYTES: usize = 64 << 10;
/// Socket buffers of a throttled connection; the kernel doubles them.
const TRICKLING_BUFFER_BYTES: u32 = 4096;

pub(super) enum Sender {
    Http1(http1::SendRequest<Payload>),
    Http2(http2::SendRequest<Payload>),
}

impl Sender {
    pub(super) fn is_closed(&self) -> bool {
        match self {
            Self::Http1(sender) => sender.is_closed(),
            Self::Http2(sender) => sender.is_closed(),
        }
    }

    pub(super) async fn send(
        &mut self,
        request: Request<Payload>,
    ) -> hyper::Result<Response<Incoming>> {
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

/// Connects; `throttled` connections have the smallest receive buffer that the kernel allows, so
/// that the sender is blocked by what is not read.
pub(super) async fn open(
    caller: &Caller,
    target: &Target,
    throttled: bool,
) -> Result<Sender, ClientError> {
    let failed = |source| ClientError::Connect {
        target: target.clone(),
        source,
    };
    let tcp = match throttled {
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
    let buffer_bytes = match throttled {
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
