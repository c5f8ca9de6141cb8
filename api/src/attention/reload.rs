//! Reloads that failed: what was loaded before stays in use, and the next start would fail.

use std::collections::BTreeMap;
use std::sync::Mutex;

use engine::locks::LockIgnoringPoison;

use super::finding::{Finding, Severity};

/// What is loaded again while a gateway runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reloaded {
    /// Everything that the configuration and its files say.
    Configuration,
    /// `[log] level`.
    LogLevel,
    /// The TLS certificate of the public port, and its key.
    TlsCertificate,
    /// The certificate for callbacks, and its key.
    CallbackCertificate,
}

impl Reloaded {
    const fn name(self) -> &'static str {
        match self {
            Self::Configuration => "the configuration, or a file that it names,",
            Self::LogLevel => "[log] level",
            Self::TlsCertificate => "the TLS certificate ([public] certificate and private_key)",
            Self::CallbackCertificate => {
                "the certificate for callbacks ([callback] certificate and private_key)"
            }
        }
    }
}

/// Why the last reload of each has failed, if it has.
#[derive(Debug, Default)]
pub(crate) struct FailedReloads(Mutex<BTreeMap<Reloaded, String>>);

impl FailedReloads {
    /// Notes how a reload has ended.
    pub(crate) fn note(&self, what: Reloaded, error: Option<String>) {
        let mut failed = self.0.lock_ignoring_poison();
        match error {
            Some(error) => failed.insert(what, error),
            None => failed.remove(&what),
        };
    }

    pub(super) fn findings(&self) -> Vec<Finding> {
        let failed = self.0.lock_ignoring_poison();
        let finding = |(what, error): (&Reloaded, &String)| Finding {
            severity: Severity::Error,
            subject: format!("reload of {}", what.name()),
            text: format!(
                "{} cannot be used ({error}): what was read before stays in use; correct it, or the next \
                 start fails",
                what.name()
            ),
        };
        failed.iter().map(finding).collect()
    }

    /// Sets the metric.
    pub(super) fn measure(&self) {
        let count = self.0.lock_ignoring_poison().len();
        metrics::gauge!("efgs_reloads_failed").set(u32::try_from(count).unwrap_or(u32::MAX));
    }
}
