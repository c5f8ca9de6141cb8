//! Accepts the connections of one port, up to its bound.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::connection::Connections;
use crate::participant::Arrival;
use crate::router::Routes;
use crate::tls;

/// Read buffer of a TLS connection: rustls on its own asks for 4 KiB at a time, and an upload would
/// take a hundred reads.
const TLS_BUFFER_BYTES: usize = 32 << 10;
/// How much a TLS connection encrypts ahead of its peer: half a bundle. Each time it is sent, the
/// peer is woken; with half as much, downloads take 7 % more of the gateway's processor time.
const TLS_UNSENT_BYTES_MAX: usize = 128 << 10;

/// What a port speaks, and so how its peers are identified.
#[derive(Clone)]
pub(super) enum Protocol {
    MutualTls(TlsAcceptor),
    Proxy,
    Operations,
}

/// A port with its bound.
pub(super) struct Listener {
    pub(super) protocol: Protocol,
    pub(super) routes: Routes,
    pub(super) connections: Arc<Connections>,
    /// One permit per connection.
    pub(super) permits: Arc<Semaphore>,
}

impl Listener {
    /// Accepts connections until the shutdown signal. Without a permit, connections wait in the
    /// system's queue.
    pub(super) async fn run(self, socket: TcpListener, mut shutdown: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&socket) => accepted,
                _ = shutdown.wait_for(|shutdown| *shutdown) => return,
            };
            match accepted {
                Ok((stream, peer, permit)) => self.spawn(stream, peer, permit, shutdown.clone()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Most likely out of file descriptors: some must be closed first.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn accept(
        &self,
        socket: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, peer) = socket.accept().await?;
        Ok((stream, peer, permit))
    }

    fn spawn(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
        shutdown: watch::Receiver<bool>,
    ) {
        let (protocol, routes) = (self.protocol.clone(), self.routes.clone());
        let connections = Arc::clone(&self.connections);
        tokio::spawn(async move {
            let _held = (permit, OpenConnection::new());
            // Responses are sent at once; where this fails, they are sent a little later.
            let _ = stream.set_nodelay(true);
            serve_stream(stream, peer, protocol, &connections, routes, shutdown).await;
        });
    }
}

/// Counts an open connection until it is dropped.
struct OpenConnection;

impl OpenConnection {
    fn new() -> Self {
        metrics::gauge!("efgs_connections_open").increment(1.0);
        Self
    }
}

impl Drop for OpenConnection {
    fn drop(&mut self) {
        metrics::gauge!("efgs_connections_open").decrement(1.0);
    }
}

async fn serve_stream(
    stream: TcpStream,
    peer: SocketAddr,
    protocol: Protocol,
    connections: &Connections,
    routes: Routes,
    shutdown: watch::Receiver<bool>,
) {
    match protocol {
        Protocol::Proxy => {
            let arrival = Arrival::Proxy(peer.ip());
            connections.serve(stream, arrival, routes, shutdown).await;
        }
        Protocol::Operations => {
            let arrival = Arrival::Operations;
            connections.serve(stream, arrival, routes, shutdown).await;
        }
        Protocol::MutualTls(acceptor) => {
            let stream = BufReader::with_capacity(TLS_BUFFER_BYTES, stream);
            let handshake =
                tokio::time::timeout(connections.timeouts.stall, acceptor.accept(stream));
            match handshake.await {
                Ok(Ok(mut stream)) => {
                    let (_, session) = stream.get_mut();
                    session.set_buffer_limit(Some(TLS_UNSENT_BYTES_MAX));
                    let arrival = Arrival::MutualTls(tls::client_thumbprint(session));
                    connections.serve(stream, arrival, routes, shutdown).await;
                }
                Ok(Err(error)) => {
                    metrics::counter!("efgs_tls_handshakes_failed_total").increment(1);
                    tracing::debug!(%peer, %error, "TLS handshake failed");
                }
                Err(_) => {
                    metrics::counter!("efgs_connections_stalled_total").increment(1);
                    tracing::debug!(%peer, "TLS handshake stalled");
                }
            }
        }
    }
}
