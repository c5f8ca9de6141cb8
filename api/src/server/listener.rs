//! Accepts the connections of one port; beyond its bounds, others give way ([`crate::slots`]).

use std::fmt;
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::io::{AsyncRead, AsyncWrite, BufReader};
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;
use tokio::time::error::Elapsed;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::proxy_protocol::{self, Balancers};
use super::unix_socket::UnixSocket;
use crate::connection::{Accepted, Connections};
use crate::gateway::Gateway;
use crate::participant::{Arrival, ProxyPeer};
use crate::router::Routes;
use crate::slots::{Holder, Slot, Slots};
use crate::tls;
use crate::watchdog::Watchdog;

/// Read buffer of a TLS connection: rustls on its own asks for 4 KiB at a time, and an upload would
/// take a hundred reads.
const TLS_BUFFER_BYTES: usize = 32 << 10;
/// How much a TLS connection encrypts ahead of its peer: half a bundle. Each time it is sent, the
/// peer is woken; with half as much, downloads take 7 % more of the gateway's processor time.
const TLS_UNSENT_BYTES_MAX: usize = 128 << 10;

/// Between a connection that cannot be accepted and the next attempt.
const FAILURE_WAIT: Duration = Duration::from_millis(50);
/// Of failures in a row, one per second is logged.
const FAILURES_PER_WARNING: u32 = 20;

/// What a port speaks, and so how its peers are identified.
#[derive(Clone)]
pub(super) enum Protocol {
    /// Connections of these balancers begin with a header of the PROXY protocol.
    MutualTls(TlsAcceptor, Balancers),
    Proxy,
    Operations,
}

/// Where connections are accepted.
#[derive(Debug)]
pub(super) enum Socket {
    Port(TcpListener),
    File(UnixSocket),
}

impl From<TcpListener> for Socket {
    fn from(socket: TcpListener) -> Self {
        Self::Port(socket)
    }
}

impl From<UnixSocket> for Socket {
    fn from(socket: UnixSocket) -> Self {
        Self::File(socket)
    }
}

impl Socket {
    async fn accept(&self) -> io::Result<(Stream, Peer)> {
        match self {
            Self::Port(socket) => {
                let (stream, address) = socket.accept().await?;
                Ok((Stream::Tcp(stream), Peer::Address(address)))
            }
            Self::File(socket) => {
                let (stream, user) = socket.accept().await?;
                Ok((Stream::Unix(stream), Peer::User(user)))
            }
        }
    }
}

/// A connection that was accepted.
enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

/// Who connected.
#[derive(Debug, Clone, Copy)]
enum Peer {
    Address(SocketAddr),
    /// A user of this host, on the proxy's socket.
    User(u32),
}

impl Peer {
    /// A peer on this host counts as its loopback address.
    const fn ip(self) -> IpAddr {
        match self {
            Self::Address(address) => address.ip(),
            Self::User(_) => IpAddr::V4(Ipv4Addr::LOCALHOST),
        }
    }

    const fn as_proxy(self) -> ProxyPeer {
        match self {
            Self::Address(address) => ProxyPeer::Address(address.ip()),
            Self::User(user) => ProxyPeer::User(user),
        }
    }
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Address(address) => address.fmt(f),
            Self::User(user) => write!(f, "user {user}"),
        }
    }
}

/// A port with its slots.
pub(super) struct Listener {
    pub(super) protocol: Protocol,
    pub(super) routes: Routes,
    pub(super) connections: Arc<Connections>,
    pub(super) slots: Arc<Slots>,
}

impl Listener {
    /// Accepts connections until the shutdown signal.
    pub(super) async fn run(self, socket: Socket, mut shutdown: watch::Receiver<bool>) {
        let mut failed_count = 0_u32;
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&socket) => accepted,
                _ = shutdown.wait_for(|shutdown| *shutdown) => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    failed_count = 0;
                    self.spawn(stream, peer, shutdown.clone());
                }
                Err(error) => {
                    if failed_count.is_multiple_of(FAILURES_PER_WARNING) {
                        tracing::warn!(%error, "cannot accept a connection");
                    }
                    failed_count = failed_count.wrapping_add(1);
                    // Most likely out of file descriptors: some must be closed first.
                    tokio::time::sleep(FAILURE_WAIT).await;
                }
            }
        }
    }

    /// The next connection, when its port has a place for it.
    async fn accept(&self, socket: &Socket) -> io::Result<(Stream, Peer)> {
        while let Some(until) = self.slots.full_until()
            && until > Instant::now()
        {
            tokio::time::sleep_until(until.into()).await;
        }
        socket.accept().await
    }

    fn spawn(&self, stream: Stream, peer: Peer, shutdown: watch::Receiver<bool>) {
        let keep_alive = matches!(self.protocol, Protocol::Operations);
        let watchdog = Arc::new(Watchdog::new(Instant::now(), keep_alive));
        let slot = self.slots.take(self.holder(peer), Arc::clone(&watchdog));
        let slot = Arc::new(slot);
        let connection = Connection {
            peer,
            slot: Arc::clone(&slot),
            watchdog,
            protocol: self.protocol.clone(),
            routes: self.routes.clone(),
            connections: Arc::clone(&self.connections),
        };
        tokio::spawn(async move {
            if let Stream::Tcp(stream) = &stream {
                // Responses are sent at once; where this fails, they are sent a little later.
                let _ = stream.set_nodelay(true);
            }
            tokio::select! {
                // A request that has arrived is still answered, if that takes no wait: a probe is.
                biased;
                () = connection.serve(stream, shutdown) => {}
                () = slot.displaced() => tracing::debug!(%peer, "closing a displaced connection"),
            }
        });
    }

    /// Who holds a new connection.
    fn holder(&self, peer: Peer) -> Holder {
        let is_trusted = |gateway: &Gateway| gateway.trusts_proxy(peer.as_proxy());
        match (&self.protocol, &self.routes) {
            (Protocol::Operations, _) => Holder::peer(peer.ip()),
            (Protocol::Proxy, Routes::Participants(gateway)) if is_trusted(gateway) => {
                Holder::peer(peer.ip())
            }
            (Protocol::Proxy | Protocol::MutualTls(..), _) => Holder::unidentified(peer.ip()),
        }
    }
}

