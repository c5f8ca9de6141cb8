//! Logging in at a host: TLS, and a password that may change while the gateway runs.

use std::io::ErrorKind;
use std::path::PathBuf;
use std::sync::Arc;

use mysql::{ClientIdentity, Conn, Error, Opts, OptsBuilder, SslOpts};

use super::super::connection::SqlError;
use super::super::password_file::PasswordFile;
use super::errors::classify_error;
use super::panics::{panicked, without_panic};
use crate::settings::ServerTls;

// The driver trusts these beside the CA that it is given: the product's stub of the crate has none.
const _: () = assert!(
    webpki_roots::TLS_SERVER_ROOTS.is_empty(),
    "[patch.crates-io] in Cargo.toml must name engine/driver-stubs/webpki-roots"
);

/// How to log in at one host.
#[derive(Debug)]
pub(in crate::database) struct Login {
    /// `mysql://USER:PASSWORD@HOST:PORT/NAME?OPTION=VALUE`
    url: String,
    tls: Option<ServerTls>,
    password: Option<Arc<PasswordFile>>,
}

/// A path that no file has. The driver encrypts a password for `caching_sha2_password` with the key in
/// this file, if there is no TLS; without a path it would ask the server for a key, and whoever
/// answers in the server's place could read the password.
const NO_SERVER_KEY: &str = "\0";
const NEEDS_TLS: &str = "the server asks for the password, which caching_sha2_password hands over \
     safely only with TLS or through a Unix socket";

const NO_TLS: &str = "TLS is asked for, and the server has none: the login was not begun";

impl Login {
    pub(in crate::database) const fn new(
        url: String,
        tls: Option<ServerTls>,
        password: Option<Arc<PasswordFile>>,
    ) -> Self {
        Self { url, tls, password }
    }

    /// The host without user and password.
    pub(in crate::database) fn place(&self) -> &str {
        let place = self.url.rsplit('@').next().unwrap_or(&self.url);
        place.split('/').next().unwrap_or(place)
    }

    /// Connects and logs in, with the session that `session` describes.
    pub(super) fn open(
        &self,
        session: impl FnOnce(OptsBuilder) -> OptsBuilder,
    ) -> Result<Conn, SqlError> {
        let opts = Opts::from_url(&self.url).map_err(|error| SqlError::Refused(error.into()))?;
        let opts = OptsBuilder::from_opts(opts)
            .ssl_opts(self.tls.as_ref().map(verified))
            .server_key_path(Some(PathBuf::from(NO_SERVER_KEY)));
        let opts = session(opts);
        match &self.password {
            None => self.connect(opts).map_err(|error| self.explain(error)),
            Some(file) => self.connect_by_file(&opts, file),
        }
    }

    fn connect_by_file(&self, opts: &OptsBuilder, file: &PasswordFile) -> Result<Conn, SqlError> {
        let passwords = file.candidates().map_err(SqlError::Lost)?;
        let mut denied = None;
        for password in passwords {
            match self.connect(opts.clone().pass(Some(password.clone()))) {
                Ok(connection) => {
                    file.accepted(password);
                    return Ok(connection);
                }
                Err(error) if is_denied(&error) => {
                    denied.get_or_insert(error);
                }
                Err(error) => return Err(self.explain(error)),
            }
        }
        let denied = denied.unwrap_or_else(panicked);
        Err(self.explain(denied))
    }

    fn connect(&self, opts: OptsBuilder) -> Result<Conn, Error> {
        without_panic(|| Conn::new(opts)).unwrap_or_else(|| Err(panicked()))
    }

    /// What refuses a login may be corrected while the gateway runs: connections are tried again until
    /// then.
    fn explain(&self, error: Error) -> SqlError {
        let lost = |why: &str| SqlError::Lost(why.into());
        match &error {
            Error::DriverError(mysql::DriverError::TlsNotSupported) => lost(NO_TLS),
            Error::IoError(io) if io.kind() == ErrorKind::InvalidInput && self.tls.is_none() => {
                lost(NEEDS_TLS)
            }
            _ => match classify_error(error) {
                SqlError::Refused(why) => SqlError::Lost(why),
                other => other,
            },
        }
    }
}

/// The chain must end at the CA, and the certificate must be for the host as it is written in the
/// address: the driver checks both unless it is told not to.
fn verified(tls: &ServerTls) -> SslOpts {
    let identity = tls
        .identity
        .as_ref()
        .map(|identity| ClientIdentity::new(identity.certificate.clone(), identity.key.clone()));
    SslOpts::default()
        .with_root_cert_path(Some(tls.ca.clone()))
        .with_client_identity(identity)
}

/// The user or the password is wrong, as far as the server says.
fn is_denied(error: &Error) -> bool {
    const ACCESS_DENIED: u16 = 1045;
    matches!(error, Error::MySqlError(server) if server.code == ACCESS_DENIED)
}
