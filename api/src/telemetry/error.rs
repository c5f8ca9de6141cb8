//! Why there is no log.

/// Why logging cannot be installed. The text says what to do.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The filter cannot be parsed.
    #[error(
        "[log] level {filter:?} cannot be parsed ({reason}): write it as info or info,api=debug"
    )]
    Filter {
        /// The filter.
        filter: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Another subscriber is installed.
    #[error("logging is already installed")]
    Installed,
}
