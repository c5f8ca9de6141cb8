//! Something that an operator has to see to.

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// It will stop a participant if nothing is done.
    Warning,
    /// It stops a participant now, or within days.
    Error,
}

/// Something to see to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// How bad it is.
    pub severity: Severity,
    /// What it is about: two findings about the same are one that has changed.
    pub subject: String,
    /// A sentence without its full stop, with what to do.
    pub text: String,
}
