//! Why a request failed.

use std::path::PathBuf;
use std::time::Duration;

use rustls_pki_types::pem;
use testkit::target::Target;

/// Why a request got no response.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {target}")]
    Connect {
        /// The address.
        target: Target,
        /// The cause.
        source: std::io::Error,
    },
    /// The connection broke, or the response was not HTTP.
    #[error("request failed")]
    Http(#[from] hyper::Error),
    /// The response body was cut off or too large.
    #[error("reading the response failed")]
    Body(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// No response in time.
    #[error("no response within {0:?}")]
    Timeout(Duration),
}

/// Why a client cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// rustls refuses the certificates.
    #[error("TLS")]
    Tls(#[from] rustls::Error),
    /// A PEM file cannot be read.
    #[error("cannot read {path}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Not two letters.
    #[error("{0:?} is no country of two letters")]
    Country(String),
}
