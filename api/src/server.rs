//! The running server: its listeners, its state, its graceful shutdown.

mod error;
mod identity;
mod listener;
mod open_files;
mod ports;
mod proxy_protocol;
mod settings;
mod unix_socket;

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use engine::trust::ListedCertificate;
use engine::{Clock, Engine, StartProgress};
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::attention::{self, Attention, OwnCertificates};
use crate::bounds::{Bounds, CHECK_LOOKUPS, DELIVERY_LOOKUPS, ParticipantBound};
use crate::connection::Connections;
use crate::delivery::{Dispatcher, Lookups, UrlPolicy};
use crate::gateway::Gateway;
use crate::header_case::HeaderCase;
use crate::lifecycle::{Lifecycle, Running};
use crate::operations;
use crate::participant::ProxyTrust;
use crate::router::Routes;
use crate::settings::ConnectionSettings;
use crate::shares::ShareLimits;
use crate::slots::{SlotLimits, Slots};
use crate::timeouts::Timeouts;
use crate::tls::{self, ServerCertificate};
use crate::url_checks::UrlChecks;

use identity::{check_callback_identity, proxy_trust, public_certificate};
use listener::{Listener, Protocol, Socket};
use ports::{Port, Ports};
use proxy_protocol::Balancers;
use unix_socket::UnixSocket;

pub use crate::attention::{Finding, Severity};
pub use crate::delivery::DeliveryTlsError;
pub use crate::tls::{TlsError, TlsSettings};
pub use error::ServeError;
pub use ports::BoundAddresses;
pub use settings::ServerSettings;

/// Begins to collect the metrics of this process, so that what happens before [`serve`] is counted,
/// too. May be called more than once.
///
/// # Errors
/// [`ServeError::Metrics`].
pub fn collect_metrics() -> Result<(), ServeError> {
    operations::Metrics::install().map_err(ServeError::Metrics)?;
    Ok(())
}

/// Why a server would not start with these settings: each of the reasons. Takes the ports and gives them back;
/// must be called on a runtime.
pub fn obstacles(settings: &ServerSettings) -> Vec<ServeError> {
    [
        public_certificate(settings).err(),
        check_callback_identity(settings).err(),
        settings
            .proxy
            .as_ref()
            .and_then(|proxy| proxy_trust(proxy).err()),
        connection_limits(settings).err(),
    ]
    .into_iter()
    .flatten()
    .chain(Ports::refused(settings))
    .collect()
}

/// What an operator should see to of the gateway's own certificates.
pub fn own_findings(settings: &ServerSettings, clock: &dyn Clock) -> Vec<Finding> {
    attention(settings).own.findings(clock.now())
}

/// What an operator should see to of listed certificates.
pub fn list_findings(listed: &[&ListedCertificate], clock: &dyn Clock) -> Vec<Finding> {
    attention::list_findings(listed, None, clock.now())
}

/// What an operator should see to of the clock, in milliseconds ahead of the database's.
pub fn clock_finding(ahead_ms: i64) -> Option<Finding> {
    attention::clock_finding(ahead_ms)
}

/// Serves until `shutdown` completes, then finishes the requests in flight.
///
/// `bound` is called once, when every port is open.
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
    let server = Server::open(settings, Arc::default()).await?;
    server.serve(engine, clock, bound, shutdown).await
}

/// A server that has its ports, of which only that for operators listens: health and readiness can be
/// asked while the engine starts. Participants' connections are refused until it has: a load balancer,
/// or a client with several addresses, continues with the next gateway, and no request is begun that
/// nobody can answer.
pub struct Server {
    settings: ServerSettings,
    certificate: Option<Arc<ServerCertificate>>,
    proxy_trust: Option<ProxyTrust>,
    ports: Ports,
    services: Services,
    lifecycle: Arc<Lifecycle>,
    attention: Arc<Attention>,
    shutdown: watch::Sender<bool>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("lifecycle", &self.lifecycle)
            .finish_non_exhaustive()
    }
}

/// Takes a server's readiness away, as a load balancer sees it, before it stops.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Lifecycle>);

