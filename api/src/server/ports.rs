//! The sockets that the server listens on.

use std::io;
use std::net::SocketAddr;

use tokio::net::{TcpListener, TcpSocket};

use super::error::ServeError;
use super::settings::ServerSettings;
use crate::settings::ProxySocket;

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

/// A port that is ours. Connections to it are refused until it listens.
pub(super) struct Port {
    role: &'static str,
    address: SocketAddr,
    socket: TcpSocket,
}

/// All ports, taken before anything is served: one that is in use is reported at once, not after the
/// start of the engine.
pub(super) struct Ports {
    pub(super) public: Option<Port>,
    pub(super) proxy: Option<Port>,
    /// It is made when it is to be listened on.
    pub(super) proxy_socket: Option<ProxySocket>,
    pub(super) operations: Option<Port>,
}

impl Ports {
    pub(super) fn bind(settings: &ServerSettings) -> Result<Self, ServeError> {
        let bind = |role, address: Option<SocketAddr>| {
            address.map(|address| Port::bind(role, address)).transpose()
        };
        let proxy = settings.proxy.as_ref();
        Ok(Self {
            public: bind("public", settings.public_listen)?,
            proxy: bind("proxy", proxy.and_then(|proxy| proxy.listen))?,
            proxy_socket: proxy.and_then(|proxy| proxy.socket.clone()),
            operations: bind("operations", settings.operations_listen)?,
        })
    }

    /// Why ports cannot be listened on: each of them.
    pub(super) fn refused(settings: &ServerSettings) -> Vec<ServeError> {
        let proxy = settings.proxy.as_ref().and_then(|proxy| proxy.listen);
        let roles = [
            ("public", settings.public_listen),
            ("proxy", proxy),
            ("operations", settings.operations_listen),
        ];
        let addresses = roles.into_iter();
        let addresses = addresses.filter_map(|(role, address)| Some((role, address?)));
        // Held open, so that two roles cannot have the same.
        let mut taken = Vec::new();
        let mut refused = Vec::new();
        for (role, address) in addresses {
            match Port::bind(role, address).and_then(Port::listen) {
                Ok(listener) => taken.push(listener),
                Err(error) => refused.push(error),
            }
        }
        refused
    }

    pub(super) fn addresses(&self) -> BoundAddresses {
        let address = |port: &Option<Port>| port.as_ref().map(|port| port.address);
        BoundAddresses {
            public: address(&self.public),
            proxy: address(&self.proxy),
            operations: address(&self.operations),
        }
    }
}

/// Connections that wait to be accepted.
const BACKLOG: u32 = 1024;

impl Port {
    fn bind(role: &'static str, address: SocketAddr) -> Result<Self, ServeError> {
        let bind = || {
            let socket = match address {
                SocketAddr::V4(_) => TcpSocket::new_v4()?,
                SocketAddr::V6(_) => TcpSocket::new_v6()?,
            };
            socket.set_reuseaddr(true)?;
            socket.bind(address)?;
            Ok((socket.local_addr()?, socket))
        };
        let (address, socket) = bind().map_err(|error| refused(role, address, error))?;
        Ok(Self {
            role,
            address,
            socket,
        })
    }

    /// Connections are accepted from now on.
    pub(super) fn listen(self) -> Result<TcpListener, ServeError> {
        let Self {
            role,
            address,
            socket,
        } = self;
        let listener = socket.listen(BACKLOG);
        let listener = listener.map_err(|error| refused(role, address, error))?;
        tracing::info!(role, %address, "listening");
        Ok(listener)
    }
}

fn refused(role: &'static str, address: SocketAddr, source: io::Error) -> ServeError {
    match source.kind() {
        io::ErrorKind::AddrInUse => ServeError::PortInUse { role, address },
        _ => ServeError::Listen {
            role,
            address,
            source,
        },
    }
}
