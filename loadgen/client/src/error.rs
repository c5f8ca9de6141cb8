//! Why there is no answer.

use std::time::Duration;

use testkit::target::Target;

/// Why a request got no answer.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// No connection.
    #[error("cannot connect to {target}: {source}")]
    Connect {
        /// Where to.
        target: Target,
        /// Why.
        source: std::io::Error,
    },
    /// The connection broke, or the answer was no HTTP.
    #[error("request failed: {0}")]
    Http(#[from] hyper::Error),
    /// The answer's body broke off or was too large.
    #[error("answer failed: {0}")]
    Body(Box<dyn std::error::Error + Send + Sync>),
    /// No answer in time.
    #[error("no answer within {0:?}")]
    Timeout(Duration),
}

/// Why no client can be made.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    /// rustls refuses the certificates.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}
