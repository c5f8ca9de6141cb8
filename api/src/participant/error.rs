//! Why a request is not authenticated.

/// Why a request is not authenticated.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum AuthenticationError {
    /// The TLS client presented no certificate.
    NoClientCertificate,
    /// Identity headers from a peer that is not configured to send them.
    UntrustedPeer,
    /// An identity header that comes more than once: the proxy adds where it should replace, and one
    /// of the values may be the client's (row 10).
    RepeatedIdentityHeader,
    /// A header is missing, or the thumbprint cannot be parsed (wire §4.0.2).
    NoForwardedIdentity,
    /// The subject name is too long to be read (row 12).
    NameTooLong,
    /// The subject name has no country (row 4).
    NoCountry,
    /// No intact row has this thumbprint and country (row 5).
    UnknownCertificate,
    /// The row is revoked (row 6).
    RevokedCertificate,
    /// The certificate is not valid yet.
    NotYetValid,
    /// The certificate is no longer valid.
    Expired,
}

impl AuthenticationError {
    /// The reference's event (wire §18.3), or one like it.
    pub(super) const fn event(self) -> &'static str {
        match self {
            Self::NoClientCertificate | Self::NoForwardedIdentity => {
                "No thumbprint or distinguish name"
            }
            Self::UntrustedPeer => "Identity headers from an untrusted peer",
            Self::RepeatedIdentityHeader => "Repeated identity header",
            Self::NameTooLong => "Distinguished name is too long",
            Self::NoCountry => "Country property is missing",
            Self::UnknownCertificate => "Unknown client certificate",
            Self::RevokedCertificate => "Certificate is revoked",
            Self::NotYetValid => "Certificate is not valid yet",
            Self::Expired => "Certificate has expired",
        }
    }
}
