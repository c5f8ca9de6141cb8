//! `[practice]`: a gateway that national backends are developed against.
//!
//! It deletes keys early and has countries that are made up, so nobody may take it for a real one: it
//! runs with the development PKI of `efgs init` alone, and says what it is in the log, in `/ready` and on
//! the console.

use std::path::PathBuf;
use std::time::Duration;

use engine::domain::Country;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use smart_default::SmartDefault;

use super::text;

/// A gateway to practise with, as `efgs init --practice` makes one. Only with the development PKI of
/// efgs init.
#[derive(SmartDefault, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub(super) struct Practice {
    /// Whether this is one. If not, the settings below mean nothing.
    pub(super) enabled: bool,
    /// Countries that upload made-up keys by themselves, as ["ES", "FR"]. efgs serve starts
    /// efgs-backend for them, if that lies beside it or in PATH.
    #[serde(with = "text::list")]
    #[schemars(with = "Vec<String>", extend(
        "allowed" = "a list of two-letter countries, as in [\"ES\", \"FR\"]"
    ))]
    pub(super) peers: Vec<Country>,
    /// Folder of the peers' certificates and keys, and of the server's CA.
    #[default(PathBuf::from("pki"))]
    #[schemars(extend("allowed" = "the folder of certificates that efgs init has made"))]
    pub(super) pki: PathBuf,
    /// Seconds between two uploads of a peer.
    #[default = 60]
    #[schemars(range(min = 1, max = 86_400))]
    pub(super) upload_seconds: u32,
    /// Minutes after which a download batch is gone, within the days of `[download] max_age_days`.
    #[default = 60]
    #[schemars(range(min = 1, max = 20_160))]
    pub(super) keys_kept_minutes: u32,
}

/// `[practice]` of a practice gateway.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PracticeSettings {
    /// Countries that upload by themselves.
    pub peers: Vec<Country>,
    /// Folder of their certificates.
    pub pki: PathBuf,
    /// Between two uploads of a peer.
    pub upload_interval: Duration,
    /// How long a download batch stays.
    pub keys_kept: Duration,
}

impl PracticeSettings {
    /// What an operator has to know.
    pub(super) fn warning(&self) -> String {
        let minutes = self.keys_kept.as_secs() / 60;
        let peers: Vec<_> = self.peers.iter().map(Country::as_str).collect();
        let peers = match peers.is_empty() {
            true => "no country".to_owned(),
            false => peers.join(", "),
        };
        format!(
            "this is a practice gateway, not for real keys: it deletes download batches after \
             {minutes} minutes, and {peers} upload made-up keys"
        )
    }
}
