//! `[database]`: where it is, and how to log in there.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The database.
#[derive(Default, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Database {
    /// sqlite:PATH, or mysql://USER:PASSWORD@HOST:PORT/NAME (MariaDB, too), which several gateways
    /// can share. Of a cluster name all nodes (HOST:PORT,HOST:PORT,…), in the same order for all
    /// gateways: the first that is good is used. %2Frun%2Fmysqld.sock for a Unix socket. Without
    /// `tls_ca` the connection to a server is not encrypted.
    #[schemars(extend("allowed" = "sqlite:PATH or mysql://USER:PASSWORD@HOST:PORT/NAME"))]
    pub(super) url: String,
    /// PEM file of the certificate authorities that may vouch for the server. With it, the gateway
    /// talks to the server with TLS only, and only if its certificate is for the host as it is written
    /// in the URL; public authorities do not count. Unix sockets are used as they are.
    #[schemars(extend("allowed" = "the PEM file of the authorities that vouch for the server"))]
    pub(super) tls_ca: PathBuf,
    /// PEM file of the certificate by which the server knows the gateway, if it asks for one, followed
    /// by intermediate certificates.
    #[schemars(extend("allowed" = "the PEM file of the gateway's certificate for the server"))]
    pub(super) tls_certificate: PathBuf,
    /// PEM file of that certificate's private key.
    #[schemars(extend("allowed" = "the PEM file of the private key for tls_certificate"))]
    pub(super) tls_key: PathBuf,
    /// File of the password, in place of one in the URL. It is read for each new connection, so that
    /// the password can be changed while gateways run: until file and server agree, the password that
    /// worked last is tried, too.
    #[schemars(extend("allowed" = "the file of the password"))]
    pub(super) password_file: PathBuf,
    /// File where this gateway remembers, outside the database, the newest upload that it
    /// acknowledged and the newest download batch; each gateway needs its own, on a disk that is not
    /// the database's. A start on an older database is refused, and `efgs db recovered` skips the
    /// numbers that were given out. Costs two synchronous writes for each group of uploads.
    #[schemars(extend("allowed" = "the name of a file, or empty for none"))]
    pub(super) state_file: PathBuf,
    /// Whether to work on a MySQL-compatible server, or cluster, that may lose commits which it has
    /// confirmed (`innodb_flush_log_at_trx_commit`, `sync_binlog`). Uploads that were answered 201 are
    /// lost when it crashes, or when all nodes of a cluster do; then the gateways stop until an
    /// operator runs `efgs db recovered`.
    pub(super) accept_unflushed_commits: bool,
}
