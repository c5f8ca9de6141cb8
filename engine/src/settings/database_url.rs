//! Which database, and how to reach it.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use percent_encoding::percent_decode_str;

/// Which database, and where: `sqlite:PATH` or `mysql://USER:PASSWORD@HOST:PORT/NAME`
/// (MariaDB, too; several hosts with commas between them, `%2FPATH` for a Unix socket).
#[derive(Clone, PartialEq, Eq)]
pub enum DatabaseUrl {
    /// A file, opened by this process.
    Sqlite(PathBuf),
    /// A MySQL-compatible server.
    Mysql(Box<ServerUrl>),
}

/// A MySQL-compatible server, or the nodes of a cluster, and how to log in there. TLS and the file of
/// the password are options behind the `?` of the URL: `tls_ca`, `tls_certificate`, `tls_key`,
/// `password_file`.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    /// Without these options: as the driver reads it, but for the hosts.
    address: String,
    /// TLS to the server, which is then never talked to without; not on Unix sockets.
    pub tls: Option<ServerTls>,
    /// File of the user's password, if it is not in the address.
    pub password_file: Option<PathBuf>,
}

/// How a server proves who it is, and the gateway to it. Files are read for each connection.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerTls {
    /// PEM of the authorities that may vouch for the server.
    pub ca: PathBuf,
    /// With what the gateway identifies itself.
    pub identity: Option<ClientIdentity>,
}

/// A certificate and its key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientIdentity {
    /// PEM of the certificate, followed by its intermediates.
    pub certificate: PathBuf,
    /// PEM of its private key.
    pub key: PathBuf,
}

/// The text names no database that the gateway can use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// It is of another form.
    #[error("the database must be sqlite:PATH or mysql://USER:PASSWORD@HOST:PORT/NAME")]
    Form,
    /// An option that is not known, or would weaken TLS.
    #[error(
        "options of a database's URL are tls_ca, tls_certificate, tls_key, password_file, socket, \
         compress, tcp_keepalive_time_ms, tcp_keepalive_probe_interval_secs, tcp_keepalive_probe_count \
         and tcp_user_timeout_ms"
    )]
    UnknownOption,
    /// A client certificate without its key, or without TLS.
    #[error("tls_certificate and tls_key belong together, and to tls_ca")]
    IncompleteTls,
    /// In the address and in a file.
    #[error("the database's password is either in the URL or in password_file")]
    TwoPasswords,
}

/// Those of the driver that are passed on to it. None of those of TLS: they can turn its checks off.
const DRIVER_OPTIONS: [&str; 6] = [
    "socket",
    "compress",
    "tcp_keepalive_time_ms",
    "tcp_keepalive_probe_interval_secs",
    "tcp_keepalive_probe_count",
    "tcp_user_timeout_ms",
];

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, DatabaseUrlError> {
        // A secret's file ends with a line feed.
        let text = text.trim();
        match text.split_once(':') {
            Some(("sqlite", path)) if !path.is_empty() => Ok(Self::Sqlite(path.into())),
            Some(("mysql", rest)) if rest.starts_with("//") && has_database(rest) => {
                Ok(Self::Mysql(Box::new(ServerUrl::read(text)?)))
            }
            _ => Err(DatabaseUrlError::Form),
        }
    }
}

impl ServerUrl {
    fn read(text: &str) -> Result<Self, DatabaseUrlError> {
        let place = text.rfind('@').unwrap_or(0);
        let (address, options) = match text[place..].find('?') {
            Some(at) => (&text[..place + at], &text[place + at + 1..]),
            None => (text, ""),
        };
        let mut driver = Vec::new();
        let [mut ca, mut certificate, mut key, mut password_file] = [const { None }; 4];
        for option in options.split('&').filter(|option| !option.is_empty()) {
            let (name, value) = option.split_once('=').unwrap_or((option, ""));
            let path = || {
                Some(PathBuf::from(
                    &*percent_decode_str(value).decode_utf8_lossy(),
                ))
            };
            match name {
                "tls_ca" => ca = path(),
                "tls_certificate" => certificate = path(),
                "tls_key" => key = path(),
                "password_file" => password_file = path(),
                name if DRIVER_OPTIONS.contains(&name) => driver.push(option),
                _ => return Err(DatabaseUrlError::UnknownOption),
            }
        }
        let mark = if driver.is_empty() { "" } else { "?" };
        Self {
            address: format!("{address}{mark}{}", driver.join("&")),
            tls: ServerTls::of(ca, certificate, key)?,
            password_file,
        }
        .checked()
    }

    /// The address without TLS and password file; it may hold the password.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The same, unless it has two passwords.
    ///
    /// # Errors
    /// [`DatabaseUrlError::TwoPasswords`].
    pub fn checked(self) -> Result<Self, DatabaseUrlError> {
        match self.password_file.is_some() && self.has_password() {
            true => Err(DatabaseUrlError::TwoPasswords),
            false => Ok(self),
        }
    }

