//! The gateway as a running server: listeners, their bounds, the orderly end.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use engine::{Clock, Engine};
use tokio::io::BufReader;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::callback::UrlChecks;
use crate::connection::{Connections, Patience};
use crate::delivery::{Dispatcher, UrlPolicy};
use crate::header_case::Spelling;
use crate::operations;
use crate::participant::{Arrival, ProxyTrust};
use crate::router::{Gateway, Routes};
use crate::settings::{CallbackSettings, ProxySettings, Settings};
use crate::tls;

pub use crate::delivery::DeliveryTlsError;
pub use crate::tls::{TlsError, TlsSettings};

/// Where to listen and what to allow.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Address of the public port: mutual TLS. Needs `tls`.
    pub public_listen: Option<SocketAddr>,
    /// The gateway's certificate and key.
    pub tls: Option<TlsSettings>,
    /// Plain HTTP behind a proxy that terminates TLS.
    pub proxy: Option<ProxySettings>,
    /// Address of health, readiness, metrics and dashboard; nobody is authenticated there.
    pub operations_listen: Option<SocketAddr>,
    /// Callbacks.
    pub callback: CallbackSettings,
    /// Open connections of the public and the proxy port, each.
    pub connections_max: usize,
    /// Largest upload body, in bytes.
    pub body_bytes_max: usize,
    /// How long to wait for bytes that are due from a peer.
    pub stall: Duration,
    /// How long a participant's connection may rest between requests.
    pub idle: Duration,
    /// How long requests in flight may take to finish when the server stops.
    pub shutdown_wait: Duration,
}

impl Default for ServerSettings {
    /// No listener yet; every bound at its default.
    fn default() -> Self {
        Self {
            public_listen: None,
            tls: None,
            proxy: None,
            operations_listen: None,
            callback: CallbackSettings::default(),
            connections_max: CONNECTIONS_MAX,
            body_bytes_max: engine::limits::UPLOAD_BODY_BYTES_MAX,
            stall: STALL,
            idle: IDLE,
            shutdown_wait: SHUTDOWN_WAIT,
        }
    }
}

impl From<&Settings> for ServerSettings {
    fn from(settings: &Settings) -> Self {
        let public = settings.public.as_ref();
        Self {
            public_listen: public.map(|public| public.listen),
            tls: public.map(|public| TlsSettings {
                certificate_chain_pem: public.certificate_chain_pem.clone(),
                private_key_pem: public.private_key_pem.clone(),
            }),
            proxy: settings.proxy.clone(),
            operations_listen: settings.operations_listen,
            callback: settings.callback.clone(),
            body_bytes_max: settings.engine.upload.body_bytes_max,
            ..Self::default()
        }
    }
}

/// Connections of a port. Each holds about 60 KiB of buffer usually, at the most 416 KiB over HTTP/1
/// and 1.2 MiB over HTTP/2, whose window is 1 MiB; 27 participants with a dozen
/// connections each stay far below.
pub const CONNECTIONS_MAX: usize = 1024;
/// A client that stalls is closed within 10 s (decision 14): this and an eighth of it.
pub const STALL: Duration = Duration::from_secs(8);
/// As common proxies and servers have it. Only for who was authenticated, and for operators.
pub const IDLE: Duration = Duration::from_secs(75);
/// The longest upload takes a commit and its wait, well under this.
pub const SHUTDOWN_WAIT: Duration = Duration::from_secs(10);
/// What is read at a time from a connection with TLS: rustls by itself asks for 4 KiB, and an
/// upload would take a hundred reads.
const TLS_BUFFER_BYTES: usize = 32 << 10;
/// What a connection with TLS encrypts ahead of its peer: half a bundle. Each time it is sent, the
/// peer is woken; with half as much, downloads take 7 % more of the gateway's processor time.
const TLS_UNSENT_BYTES_MAX: usize = 128 << 10;
/// Connections of the operations port.
const OPERATIONS_CONNECTIONS_MAX: usize = 64;

/// Where the server really listens: port 0 in the settings becomes a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BoundAddresses {
    /// Mutual TLS.
    pub public: Option<SocketAddr>,
    /// Behind a proxy.
    pub proxy: Option<SocketAddr>,
    /// Operations.
    pub operations: Option<SocketAddr>,
}

