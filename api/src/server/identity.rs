//! The certificates that the server shows, and the proxies that it trusts, from its settings.

use std::sync::Arc;

use super::error::ServeError;
use super::settings::ServerSettings;
use crate::participant::ProxyTrust;
use crate::settings::ProxySettings;
use crate::tls::ServerCertificate;

/// The certificate of the public port, if it is open.
pub(super) fn public_certificate(
    settings: &ServerSettings,
) -> Result<Option<Arc<ServerCertificate>>, ServeError> {
    match (settings.public_listen, &settings.tls, &settings.proxy) {
        (None, _, None) => Err(ServeError::NoListener),
        (None, _, Some(_)) => Ok(None),
        (Some(_), None, _) => Err(ServeError::NoTls),
        (Some(_), Some(tls), _) => {
            let certificate = ServerCertificate::new(tls)?;
            Ok(Some(Arc::new(certificate)))
        }
    }
}

/// Whether callbacks can be sent with their certificate: asked before the engine starts, which may take minutes.
pub(super) fn check_callback_identity(settings: &ServerSettings) -> Result<(), ServeError> {
    let identity = settings.callback.identity.as_ref();
    let checked = identity.map(ServerCertificate::new).transpose();
    checked.map(drop).map_err(ServeError::CallbackIdentity)
}

/// Whose identity headers are trusted on the port of the proxy.
pub(super) fn proxy_trust(settings: &ProxySettings) -> Result<ProxyTrust, ServeError> {
    if let Some(listen) = settings.listen
        && !listen.ip().is_loopback()
        && settings.trusted_peers.is_empty()
    {
        return Err(ServeError::AnyoneTrusted(listen));
    }
    let socket = settings.socket.as_ref();
    Ok(ProxyTrust {
        trusted_peers: settings.trusted_peers.clone(),
        trusted_users: socket.map_or_else(Vec::new, |socket| socket.users.clone()),
        secret: settings.secret.clone(),
        thumbprint_header: settings.thumbprint_header.clone(),
        distinguished_name_header: settings.distinguished_name_header.clone(),
        certificate_header: settings.certificate_header.clone(),
    })
}