impl Readiness {
    /// `/ready` answers 503 from now on. Everything else continues.
    pub fn withdraw(&self) {
        self.0.stopping();
    }
}

impl Server {
    /// Checks the settings, takes all ports and serves that of the operators.
    ///
    /// # Errors
    /// [`ServeError`].
    pub async fn open(
        settings: ServerSettings,
        progress: Arc<StartProgress>,
    ) -> Result<Self, ServeError> {
        let certificate = public_certificate(&settings)?;
        check_callback_identity(&settings)?;
        let proxy_trust = settings.proxy.as_ref().map(proxy_trust).transpose()?;
        let mut ports = Ports::bind(&settings)?;
        let metrics = operations::Metrics::install().map_err(ServeError::Metrics)?;
        let header_case = HeaderCase::from_hyper()
            .await
            .map_err(ServeError::HeaderCase)?;
        let timeouts = Timeouts::new(settings.stall_timeout, settings.idle_timeout);
        let services = Services {
            connections: Arc::new(Connections::new(header_case, timeouts)),
            slots: connection_limits(&settings)?,
            addresses: ports.addresses(),
        };
        let (shutdown, receiver) = watch::channel(false);
        let lifecycle = Arc::new(Lifecycle::new(progress));
        let attention = Arc::new(attention(&settings));
        let BoundAddresses {
            operations,
            public,
            proxy,
        } = services.addresses;
        let name = settings.gateway_name.clone();
        let shown = Arc::new(operations::Shown {
            gateway: name
                .unwrap_or_else(|| operations::gateway_name(operations.or(public).or(proxy))),
            lifecycle: Arc::clone(&lifecycle),
            metrics: metrics.clone(),
            attention: Arc::clone(&attention),
            delivers: settings.callback.identity.is_some(),
            describes_api: settings.describes_api,
            practice: settings.practice,
            warnings: settings.warnings.clone(),
        });
        let console = operations::Console::new(Arc::clone(&shown), operations);
        let console = Arc::new(console);
        if let Some(port) = ports.operations.take() {
            let hosts = operations::KnownHosts::new(&settings.operations_hosts);
            let routes = operations::routes(shown, Arc::clone(&console), hosts);
            services.operations(port, routes, &receiver)?;
        }
        tokio::spawn(operations::run_console(console, receiver.clone()));
        tokio::spawn(metrics.upkeep(receiver));
        Ok(Self {
            settings,
            certificate,
            proxy_trust,
            ports,
            services,
            lifecycle,
            attention,
            shutdown,
        })
    }

    /// The addresses of its ports, whether they listen or not.
    pub const fn addresses(&self) -> &BoundAddresses {
        &self.services.addresses
    }

    /// With which `/ready` can be answered 503 while requests are still served.
    pub fn readiness(&self) -> Readiness {
        Readiness(Arc::clone(&self.lifecycle))
    }

