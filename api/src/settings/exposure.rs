//! Whom the ports are open to, beyond what they are made for.

use std::net::SocketAddr;

use engine::pki::Certificate;

/// What the addresses of the ports, and the certificates of the server and of the trust anchor, say
/// together.
pub(super) fn warnings(
    operations: Option<SocketAddr>,
    participants: [Option<SocketAddr>; 2],
    certificates: [Option<&str>; 2],
) -> Vec<String> {
    let mut warnings = Vec::new();
    if let Some(address) = operations.filter(reaches_others) {
        warnings.push(format!(
            "[operations] listen = {address} can be reached from other machines, and has no \
             authentication: use a loopback address, or let a firewall protect it"
        ));
    }
    let mut participants = participants.into_iter().flatten();
    if let Some(address) = participants.find(reaches_others)
        && certificates.into_iter().flatten().any(is_for_development)
    {
        warnings.push(format!(
            "the development PKI of efgs init is used at {address}, which can be reached from other \
             machines: whoever can read its folder has the private keys of all participants and of \
             the trust anchor"
        ));
    }
    warnings
}

fn reaches_others(address: &SocketAddr) -> bool {
    !address.ip().to_canonical().is_loopback()
}

/// Whether the first certificate of a PEM text is of the development PKI.
pub(super) fn is_for_development(pem: &str) -> bool {
    let first = pem.split_inclusive("-----END CERTIFICATE-----").next();
    let der = Certificate::der_of_pem(first.unwrap_or_default()).unwrap_or_default();
    let certificate = Certificate::from_der(&der);
    certificate.is_ok_and(|certificate| certificate.is_for_development())
}
