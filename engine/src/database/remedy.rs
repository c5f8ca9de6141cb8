//! What to do about a database that cannot be opened.

use crate::settings::{DatabaseUrl, ServerUrl};

/// By what the server, the driver or SQLite said.
pub(super) fn remedy(url: &DatabaseUrl, said: &str) -> &'static str {
    let (known, otherwise) = match url {
        DatabaseUrl::Sqlite(_) => (
            SQLITE,
            "check [database] url, its disk, and who may write there",
        ),
        DatabaseUrl::Mysql(server) => {
            if said.contains(ACCESS_DENIED) {
                return of_access_denied(server);
            }
            (SERVER, "check [database] url and that the server runs")
        }
    };
    let mut known = known.iter().filter(|(sign, _)| said.contains(sign));
    known.next().map_or(otherwise, |(_, remedy)| remedy)
}

const SQLITE: &[(&str, &str)] = &[
    (
        "unable to open database file",
        "the folder in [database] url must exist, and the gateway's user must be able to write there",
    ),
    (
        "readonly database",
        "the gateway's user must be able to write the file in [database] url, and its folder",
    ),
    (
        "not a database",
        "the file in [database] url is something else: name another",
    ),
];

const ACCESS_DENIED: &str = "ERROR 1045";

/// The server says the same of a wrong password and of an account that requires what it was not given.
const fn of_access_denied(server: &ServerUrl) -> &'static str {
    match &server.tls {
        None => {
            "the user or the password in [database] url is wrong, the user may not come from this host, or \
             only with TLS: then set [database] tls_ca"
        }
        Some(tls) if tls.identity.is_none() => {
            "the user or the password in [database] url is wrong, the user may not come from this host, or \
             only with a certificate: then set [database] tls_certificate and tls_key"
        }
        Some(_) => {
            "the user or the password in [database] url is wrong, or the user may not come from this host \
             or not with the certificate in [database] tls_certificate"
        }
    }
}

const SERVER: &[(&str, &str)] = &[
    (
        "insecure transport",
        "the server requires TLS: set [database] tls_ca to the authority that vouches for it",
    ),
    (
        "TLS is asked for",
        "set up TLS on the server; only if the network in between is trusted, leave [database] tls_ca out",
    ),
    (
        "caching_sha2_password",
        "set [database] tls_ca, or name the server's Unix socket in [database] url",
    ),
    (
        "UnknownIssuer",
        "[database] tls_ca must be the authority that issued the server's certificate; if it is, \
         something else answers in the server's place",
    ),
    (
        "not valid for name",
        "the server's certificate must be for the host as [database] url names it: correct one of them",
    ),
    (
        "certificate expired",
        "renew the server's certificate, or set this machine's clock",
    ),
    (
        "invalid peer certificate",
        "the server needs a certificate that [database] tls_ca vouches for, for the host in [database] url",
    ),
    (
        "received fatal alert",
        "the server does not take the gateway's certificate: look at [database] tls_certificate, and \
         at the authority that the server trusts (ssl_ca)",
    ),
    (
        "ERROR 1049",
        "make this database on the server first, or correct its name in [database] url",
    ),
    (
        "ERROR 1044",
        "grant the user in [database] url all rights on this database",
    ),
    (
        "password file",
        "[database] password_file must name a file that the gateway's user can read",
    ),
];
