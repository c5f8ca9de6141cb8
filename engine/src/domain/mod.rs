//! Plain values: what the protocol talks about. No IO, no clock.

mod callback_id;
mod certificate;
mod country;
mod day;
mod digest;
mod format;
mod instant;
mod report_type;
mod seq;
mod tag;

pub use callback_id::{CallbackId, CallbackIdError};
pub use certificate::{CertificateKind, CertificateRow};
pub use country::{Country, CountryError};
pub use day::{Day, DayError};
pub use digest::{ContentDigest, KeyIdentity, RowDigest, Thumbprint, ThumbprintError};
pub(crate) use format::FORMAT_VERSION;
pub use format::Format;
pub use instant::UnixMillis;
pub use report_type::REPORT_TYPES;
pub use seq::Seq;
pub use tag::{BatchTag, BatchTagError, UploadTag, UploadTagError};
