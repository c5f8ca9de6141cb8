//! Which receivers the gateway trusts (wire §16.3).

use std::sync::Arc;

use api::server::{ServerSettings, TlsSettings};
use engine::domain::CertificateKind;

use crate::callback_support::{
    Gateway, Names, Pair, Receiver, cut, list_certificate, revoke, until,
};
use crate::cli_support::Installation;

/// Whether a gateway delivers to a receiver with this certificate at the first attempt.
pub(crate) async fn is_delivered(
    installation: &Installation,
    pair: &Pair,
    url: Option<&str>,
    change: impl FnOnce(&mut ServerSettings),
) -> bool {
    let receiver = Receiver::start(pair).await;
    hears(installation, receiver, url, change).await
}

async fn hears(
    installation: &Installation,
    mut receiver: Receiver,
    url: Option<&str>,
    change: impl FnOnce(&mut ServerSettings),
) -> bool {
    let gateway = Gateway::start_with(installation, |server| {
        server.callback.attempts_max = 1;
        change(server);
    })
    .await;
    let url = match url {
        Some(host) => format!("https://{host}:{}/", receiver.address.port()),
        None => receiver.url(),
    };
    gateway.subscribe("DE", "1", &url).await;
    cut(installation, &gateway.engine, 0).await;
    tokio::select! {
        _ = receiver.told() => true,
        () = gateway.until_disabled("DE") => {
            assert!(receiver.already_received().is_none());
            false
        }
    }
}

#[tokio::test]
async fn trusts_the_subscribers_receivers_only() {
    for (name, trusted) in [
        ("DE/callback", true),
        ("DE/authentication", true),
        ("DE/signing", false),
        ("IT/callback", false),
        ("IT/authentication", false),
        ("server", false),
    ] {
        let installation = Installation::new("DE,IT");
        let pair = Pair::of(&installation, name);
        assert_eq!(
            is_delivered(&installation, &pair, None, |_| {}).await,
            trusted,
            "{name}"
        );
    }
}

#[tokio::test]
async fn does_not_trust_revoked_expired_or_future_certificates() {
    let installation = Installation::new("DE");
    let pair = Pair::of(&installation, "DE/callback");
    revoke(&installation, &pair);
    assert!(!is_delivered(&installation, &pair, None, |_| {}).await);
    for (begins, ends, trusted) in [(2000, 4000, true), (2000, 2020, false), (3000, 4000, false)] {
        let installation = Installation::new("DE");
        let pair = Pair::between("DE", begins, ends);
        list_certificate(&installation, "DE", CertificateKind::Callback, &pair);
        let told = is_delivered(&installation, &pair, None, |_| {}).await;
        assert_eq!(told, trusted, "{begins} to {ends}");
    }
}

#[tokio::test]
async fn trusts_listed_receivers_whatever_else_their_certificates_say() {
    for (name, key, trusted) in [
        ("v1-p256", "DE-p256", true),
        ("v1-rsa", "DE-special", true),
        ("critical-extension", "DE-p256", true),
        ("v1-p256", "ES-authentication", false),
        ("v1-rsa", "DE-rsa3072", false),
    ] {
        for version in rustls::ALL_VERSIONS {
            let installation = Installation::new("DE");
            let pair = Pair::odd(name, key);
            list_certificate(&installation, "DE", CertificateKind::Callback, &pair);
            let receiver = Receiver::speaking(&pair, &[version]).await;
            let told = hears(&installation, receiver, None, |_| {}).await;
            assert_eq!(told, trusted, "{name} {key} {version:?}");
        }
    }
}

#[tokio::test]
async fn stops_trusting_a_certificate_when_it_is_revoked() {
    let installation = Installation::new("DE");
    let pair = Pair::of(&installation, "DE/callback");
    let mut receiver = Receiver::start(&pair).await;
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.attempts_max = 1;
    })
    .await;
    gateway.subscribe("DE", "1", &receiver.url()).await;
    cut(&installation, &gateway.engine, 0).await;
    receiver.told().await;
    gateway.until_delivered().await;
    revoke(&installation, &pair);
    let revoked = |gateway: &Gateway| {
        let trust = gateway.engine.trust();
        let listed = trust.find(&pair.thumbprint(), CertificateKind::Callback);
        listed.is_some_and(|listed| listed.is_revoked())
    };
    until(async || revoked(&gateway)).await;
    cut(&installation, &gateway.engine, 1).await;
    gateway.until_disabled("DE").await;
    assert!(receiver.already_received().is_none());
}

#[tokio::test]
async fn trusts_a_ca_of_the_operator_for_the_host_of_the_url() {
    let names = Arc::new(Names::default());
    for host in ["localhost", "other.test"] {
        names.set(host, &["127.0.0.1"]);
    }
    for (host, authority, trusted) in [
        ("localhost", "server-ca", true),
        ("127.0.0.1", "server-ca", true),
        ("other.test", "server-ca", false),
        ("localhost", "trust-anchor", false),
    ] {
        let installation = Installation::new("DE");
        let ca_pem = Pair::of(&installation, authority).certificate;
        let pair = Pair::of(&installation, "server");
        let told = is_delivered(&installation, &pair, Some(host), |server| {
            server.callback.ca_pem = Some(ca_pem);
            server.resolver = Arc::<Names>::clone(&names);
        });
        assert_eq!(told.await, trusted, "{host} {authority}");
    }
}

#[tokio::test]
async fn presents_the_configured_certificate() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let other = Pair::between("EU", 2020, 2040);
    let identity = TlsSettings {
        certificate_chain_pem: other.certificate.clone(),
        private_key_pem: other.key.clone(),
    };
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.identity = Some(identity);
    })
    .await;
    gateway.subscribe("DE", "1", &receiver.url()).await;
    cut(&installation, &gateway.engine, 0).await;
    assert_eq!(receiver.told().await.gateway, other.thumbprint());
}