/// An accepted connection.
struct Connection {
    peer: Peer,
    slot: Arc<Slot>,
    watchdog: Arc<Watchdog>,
    protocol: Protocol,
    routes: Routes,
    connections: Arc<Connections>,
}

impl Connection {
    async fn serve(mut self, stream: Stream, shutdown: watch::Receiver<bool>) {
        let proxy = Arrival::Proxy(self.peer.as_proxy());
        let stream = match stream {
            Stream::Tcp(stream) => stream,
            Stream::Unix(stream) => return self.answer(stream, proxy, shutdown).await,
        };
        match self.protocol.clone() {
            Protocol::Proxy => self.answer(stream, proxy, shutdown).await,
            Protocol::Operations => self.answer(stream, Arrival::Operations, shutdown).await,
            Protocol::MutualTls(acceptor, balancers) => {
                if let Some(stream) = self.handshake(stream, &acceptor, &balancers).await {
                    let thumbprint = tls::client_thumbprint(stream.get_ref().1);
                    let arrival = Arrival::MutualTls(thumbprint);
                    self.answer(stream, arrival, shutdown).await;
                }
            }
        }
    }

    async fn answer<S>(self, stream: S, arrival: Arrival, shutdown: watch::Receiver<bool>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let accepted = Accepted {
            arrival,
            slot: self.slot,
            watchdog: self.watchdog,
        };
        let connections = self.connections;
        connections
            .serve(stream, accepted, self.routes, shutdown)
            .await;
    }

    /// The TLS stream; `None` when the handshake, or what a balancer says before it, failed or stalled.
    async fn handshake(
        &mut self,
        stream: TcpStream,
        acceptor: &TlsAcceptor,
        balancers: &Balancers,
    ) -> Option<TlsStream<BufReader<TcpStream>>> {
        let mut stream = BufReader::with_capacity(TLS_BUFFER_BYTES, stream);
        let stall = self.connections.timeouts.stall;
        let deadline = tokio::time::Instant::now() + stall;
        if balancers.contain(self.peer.ip()) {
            let client = proxy_protocol::read_client(&mut stream);
            self.note_client(tokio::time::timeout_at(deadline, client).await)?;
        }
        let peer = self.peer;
        match tokio::time::timeout_at(deadline, acceptor.accept(stream)).await {
            Ok(Ok(mut stream)) => {
                let (_, session) = stream.get_mut();
                session.set_buffer_limit(Some(TLS_UNSENT_BYTES_MAX));
                Some(stream)
            }
            Ok(Err(error)) => {
                metrics::counter!("efgs_tls_handshakes_failed_total").increment(1);
                tracing::debug!(%peer, %error, "TLS handshake failed");
                None
            }
            Err(_) => {
                metrics::counter!("efgs_connections_stalled_total").increment(1);
                tracing::debug!(%peer, "TLS handshake stalled");
                None
            }
        }
    }

    /// The connection is a client's of the balancer from now on; `None` if it cannot be told.
    fn note_client(
        &mut self,
        client: Result<io::Result<Option<SocketAddr>>, Elapsed>,
    ) -> Option<()> {
        match client {
            Ok(Ok(Some(client))) => {
                self.peer = Peer::Address(client);
                self.slot.forwarded_for(client.ip());
            }
            Ok(Ok(None)) => {}
            Ok(Err(error)) if error.kind() == io::ErrorKind::InvalidData => {
                metrics::counter!("efgs_proxy_protocol_headers_refused_total").increment(1);
                tracing::warn!(
                    balancer = %self.peer.ip(),
                    "connections of a load balancer begin without a PROXY protocol header of version 2: \
                     let it send one (send-proxy-v2), or take it out of [public] proxy_protocol_from"
                );
                return None;
            }
            // A probe that only connects, or a client that has gone.
            Ok(Err(error)) => {
                tracing::debug!(peer = %self.peer, %error, "closed before the TLS handshake");
                return None;
            }
            Err(_) => {
                metrics::counter!("efgs_connections_stalled_total").increment(1);
                tracing::debug!(peer = %self.peer, "stalled before the TLS handshake");
                return None;
            }
        }
        Some(())
    }
}