    /// Serves participants, too, until `shutdown` completes, then finishes the requests in flight.
    ///
    /// `bound` is called once, when every port listens.
    ///
    /// # Errors
    /// [`ServeError`], before any participant is served.
    pub async fn serve(
        self,
        engine: Arc<Engine>,
        clock: Arc<dyn Clock>,
        bound: impl FnOnce(&BoundAddresses),
        shutdown: impl Future<Output = ()>,
    ) -> Result<(), ServeError> {
        let settings = self.settings;
        let dispatcher = Arc::new(Dispatcher::new(
            Arc::clone(&engine),
            Arc::clone(&clock),
            url_policy(&settings, DELIVERY_LOOKUPS),
            settings.callback.clone(),
        )?);
        let slots = self.services.slots;
        let public_slots = Slots::new("public", participant_slots(slots));
        let url_checks = UrlChecks::new(url_policy(&settings, CHECK_LOOKUPS));
        let mut bounds = Bounds::of(&engine);
        dispatcher.watch(&mut bounds);
        url_checks.watch(&mut bounds);
        public_slots.watch(&mut bounds);
        bounds.set(ParticipantBound::Connections, slots.per_participant_max);
        let gateway = Gateway {
            engine: Arc::clone(&engine),
            clock: Arc::clone(&clock),
            proxy_trust: self.proxy_trust,
            url_checks,
            body_bytes_max: settings.body_bytes_max,
            timeouts: self.services.connections.timeouts,
            describes_api: settings.describes_api,
        };
        let receiver = self.shutdown.subscribe();
        let participants = Routes::Participants(Arc::new(gateway));
        let certificate = self.certificate.clone();
        self.services.participants(
            self.ports,
            participants,
            certificate,
            Balancers::new(settings.proxy_protocol_from),
            &public_slots,
            &receiver,
        )?;
        if let (Some(certificate), Some(renewed)) = (self.certificate, settings.renewed_tls) {
            tokio::spawn(renew(certificate, Arc::clone(&self.attention), renewed));
        }
        if let Some(renewed) = settings.renewed_callback_identity {
            let attention = Arc::clone(&self.attention);
            let dispatcher = Arc::clone(&dispatcher);
            tokio::spawn(renew_callback_identity(dispatcher, attention, renewed));
        }
        tokio::spawn(dispatcher.run(receiver.clone()));
        let running = Running {
            engine: Arc::clone(&engine),
            clock: Arc::clone(&clock),
            bounds,
        };
        tokio::spawn(attention::watch(self.attention, engine, clock, receiver));
        self.lifecycle.started(running);
        bound(&self.services.addresses);
        shutdown.await;
        self.lifecycle.stopping();
        tracing::info!("shutting down: no new connections, finishing requests in flight");
        finish(self.shutdown, settings.shutdown_timeout).await;
        Ok(())
    }
}

/// What all ports share.
struct Services {
    connections: Arc<Connections>,
    slots: ConnectionSettings,
    addresses: BoundAddresses,
}

