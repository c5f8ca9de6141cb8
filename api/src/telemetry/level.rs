//! The least severe level that is logged, of all modules and of single ones.
//!
//! - *In*: `[log] level`, at the start and whenever it is read again.
//! - *Out*: which events become lines. `tracing` remembers the answer at each place of the code until it changes,
//!   so that an event costs no more than with a level that never does.
//! - *Runs on*: any thread; the lock is taken where an answer is not remembered yet.

use std::fmt;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use tracing::subscriber::Interest;
use tracing::{Level, Metadata, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::filter::{LevelFilter, Targets};
use tracing_subscriber::layer::Context;

use super::error::TelemetryError;

/// The level of this process's log, which can change while it runs.
#[derive(Clone)]
pub struct LogLevel(Arc<RwLock<InForce>>);

/// A level, as it was written and as it is asked for.
struct InForce {
    text: String,
    targets: Targets,
}

impl InForce {
    fn parse(text: &str) -> Result<Self, TelemetryError> {
        let targets = text.parse().map_err(|error| TelemetryError::Filter {
            filter: text.to_owned(),
            reason: format!("{error}"),
        })?;
        let text = text.to_owned();
        Ok(Self { text, targets })
    }
}

/// Only the text.
impl fmt::Debug for LogLevel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("LogLevel")
            .field(&self.in_force().text)
            .finish()
    }
}

impl LogLevel {
    /// Reads a level as `[log] level` has it.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`].
    pub(super) fn parse(text: &str) -> Result<Self, TelemetryError> {
        Ok(Self(Arc::new(RwLock::new(InForce::parse(text)?))))
    }

    /// Puts another level in force, and logs that; not if it is the same.
    ///
    /// # Errors
    /// [`TelemetryError::Filter`]; the former stays in force.
    pub fn change(&self, text: &str) -> Result<(), TelemetryError> {
        let new = InForce::parse(text)?;
        let former = self.in_force().text.clone();
        if former == text {
            return Ok(());
        }
        let tell = || tracing::info!(from = former, to = text, "log level changed");
        // The line belongs into the log of whichever level has it.
        let is_logged_before = tracing::enabled!(Level::INFO);
        if is_logged_before {
            tell();
        }
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = new;
        tracing::callsite::rebuild_interest_cache();
        if !is_logged_before {
            tell();
        }
        Ok(())
    }

    fn in_force(&self) -> RwLockReadGuard<'_, InForce> {
        self.0.read().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<S: Subscriber> Layer<S> for LogLevel {
    fn register_callsite(&self, metadata: &'static Metadata<'static>) -> Interest {
        Layer::<S>::register_callsite(&self.in_force().targets, metadata)
    }

    fn enabled(&self, metadata: &Metadata<'_>, context: Context<'_, S>) -> bool {
        Layer::<S>::enabled(&self.in_force().targets, metadata, context)
    }

    fn max_level_hint(&self) -> Option<LevelFilter> {
        Layer::<S>::max_level_hint(&self.in_force().targets)
    }
}
