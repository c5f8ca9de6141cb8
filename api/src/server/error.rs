//! Why the server does not start.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;

use crate::delivery::DeliveryTlsError;
use crate::tls::TlsError;

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
    #[error("[public] certificate and private_key cannot be used")]
    Tls(#[from] TlsError),
    /// The certificates for callbacks cannot be used.
    #[error(transparent)]
    Callback(#[from] DeliveryTlsError),
    /// The certificate or key that callbacks are sent with cannot be used.
    #[error("[callback] certificate and private_key cannot be used")]
    CallbackIdentity(#[source] TlsError),
    /// Identity headers would be trusted from anyone.
    #[error(
        "[proxy] listen = {0} can be reached from other machines, and anyone who reaches it may claim \
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
    #[error("cannot listen on the {role} port {address}: set another [{role}] listen")]
    Listen {
        /// Which port.
        role: &'static str,
        /// Its address.
        address: SocketAddr,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// Another process listens on the proxy's socket.
    #[error("another process listens on {0}: stop it, or set another [proxy] socket")]
    SocketInUse(PathBuf),
    /// The proxy's socket cannot be made for another reason.
    #[error(
        "cannot listen on {path}: set another [proxy] socket, in a folder of the gateway's user"
    )]
    Socket {
        /// Its name.
        path: PathBuf,
        /// What the operating system said.
        #[source]
        source: io::Error,
    },
    /// The limit on open files leaves too few connections.
    #[error(
        "at most {limit} files may be open, and the gateway needs {needed}: raise the limit \
         (`ulimit -n`, `LimitNOFILE`)"
    )]
    TooFewFiles {
        /// The limit.
        limit: usize,
        /// What the fewest connections need.
        needed: usize,
    },
    /// The metrics of this process have another recorder.
    #[error("metrics cannot be collected: {0}")]
    Metrics(String),
    /// The HTTP library does not preserve header case; our tests would show it first.
    #[error("cannot control the case of header names")]
    HeaderCase(#[source] io::Error),
}