impl Services {
    /// Serves operators.
    fn operations(
        &self,
        port: Port,
        routes: Router,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<(), ServeError> {
        let slots = Slots::new("operations", self.operations_slots());
        let listener = self.listener(Protocol::Operations, &Routes::Operations(routes), slots);
        spawn(listener, port.listen()?, shutdown);
        Ok(())
    }

    /// Serves participants on both of their ports, as far as they are open.
    fn participants(
        &self,
        ports: Ports,
        routes: Routes,
        certificate: Option<Arc<ServerCertificate>>,
        balancers: Balancers,
        public_slots: &Arc<Slots>,
        shutdown: &watch::Receiver<bool>,
    ) -> Result<(), ServeError> {
        if let (Some(port), Some(certificate)) = (ports.public, certificate) {
            let tls = Arc::new(tls::server_config(certificate)?);
            let protocol = Protocol::MutualTls(TlsAcceptor::from(tls), balancers);
            let slots = Arc::clone(public_slots);
            let listener = self.listener(protocol, &routes, slots);
            spawn(listener, port.listen()?, shutdown);
        }
        if let Some(port) = ports.proxy {
            let slots = Slots::new("proxy", participant_slots(self.slots));
            let listener = self.listener(Protocol::Proxy, &routes, slots);
            spawn(listener, port.listen()?, shutdown);
        }
        if let Some(socket) = ports.proxy_socket {
            let slots = Slots::new("proxy-socket", participant_slots(self.slots));
            let listener = self.listener(Protocol::Proxy, &routes, slots);
            spawn(listener, UnixSocket::bind(&socket)?, shutdown);
        }
        Ok(())
    }

    /// Everybody is alike there.
    const fn operations_slots(&self) -> SlotLimits {
        let port_max = self.slots.operations_max;
        SlotLimits {
            port_max,
            participant_max: port_max,
            unidentified_max: port_max,
        }
    }

    fn listener(&self, protocol: Protocol, routes: &Routes, slots: Arc<Slots>) -> Listener {
        Listener {
            protocol,
            routes: routes.clone(),
            connections: Arc::clone(&self.connections),
            slots,
        }
    }
}

const fn participant_slots(slots: ConnectionSettings) -> SlotLimits {
    SlotLimits {
        port_max: slots.per_port_max,
        participant_max: slots.per_participant_max,
        unidentified_max: slots.unidentified_max,
    }
}

fn spawn(listener: Listener, socket: impl Into<Socket>, shutdown: &watch::Receiver<bool>) {
    tokio::spawn(listener.run(socket.into(), shutdown.clone()));
}

/// Sends the shutdown signal and waits until every receiver is dropped, at most for `timeout`.
async fn finish(shutdown: watch::Sender<bool>, timeout: Duration) {
    // Fails only when no receiver is left.
    let _ = shutdown.send(true);
    let closed = tokio::time::timeout(timeout, shutdown.closed()).await;
    if closed.is_err() {
        tracing::warn!("connections were still open at the shutdown timeout");
    }
}

/// Serves each renewed certificate from the next handshake on, until no more can come.
async fn renew(
    certificate: Arc<ServerCertificate>,
    attention: Arc<Attention>,
    mut renewed: watch::Receiver<TlsSettings>,
) {
    while renewed.changed().await.is_ok() {
        let settings = renewed.borrow_and_update().clone();
        match certificate.renew(&settings) {
            Ok(()) => {
                attention.own.renew_server(&settings);
                tracing::info!("new handshakes are served the renewed TLS certificate");
            }
            Err(error) => tracing::error!(
                error = engine::chain(&error),
                "cannot use the renewed TLS certificate: the former one stays in use"
            ),
        }
    }
}

/// Presents each renewed certificate to receivers of callbacks, until no more can come.
async fn renew_callback_identity(
    dispatcher: Arc<Dispatcher>,
    attention: Arc<Attention>,
    mut renewed: watch::Receiver<TlsSettings>,
) {
    while renewed.changed().await.is_ok() {
        let identity = renewed.borrow_and_update().clone();
        match dispatcher.renew_identity(&identity) {
            Ok(()) => {
                attention.own.renew_callback(&identity);
                tracing::info!("callbacks are sent with the renewed certificate");
            }
            Err(error) => tracing::error!(
                error = engine::chain(&error),
                "cannot use the renewed certificate for callbacks: the former one stays in use"
            ),
        }
    }
}

fn attention(settings: &ServerSettings) -> Attention {
    let server = settings
        .tls
        .as_ref()
        .filter(|_| settings.public_listen.is_some());
    let own = OwnCertificates::new(server, settings.callback.identity.as_ref());
    Attention::new(own, settings.sqlite.clone())
}

fn url_policy(settings: &ServerSettings, lookups: ShareLimits) -> UrlPolicy {
    let lookups = Lookups::new(Arc::clone(&settings.resolver), lookups);
    UrlPolicy::new(&settings.callback, lookups)
}

/// Raises the limit on open files, and returns the connection limits that it allows.
fn connection_limits(settings: &ServerSettings) -> Result<ConnectionSettings, ServeError> {
    let (wanted, deliveries_max) = (settings.connections, settings.callback.deliveries_max);
    let proxy = settings.proxy.as_ref();
    let ports = [
        settings.public_listen.is_some(),
        proxy.is_some_and(|proxy| proxy.listen.is_some()),
        proxy.is_some_and(|proxy| proxy.socket.is_some()),
    ];
    let ports_count = ports.into_iter().filter(|is_open| *is_open).count();
    let open_files = open_files::raise_limit();
    let divided = open_files::divide(open_files, wanted, ports_count, deliveries_max)?;
    tracing::info!(
        open_files,
        per_port = divided.per_port_max,
        per_participant = divided.per_participant_max,
        unidentified = divided.unidentified_max,
        operations = divided.operations_max,
        "connections that may be open"
    );
    show_bounds(divided, ports_count, deliveries_max);
    if divided != wanted {
        let wanted = wanted.per_port_max;
        tracing::warn!(
            open_files,
            wanted,
            "the limit on open files reduces the connections"
        );
    }
    Ok(divided)
}

/// Sets the metrics of bounds that settings give.
#[allow(clippy::cast_precision_loss, reason = "bounds are far below 2^53")]
fn show_bounds(connections: ConnectionSettings, ports_count: usize, deliveries_max: usize) {
    let connections_max = ports_count * connections.per_port_max + connections.operations_max;
    metrics::gauge!("efgs_connections_max").set(connections_max as f64);
    metrics::gauge!("efgs_callback_deliveries_in_flight_max").set(deliveries_max as f64);
}
