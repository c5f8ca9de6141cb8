//! What the server needs to know.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use crate::delivery::{Resolve, SystemResolver};
use crate::settings::{CallbackSettings, ProxySettings, Settings};
use crate::tls::TlsSettings;

/// Where to listen, and every bound.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Address of the public port: mutual TLS. Needs `tls`.
    pub public_listen: Option<SocketAddr>,
    /// The gateway's certificate and key.
    pub tls: Option<TlsSettings>,
    /// Certificates and keys that take the place of `tls` while the server runs, the newest one.
    pub renewed_tls: Option<watch::Receiver<TlsSettings>>,
    /// Plain HTTP behind a proxy that terminates TLS.
    pub proxy: Option<ProxySettings>,
    /// Address of health, readiness, metrics and dashboard, which need no authentication.
    pub operations_listen: Option<SocketAddr>,
    /// Callbacks.
    pub callback: CallbackSettings,
    /// Resolves the hosts of callback URLs.
    pub resolver: Arc<dyn Resolve>,
    /// Open connections, per port (public and proxy).
    pub connections_max: usize,
    /// Largest upload body, in bytes.
    pub body_bytes_max: usize,
    /// How long to wait for bytes that are due from a peer.
    pub stall_timeout: Duration,
    /// Keep-alive of a participant's connection between requests.
    pub idle_timeout: Duration,
    /// How long requests in flight may take to finish during a shutdown.
    pub shutdown_timeout: Duration,
}

impl Default for ServerSettings {
    /// No listener yet; every bound at its default.
    fn default() -> Self {
        Self {
            public_listen: None,
            tls: None,
            renewed_tls: None,
            proxy: None,
            operations_listen: None,
            callback: CallbackSettings::default(),
            resolver: Arc::new(SystemResolver::default()),
            connections_max: CONNECTIONS_MAX,
            body_bytes_max: engine::limits::UPLOAD_BODY_BYTES_MAX,
            stall_timeout: STALL_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
        }
    }
}

impl From<&Settings> for ServerSettings {
    fn from(settings: &Settings) -> Self {
        let public = settings.public.as_ref();
        Self {
            public_listen: public.map(|public| public.listen),
            tls: public.map(|public| public.tls.clone()),
            proxy: settings.proxy.clone(),
            operations_listen: settings.operations_listen,
            callback: settings.callback.clone(),
            body_bytes_max: settings.engine.upload.body_bytes_max,
            ..Self::default()
        }
    }
}

/// Connections of a port. Each usually holds about 60 KiB of buffers, at most 416 KiB over HTTP/1
/// and 1.2 MiB over HTTP/2, whose window is 1 MiB; 27 participants with a dozen connections each
/// stay far below.
const CONNECTIONS_MAX: usize = 1024;
/// A stalled client is disconnected within 10 s (decision 14): this and an eighth of it.
const STALL_TIMEOUT: Duration = Duration::from_secs(8);
/// As in common proxies and servers. Only after authentication, and for operators.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// The slowest upload takes a commit and its wait, well under this.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
