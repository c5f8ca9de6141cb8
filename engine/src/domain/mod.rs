//! Plain values: what the protocol talks about. No IO, no clock.

mod country;
mod day;
mod digest;
mod tag;

pub use country::{Country, CountryError};
pub use day::{Day, DayError};
pub use digest::{ContentDigest, KeyIdentity, Thumbprint, ThumbprintError};
pub use tag::{BatchTag, BatchTagError, UploadTag, UploadTagError};

/// What a listed certificate is for (wire §4.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum CertificateKind {
    /// Client certificate of a participant's backend.
    Authentication,
    /// Signs upload batches.
    Signing,
    /// Vouches for a participant's callback receiver.
    Callback,
}

impl CertificateKind {
    /// All kinds, in the order in which they are listed.
    pub const ALL: [Self; 3] = [Self::Authentication, Self::Signing, Self::Callback];

    /// The name in the database and on the command line, lower case.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Authentication => "authentication",
            Self::Signing => "signing",
            Self::Callback => "callback",
        }
    }

    /// Reads a kind by its name, in any letter case.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.name().eq_ignore_ascii_case(name))
    }
}

/// Media type of a body, on either way.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Format {
    /// `application/protobuf`: `eu.interop.DiagnosisKeyBatch`.
    Protobuf,
    /// `application/json`: the same with the proto field names.
    Json,
}

/// Milliseconds since the Unix epoch, UTC.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UnixMillis(pub u64);

impl UnixMillis {
    /// Whole seconds since the Unix epoch.
    pub const fn seconds(self) -> u64 {
        self.0 / 1000
    }

    /// The UTC day that this instant lies in.
    pub fn day(self) -> Day {
        Day::from_unix_seconds(self.seconds())
    }

    /// This instant plus `millis`, saturating.
    pub const fn plus_millis(self, millis: u64) -> Self {
        Self(self.0.saturating_add(millis))
    }
}

/// Position in the sequenced log: 1 for the first upload ever, without gaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Seq(pub u64);

impl Seq {
    /// The position before the first upload.
    pub const ZERO: Self = Self(0);

    /// The next position.
    #[must_use]
    pub const fn next(self) -> Self {
        Self(self.0 + 1)
    }
}