/// Why the server does not start. One sentence that says what to do.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Nothing would be served.
    #[error("no port is configured: set [public] listen or [proxy] listen")]
    NoListener,
    /// The public port without a certificate.
    #[error("the public port needs a TLS certificate and key: set both under [public]")]
    NoTls,
    /// The certificate or key cannot be used.
    #[error("{0}")]
    Tls(#[from] TlsError),
    /// The certificates for callbacks cannot be used.
    #[error("{0}")]
    Callback(#[from] DeliveryTlsError),
    /// Identity headers would be believed from anyone.
    #[error(
        "[proxy] listen = {0} can be reached from other machines, and whoever reaches it may claim \
         to be any country: set [proxy] trusted_peers, or listen on a loopback address"
    )]
    AnyoneTrusted(SocketAddr),
    /// Another process listens there.
    #[error(
        "the {role} port {address} is in use: stop the program that holds it, or set another \
         [{role}] listen"
    )]
    PortInUse {
        /// Which port.
        role: &'static str,
        /// Its address.
        address: SocketAddr,
    },
    /// The address cannot be listened on for another reason.
    #[error("cannot listen on the {role} port {address} ({source}): set another [{role}] listen")]
    Listen {
        /// Which port.
        role: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The metrics of this process have another recorder.
    #[error("metrics cannot be collected: {0}")]
    Metrics(String),
    /// The HTTP library does not spell headers as told; our tests would show it first.
    #[error("header names cannot be spelled exactly: {0}")]
    Spelling(#[source] io::Error),
}

/// Begins to collect the metrics of this process, so that what happens before [`serve`] counts, too.
/// Any number of times.
///
/// # Errors
/// [`ServeError::Metrics`].
pub fn collect_metrics() -> Result<(), ServeError> {
    operations::Metrics::install().map_err(ServeError::Metrics)?;
    Ok(())
}

/// Serves until `shutdown` completes, then finishes what is in flight.
///
/// `bound` is called once, as soon as every port is open.
///
/// # Errors
/// [`ServeError`], before anything is served.
pub async fn serve(
    engine: Arc<Engine>,
    clock: Arc<dyn Clock>,
    settings: ServerSettings,
    bound: impl FnOnce(&BoundAddresses),
    shutdown: impl Future<Output = ()>,
) -> Result<(), ServeError> {
    let tls = public_tls(&settings)?;
    let proxy_trust = settings.proxy.as_ref().map(proxy_trust).transpose()?;
    let policy = Arc::new(UrlPolicy::new(&settings.callback));
    let dispatcher = Arc::new(Dispatcher::new(
        Arc::clone(&engine),
        Arc::clone(&clock),
        Arc::clone(&policy),
        settings.callback.clone(),
    )?);
    let ports = Ports::open(&settings).await?;
    let addresses = ports.addresses();
    let metrics = operations::Metrics::install().map_err(ServeError::Metrics)?;
    let spelling = Spelling::learn().await.map_err(ServeError::Spelling)?;
    let patience = Patience::new(settings.stall, settings.idle);
    let (stop, stopping) = watch::channel(false);

    let gateway = Arc::new(Gateway {
        engine: Arc::clone(&engine),
        clock,
        proxy_trust,
        url_checks: UrlChecks::new(policy),
        body_bytes_max: settings.body_bytes_max,
        patience,
    });
    let delivers = dispatcher.delivers();
    let serving = Serving {
        participants: Routes::Participants(gateway),
        operations: Routes::Operations(operations::routes(
            engine,
            metrics.clone(),
            stopping.clone(),
            delivers,
        )),
        connections: Arc::new(Connections::new(spelling, patience)),
        connections_max: settings.connections_max,
    };
    serving.begin(ports, tls, &stopping);
    tokio::spawn(dispatcher.run(stopping.clone()));
    tokio::spawn(metrics.upkeep(stopping));
    bound(&addresses);
    shutdown.await;
    tracing::info!("stopping: no new connections, requests in flight are finished");
    finish(stop, settings.shutdown_wait).await;
    Ok(())
}

/// What stands behind the ports.
struct Serving {
    participants: Routes,
    operations: Routes,
    connections: Arc<Connections>,
    connections_max: usize,
}

impl Serving {
    /// Serves every port that is open until the word to stop.
    fn begin(
        self,
        ports: Ports,
        tls: Option<Arc<rustls::ServerConfig>>,
        stopping: &watch::Receiver<bool>,
    ) {
        let most = self.connections_max;
        let serve = |listener, door, routes: &Routes, connections_max| {
            let port = Port {
                door,
                routes: routes.clone(),
                connections: Arc::clone(&self.connections),
                permits: Arc::new(Semaphore::new(connections_max)),
            };
            tokio::spawn(port.run(listener, stopping.clone()));
        };
        if let (Some(listener), Some(tls)) = (ports.public, tls) {
            serve(
                listener,
                Door::Tls(TlsAcceptor::from(tls)),
                &self.participants,
                most,
            );
        }
        if let Some(listener) = ports.proxy {
            serve(listener, Door::Proxy, &self.participants, most);
        }
        if let Some(listener) = ports.operations {
            let most = OPERATIONS_CONNECTIONS_MAX;
            serve(listener, Door::Operations, &self.operations, most);
        }
    }
}

/// Tells everyone and waits until the last connection has let go, or `wait` is over.
async fn finish(stop: watch::Sender<bool>, wait: Duration) {
    // Fails only when nobody listens any more.
    let _ = stop.send(true);
    if tokio::time::timeout(wait, stop.closed()).await.is_err() {
        tracing::warn!("connections were still open when the wait was over");
    }
}

fn public_tls(settings: &ServerSettings) -> Result<Option<Arc<rustls::ServerConfig>>, ServeError> {
    match (settings.public_listen, &settings.tls, &settings.proxy) {
        (None, _, None) => Err(ServeError::NoListener),
        (None, _, Some(_)) => Ok(None),
        (Some(_), None, _) => Err(ServeError::NoTls),
        (Some(_), Some(tls), _) => Ok(Some(Arc::new(tls::server_config(tls)?))),
    }
}

fn proxy_trust(settings: &ProxySettings) -> Result<ProxyTrust, ServeError> {
    if !settings.listen.ip().is_loopback() && settings.trusted_peers.is_empty() {
        return Err(ServeError::AnyoneTrusted(settings.listen));
    }
    Ok(ProxyTrust {
        trusted_peers: settings.trusted_peers.clone(),
        thumbprint_header: settings.thumbprint_header.clone(),
        distinguished_name_header: settings.distinguished_name_header.clone(),
    })
}

/// All listeners, opened before anything is served.
struct Ports {
    public: Option<TcpListener>,
    proxy: Option<TcpListener>,
    operations: Option<TcpListener>,
}

impl Ports {
    async fn open(settings: &ServerSettings) -> Result<Self, ServeError> {
        let proxy = settings.proxy.as_ref().map(|proxy| proxy.listen);
        Ok(Self {
            public: listen("public", settings.public_listen).await?,
            proxy: listen("proxy", proxy).await?,
            operations: listen("operations", settings.operations_listen).await?,
        })
    }

    fn addresses(&self) -> BoundAddresses {
        let address = |listener: &Option<TcpListener>| listener.as_ref()?.local_addr().ok();
        BoundAddresses {
            public: address(&self.public),
            proxy: address(&self.proxy),
            operations: address(&self.operations),
        }
    }
}

async fn listen(
    role: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, ServeError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let listener = TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::PortInUse { role, address },
            _ => ServeError::Listen {
                role,
                address,
                source,
            },
        })?;
    let address = listener.local_addr().unwrap_or(address);
    tracing::info!(role, %address, "listening");
    Ok(Some(listener))
}

