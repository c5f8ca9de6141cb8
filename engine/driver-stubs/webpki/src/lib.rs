//! The two types of `webpki` 0.22 that `mysql` 28 names in its own errors. It makes only the second.

/// An error of the real crate; there is none here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Error {}

/// The host in an address is not a name that a certificate can be for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct InvalidDnsNameError;

impl std::fmt::Display for Error {
    fn fmt(&self, _: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match *self {}
    }
}

impl std::fmt::Display for InvalidDnsNameError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("invalid host name")
    }
}

impl std::error::Error for Error {}
impl std::error::Error for InvalidDnsNameError {}
