//! Cases of the vectors whose verdict is a choice: which way we go, and why.

/// What is done with a case.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    Accept,
    /// With this reason.
    Reject(&'static str),
}

use Decision::{Accept, Reject};

/// Case id, decision, why.
pub(crate) const POLICY: &[(&str, Decision, &str)] = &[];
