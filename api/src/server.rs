//! The running server: its listeners, its state, its graceful shutdown.

mod error;
mod listener;
mod open_files;
mod ports;
mod settings;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use engine::{Clock, Engine};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_rustls::TlsAcceptor;

use crate::connection::Connections;
use crate::delivery::{Dispatcher, UrlPolicy};
use crate::gateway::Gateway;
use crate::header_case::HeaderCase;
use crate::operations;
use crate::participant::ProxyTrust;
use crate::router::Routes;
use crate::settings::{ConnectionSettings, ProxySettings};
use crate::slots::{SlotLimits, Slots};
use crate::timeouts::Timeouts;
use crate::tls::{self, ServerCertificate};
use crate::url_checks::UrlChecks;

use listener::{Listener, Protocol};
use ports::Ports;

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
    let certificate = public_certificate(&settings)?;
    let tls = certificate
        .clone()
        .map(tls::server_config)
        .transpose()?
        .map(Arc::new);
    let proxy_trust = settings.proxy.as_ref().map(proxy_trust).transpose()?;
    let url_policy = UrlPolicy::new(&settings.callback, Arc::clone(&settings.resolver));
    let url_policy = Arc::new(url_policy);
    let dispatcher = Arc::new(Dispatcher::new(
        Arc::clone(&engine),
        Arc::clone(&clock),
        Arc::clone(&url_policy),
        settings.callback.clone(),
    )?);
    let ports = Ports::bind(&settings).await?;
    let addresses = ports.addresses();
    let metrics = operations::Metrics::install().map_err(ServeError::Metrics)?;
    let header_case = HeaderCase::from_hyper()
        .await
        .map_err(ServeError::HeaderCase)?;
    let timeouts = Timeouts::new(settings.stall_timeout, settings.idle_timeout);
    let (shutdown_sender, shutdown_receiver) = watch::channel(false);

    let gateway = Arc::new(Gateway {
        engine: Arc::clone(&engine),
        clock,
        proxy_trust,
        url_checks: UrlChecks::new(url_policy),
        body_bytes_max: settings.body_bytes_max,
        timeouts,
    });
    let delivers = dispatcher.delivers();
    let services = Services {
        participants: Routes::Participants(gateway),
        operations: Routes::Operations(operations::routes(
            engine,
            metrics.clone(),
            shutdown_receiver.clone(),
            delivers,
        )),
        connections: Arc::new(Connections::new(header_case, timeouts)),
        slots: connection_limits(&settings)?,
    };
    services.listen(ports, tls, &shutdown_receiver);
    if let (Some(certificate), Some(renewed)) = (certificate, settings.renewed_tls) {
        tokio::spawn(renew(certificate, renewed));
    }
    tokio::spawn(dispatcher.run(shutdown_receiver.clone()));
    tokio::spawn(metrics.upkeep(shutdown_receiver));
    bound(&addresses);
    shutdown.await;
    tracing::info!("shutting down: no new connections, finishing requests in flight");
    finish(shutdown_sender, settings.shutdown_timeout).await;
    Ok(())
}

/// What is behind the ports.
struct Services {
    participants: Routes,
    operations: Routes,
    connections: Arc<Connections>,
    slots: ConnectionSettings,
}

impl Services {
    /// Starts a listener for every open port.
    ///
    /// Consumes the services: every holder of routes holds a shutdown receiver, for which [`finish`]
    /// waits.
    fn listen(
        self,
        ports: Ports,
        tls: Option<Arc<rustls::ServerConfig>>,
        shutdown: &watch::Receiver<bool>,
    ) {
        if let (Some(socket), Some(tls)) = (ports.public, tls) {
            let protocol = Protocol::MutualTls(TlsAcceptor::from(tls));
            let slots = Slots::new("public", self.participant_slots());
            spawn(
                self.listener(protocol, &self.participants, slots),
                socket,
                shutdown,
            );
        }
        if let Some(socket) = ports.proxy {
            let slots = Slots::new("proxy", self.participant_slots());
            let listener = self.listener(Protocol::Proxy, &self.participants, slots);
            spawn(listener, socket, shutdown);
        }
        if let Some(socket) = ports.operations {
            let slots = Slots::new("operations", self.operations_slots());
            let listener = self.listener(Protocol::Operations, &self.operations, slots);
            spawn(listener, socket, shutdown);
        }
    }

    const fn participant_slots(&self) -> SlotLimits {
        SlotLimits {
            port_max: self.slots.per_port_max,
            participant_max: self.slots.per_participant_max,
            unidentified_max: self.slots.unidentified_max,
        }
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

fn spawn(listener: Listener, socket: TcpListener, shutdown: &watch::Receiver<bool>) {
    tokio::spawn(listener.run(socket, shutdown.clone()));
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
async fn renew(certificate: Arc<ServerCertificate>, mut renewed: watch::Receiver<TlsSettings>) {
    while renewed.changed().await.is_ok() {
        let settings = renewed.borrow_and_update().clone();
        match certificate.renew(&settings) {
            Ok(()) => tracing::info!("new handshakes are served the renewed TLS certificate"),
            Err(error) => tracing::error!(
                error = engine::chain(&error),
                "cannot use the renewed TLS certificate: the former one stays in use"
            ),
        }
    }
}

/// Raises the limit on open files, and returns the connection limits that it allows.
fn connection_limits(settings: &ServerSettings) -> Result<ConnectionSettings, ServeError> {
    let (wanted, deliveries_max) = (settings.connections, settings.callback.deliveries_max);
    let ports = [
        settings.public_listen,
        settings.proxy.as_ref().map(|proxy| proxy.listen),
    ];
    let ports_count = ports.into_iter().flatten().count();
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

fn public_certificate(
    settings: &ServerSettings,
) -> Result<Option<Arc<ServerCertificate>>, ServeError> {
    match (settings.public_listen, &settings.tls, &settings.proxy) {
        (None, _, None) => Err(ServeError::NoListener),
        (None, _, Some(_)) => Ok(None),
        (Some(_), None, _) => Err(ServeError::NoTls),
        (Some(_), Some(tls), _) => Ok(Some(Arc::new(ServerCertificate::new(tls)?))),
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