    /// Whether the password is in the address.
    pub fn has_password(&self) -> bool {
        let rest = self.address.split_once("://").map(|(_, rest)| rest);
        let user = rest.and_then(|rest| rest.rsplit_once('@'));
        user.is_some_and(|(user, _)| user.contains(':'))
    }
}

impl ServerTls {
    /// TLS as far as it is given.
    ///
    /// # Errors
    /// [`DatabaseUrlError::IncompleteTls`].
    pub fn of(
        ca: Option<PathBuf>,
        certificate: Option<PathBuf>,
        key: Option<PathBuf>,
    ) -> Result<Option<Self>, DatabaseUrlError> {
        let identity = match (certificate, key) {
            (Some(certificate), Some(key)) => Some(ClientIdentity { certificate, key }),
            (None, None) => None,
            _ => return Err(DatabaseUrlError::IncompleteTls),
        };
        match (ca, identity) {
            (Some(ca), identity) => Ok(Some(Self { ca, identity })),
            (None, None) => Ok(None),
            (None, Some(_)) => Err(DatabaseUrlError::IncompleteTls),
        }
    }
}

/// Whether a URL names a database behind its host: without one, a connection works, and nothing else.
fn has_database(url: &str) -> bool {
    let place = url.rsplit_once('@').map_or(url, |(_, place)| place);
    let place = place.split('?').next().unwrap_or(place);
    let name = place.trim_start_matches('/').split_once('/');
    name.is_some_and(|(_, name)| !name.is_empty())
}

/// Without the password.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Sqlite(path) => write!(f, "sqlite:{}", path.display()),
            Self::Mysql(server) => server.fmt(f),
        }
    }
}

/// Without the password.
impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.address.rsplit_once('@') {
            Some((_, place)) => {
                let place = place.split('?').next().unwrap_or(place);
                write!(f, "mysql://…@{place}")
            }
            None => f.write_str("mysql://…"),
        }
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn never_shows_a_password() {
        let url: DatabaseUrl = "mysql://efgs:s3cr@t@db:3306/efgs?socket=/x"
            .parse()
            .unwrap();
        assert_eq!(
            format!("{url} {url:?}"),
            "mysql://…@db:3306/efgs mysql://…@db:3306/efgs"
        );
    }

    #[test]
    fn refuses_other_databases() {
        for text in [
            "",
            "sqlite:",
            "postgres://x/y",
            "mysql:x",
            "mysql://u:p@h:3306",
            "mysql://u:p@h:3306/",
            "mysql://u:p/x@h?socket=/y",
            "mysql://h",
        ] {
            let read = text.parse::<DatabaseUrl>();
            assert_eq!(read, Err(DatabaseUrlError::Form), "{text:?}");
        }
    }

    fn server(text: &str) -> Result<ServerUrl, DatabaseUrlError> {
        match text.parse()? {
            DatabaseUrl::Mysql(server) => Ok(*server),
            DatabaseUrl::Sqlite(_) => panic!("{text} is no file"),
        }
    }

    #[test]
    fn reads_tls_and_the_password_file_from_the_options() {
        let url = "mysql://u@a,b:3/n?tls_ca=/c%20a&compress=fast&tls_certificate=c&tls_key=k&password_file=p";
        let tls = ServerTls {
            ca: "/c a".into(),
            identity: Some(ClientIdentity {
                certificate: "c".into(),
                key: "k".into(),
            }),
        };
        let read = ServerUrl {
            address: "mysql://u@a,b:3/n?compress=fast".to_owned(),
            tls: Some(tls),
            password_file: Some("p".into()),
        };
        assert_eq!(server(url), Ok(read));
        let plain = server("mysql://u:p?x@a/n?socket=/s").unwrap();
        assert_eq!(plain.address, "mysql://u:p?x@a/n?socket=/s");
        assert_eq!((plain.tls, plain.password_file), (None, None));
    }

    #[test]
    fn refuses_options_that_contradict_one_another_or_weaken_tls() {
        use DatabaseUrlError::{IncompleteTls, TwoPasswords, UnknownOption};
        for (options, error) in [
            ("tls_certificate=c&tls_key=k", IncompleteTls),
            ("tls_ca=a&tls_certificate=c", IncompleteTls),
            ("tls_ca=a&tls_key=k", IncompleteTls),
            ("password_file=p", TwoPasswords),
            ("danger_accept_invalid_certs=true", UnknownOption),
            ("tls_ca=a&danger_skip_domain_validation=true", UnknownOption),
            ("root_cert_path=/x", UnknownOption),
            ("enable_cleartext_plugin=true", UnknownOption),
            ("secure_auth=false", UnknownOption),
            ("require_ssl=true", UnknownOption),
        ] {
            let read = server(&format!("mysql://u:p@h/n?{options}"));
            assert_eq!(read, Err(error), "{options}");
        }
    }
}
