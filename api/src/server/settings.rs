//! What the server needs to know.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use engine::settings::DatabaseUrl;
use tokio::sync::watch;

use crate::delivery::{Resolve, SystemResolver};
use crate::settings::{CallbackSettings, ConnectionSettings, Network, ProxySettings, Settings};
use crate::tls::TlsSettings;

/// Where to listen, and every bound.
#[derive(Debug, Clone)]
pub struct ServerSettings {
    /// Address of the public port: mutual TLS. Needs `tls`.
    pub public_listen: Option<SocketAddr>,
    /// Load balancers whose connections to the public port begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<Network>,
    /// The gateway's certificate and key.
    pub tls: Option<TlsSettings>,
    /// Certificates and keys that take the place of `tls` while the server runs, the newest one.
    pub renewed_tls: Option<watch::Receiver<TlsSettings>>,
    /// The same for the certificate and key that callbacks are sent with.
    pub renewed_callback_identity: Option<watch::Receiver<TlsSettings>>,
    /// Plain HTTP behind a proxy that terminates TLS.
    pub proxy: Option<ProxySettings>,
    /// Address of health, readiness, metrics and console, which need no authentication.
    pub operations_listen: Option<SocketAddr>,
    /// Callbacks.
    pub callback: CallbackSettings,
    /// Resolves the hosts of callback URLs.
    pub resolver: Arc<dyn Resolve>,
    /// Open connections.
    pub connections: ConnectionSettings,
    /// Largest upload body, in bytes.
    pub body_bytes_max: usize,
    /// How long to wait for bytes that are due from a peer.
    pub stall_timeout: Duration,
    /// Keep-alive of a participant's connection between requests.
    pub idle_timeout: Duration,
    /// How long requests in flight may take to finish during a shutdown.
    pub shutdown_timeout: Duration,
    /// Whether participants are shown the API description on their ports.
    pub describes_api: bool,
    /// Names under which operators reach their port, beside addresses and names without a dot.
    pub operations_hosts: Vec<String>,
    /// The gateway's name; without one, that of the machine with a port.
    pub gateway_name: Option<String>,
    /// The SQLite database, whose disk is watched.
    pub sqlite: Option<PathBuf>,
    /// Whether this is a practice gateway, as `/ready` and `/status` show it.
    pub practice: bool,
    /// What an operator should see to, as `/ready` and `/status` show it.
    pub warnings: Vec<String>,
}

impl Default for ServerSettings {
    /// No listener yet; every bound at its default.
    fn default() -> Self {
        Self {
            public_listen: None,
            proxy_protocol_from: Vec::new(),
            tls: None,
            renewed_tls: None,
            renewed_callback_identity: None,
            proxy: None,
            operations_listen: None,
            callback: CallbackSettings::default(),
            resolver: Arc::new(SystemResolver),
            connections: ConnectionSettings::default(),
            body_bytes_max: engine::limits::UPLOAD_BODY_BYTES_MAX,
            stall_timeout: STALL_TIMEOUT,
            idle_timeout: IDLE_TIMEOUT,
            shutdown_timeout: SHUTDOWN_TIMEOUT,
            describes_api: true,
            operations_hosts: Vec::new(),
            gateway_name: None,
            sqlite: None,
            practice: false,
            warnings: Vec::new(),
        }
    }
}

impl From<&Settings> for ServerSettings {
    fn from(settings: &Settings) -> Self {
        let public = settings.public.as_ref();
        Self {
            public_listen: public.map(|public| public.listen),
            proxy_protocol_from: public
                .map_or_else(Vec::new, |public| public.proxy_protocol_from.clone()),
            tls: public.map(|public| public.tls.clone()),
            proxy: settings.proxy.clone(),
            operations_listen: settings.operations_listen,
            callback: settings.callback.clone(),
            connections: settings.connections,
            body_bytes_max: settings.engine.upload.body_bytes_max,
            describes_api: settings.describes_api,
            operations_hosts: settings.operations_hosts.clone(),
            gateway_name: settings.gateway_name.clone(),
            sqlite: match &settings.engine.database {
                DatabaseUrl::Sqlite(path) => Some(path.clone()),
                DatabaseUrl::Mysql(_) => None,
            },
            practice: settings.practice.is_some(),
            warnings: settings.warnings.clone(),
            ..Self::default()
        }
    }
}

/// A stalled client is disconnected within 10 s (decision 14): this and an eighth of it.
const STALL_TIMEOUT: Duration = Duration::from_secs(8);
/// As in common proxies and servers. Only after authentication, and for operators.
const IDLE_TIMEOUT: Duration = Duration::from_secs(75);
/// The slowest upload takes a commit and its wait, well under this.
const SHUTDOWN_TIMEOUT: Duration = Duration::from_secs(10);