/// How a port learns who is there.
#[derive(Clone)]
enum Door {
    Tls(TlsAcceptor),
    Proxy,
    Operations,
}

/// Counts an open connection while it lives.
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

/// One listener with its bound.
struct Port {
    door: Door,
    routes: Routes,
    connections: Arc<Connections>,
    permits: Arc<Semaphore>,
}

impl Port {
    /// Accepts while there is room; whoever comes beyond that waits in the system's queue.
    async fn run(self, listener: TcpListener, mut stop: watch::Receiver<bool>) {
        loop {
            let accepted = tokio::select! {
                accepted = self.accept(&listener) => accepted,
                _ = stop.wait_for(|stop| *stop) => return,
            };
            match accepted {
                Ok((stream, peer, permit)) => self.spawn(stream, peer, permit, stop.clone()),
                Err(error) => {
                    tracing::warn!(%error, "cannot accept a connection");
                    // Out of file descriptors, most likely: some must close first.
                    tokio::time::sleep(Duration::from_millis(50)).await;
                }
            }
        }
    }

    async fn accept(
        &self,
        listener: &TcpListener,
    ) -> io::Result<(TcpStream, SocketAddr, OwnedSemaphorePermit)> {
        let permit = Arc::clone(&self.permits)
            .acquire_owned()
            .await
            .map_err(io::Error::other)?;
        let (stream, peer) = listener.accept().await?;
        Ok((stream, peer, permit))
    }

    fn spawn(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        permit: OwnedSemaphorePermit,
        stop: watch::Receiver<bool>,
    ) {
        let (door, routes) = (self.door.clone(), self.routes.clone());
        let connections = Arc::clone(&self.connections);
        tokio::spawn(async move {
            let _held = (permit, OpenConnection::new());
            // An answer goes out at once; where it cannot be set, it goes out a little later.
            let _ = stream.set_nodelay(true);
            serve_stream(stream, peer, door, &connections, routes, stop).await;
        });
    }
}

async fn serve_stream(
    stream: TcpStream,
    peer: SocketAddr,
    door: Door,
    connections: &Connections,
    routes: Routes,
    stop: watch::Receiver<bool>,
) {
    match door {
        Door::Proxy => {
            connections
                .serve(stream, Arrival::Proxy(peer.ip()), routes, stop)
                .await;
        }
        Door::Operations => {
            connections
                .serve(stream, Arrival::Operations, routes, stop)
                .await;
        }
        Door::Tls(acceptor) => {
            let stream = BufReader::with_capacity(TLS_BUFFER_BYTES, stream);
            let handshake =
                tokio::time::timeout(connections.patience.stall, acceptor.accept(stream));
            match handshake.await {
                Ok(Ok(mut stream)) => {
                    stream
                        .get_mut()
                        .1
                        .set_buffer_limit(Some(TLS_UNSENT_BYTES_MAX));
                    let client = tls::client_thumbprint(stream.get_ref().1);
                    let arrival = Arrival::MutualTls(client);
                    connections.serve(stream, arrival, routes, stop).await;
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
