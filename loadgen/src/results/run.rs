//! The first line: the run and its environment.

use serde::{Deserialize, Serialize};

use super::machine::Machine;

/// Version of the format.
pub const VERSION: u32 = 1;

/// How participants authenticate.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Authentication {
    /// Mutual TLS with the gateway.
    Mtls,
    /// Identity headers of a proxy that terminates TLS.
    Proxy,
}

/// Version of HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Http {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2.
    Http2,
}

/// The transport of requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Transport {
    /// How participants authenticate.
    pub authentication: Authentication,
    /// Version of HTTP.
    pub http: Http,
}

/// The first line: the run and its environment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Run {
    /// Version of the format, [`VERSION`].
    pub version: u32,
    /// Name of the scenario, or of the profile.
    pub name: String,
    /// The scenario as it was run, in TOML.
    pub scenario: String,
    /// Seed of every key and every arrival.
    pub seed: u64,
    /// When the run began, RFC 3339 in UTC.
    pub started: String,
    /// The machine that loadgen ran on, as did gateway and database if `processes` lists them.
    pub machine: Machine,
    /// The gateways.
    pub targets: Vec<String>,
    /// The transport of requests.
    pub transport: Transport,
    /// The gateway's database with its version, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub database: Option<String>,
    /// The command line, argument by argument.
    pub command: Vec<String>,
    /// Version of loadgen.
    pub program_version: String,
    /// Commit that loadgen was built from, when known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub commit: Option<String>,
}
