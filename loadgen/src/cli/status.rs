//! What a command found, as its exit status.

/// What a command found. A failure to run is an error, with status 2.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Status {
    /// Everything is as it should be: 0.
    Good,
    /// The gateway answered or delivered something unexpected: 1.
    Fault,
    /// The run missed an objective: 99, as with k6.
    Missed,
}

impl Status {
    /// The exit status.
    pub(crate) const fn code(self) -> u8 {
        match self {
            Self::Good => 0,
            Self::Fault => 1,
            Self::Missed => 99,
        }
    }
}

impl From<bool> for Status {
    fn from(is_good: bool) -> Self {
        match is_good {
            true => Self::Good,
            false => Self::Fault,
        }
    }
}
