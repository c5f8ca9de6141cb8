//! BER values: identifier, length, contents. `check` bounds what may be read at all, `der` turns
//! BER into DER, as signed attributes are signed (RFC 5652 §5.4).
//!
//! Why this is our own code: the libraries read DER only, or do not compare every identifier octet.

mod check;
mod der;
mod value;

pub(super) use check::{Bounds, Types, check};
pub(super) use der::{set_of, to_der};
pub(super) use value::{NotBer, Value, Values, contents, identifier, octets};
