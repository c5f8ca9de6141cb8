//! The sockets that the server listens on.

use std::io;
use std::net::SocketAddr;

use tokio::net::TcpListener;

use super::error::ServeError;
use super::settings::ServerSettings;

/// The actual addresses: port 0 in the settings becomes a free one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BoundAddresses {
    /// Mutual TLS.
    pub public: Option<SocketAddr>,
    /// Behind a proxy.
    pub proxy: Option<SocketAddr>,
    /// Operations.
    pub operations: Option<SocketAddr>,
}

/// All sockets, bound before anything is served.
pub(super) struct Ports {
    pub(super) public: Option<TcpListener>,
    pub(super) proxy: Option<TcpListener>,
    pub(super) operations: Option<TcpListener>,
}

impl Ports {
    pub(super) async fn bind(settings: &ServerSettings) -> Result<Self, ServeError> {
        let proxy = settings.proxy.as_ref().map(|proxy| proxy.listen);
        Ok(Self {
            public: bind("public", settings.public_listen).await?,
            proxy: bind("proxy", proxy).await?,
            operations: bind("operations", settings.operations_listen).await?,
        })
    }

    pub(super) fn addresses(&self) -> BoundAddresses {
        let address = |socket: &Option<TcpListener>| socket.as_ref()?.local_addr().ok();
        BoundAddresses {
            public: address(&self.public),
            proxy: address(&self.proxy),
            operations: address(&self.operations),
        }
    }
}

async fn bind(
    role: &'static str,
    address: Option<SocketAddr>,
) -> Result<Option<TcpListener>, ServeError> {
    let Some(address) = address else {
        return Ok(None);
    };
    let socket = TcpListener::bind(address)
        .await
        .map_err(|source| match source.kind() {
            io::ErrorKind::AddrInUse => ServeError::PortInUse { role, address },
            _ => ServeError::Listen {
                role,
                address,
                source,
            },
        })?;
    let address = socket.local_addr().unwrap_or(address);
    tracing::info!(role, %address, "listening");
    Ok(Some(socket))
}
