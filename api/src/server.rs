//! The running server: its listeners, its state, its graceful shutdown.

mod error;
mod listener;
mod ports;
mod settings;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use engine::{Clock, Engine};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::connection::Connections;
use crate::delivery::{Dispatcher, UrlPolicy};
use crate::gateway::Gateway;
use crate::header_case::HeaderCase;
use crate::operations;
use crate::participant::ProxyTrust;
use crate::router::Routes;
use crate::settings::ProxySettings;
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

/// Connections of the operations port.
const OPERATIONS_CONNECTIONS_MAX: usize = 64;

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
        connections_max: settings.connections_max,
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
    connections_max: usize,
}

impl Services {
    /// Starts a listener for every open port.
    ///
    /// Consumes the services: whoever holds routes holds a shutdown receiver, which [`finish`] waits
    /// for.
    fn listen(
        self,
        ports: Ports,
        tls: Option<Arc<rustls::ServerConfig>>,
        shutdown: &watch::Receiver<bool>,
    ) {
        if let (Some(socket), Some(tls)) = (ports.public, tls) {
            let protocol = Protocol::MutualTls(TlsAcceptor::from(tls));
            let listener = self.listener(protocol, &self.participants, self.connections_max);
            spawn(listener, socket, shutdown);
        }
        if let Some(socket) = ports.proxy {
            let listener = self.listener(Protocol::Proxy, &self.participants, self.connections_max);
            spawn(listener, socket, shutdown);
        }
        if let Some(socket) = ports.operations {
            let connections_max = OPERATIONS_CONNECTIONS_MAX;
            let listener = self.listener(Protocol::Operations, &self.operations, connections_max);
            spawn(listener, socket, shutdown);
        }
    }

    fn listener(&self, protocol: Protocol, routes: &Routes, connections_max: usize) -> Listener {
        Listener {
            protocol,
            routes: routes.clone(),
            connections: Arc::clone(&self.connections),
            permits: Arc::new(Semaphore::new(connections_max)),
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
