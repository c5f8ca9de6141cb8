//! The address that was checked is the one that is connected to (wire §16.2), also through a proxy.

use std::sync::Arc;

use api::settings::CallbackProxy;

use crate::callback_support::{Gateway, Names, Pair, Receiver, cut, until};
use crate::cli_support::Installation;
use crate::shares::postponed;
use crate::{PUT, VERSION, callback_support};

#[tokio::test]
async fn connects_to_the_address_that_was_checked() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let names = Arc::new(Names::default());
    // The system's resolver does not know this name: if it were used, there would be no connection.
    names.set("receiver.test", &["127.0.0.1"]);
    let gateway = Gateway::start_with(&installation, |server| {
        server.resolver = Arc::<Names>::clone(&names);
    })
    .await;
    let url = format!("https://receiver.test:{}/x", receiver.address.port());
    gateway.subscribe("DE", "1", &url).await;
    cut(&installation, &gateway.engine, 0).await;
    let told = receiver.told().await;
    assert_eq!(told.server_name.as_deref(), Some("receiver.test"));
    let host = format!("\r\nHost: receiver.test:{}\r\n", receiver.address.port());
    assert!(told.head.contains(&host), "{}", told.head);
    assert_eq!(names.asked(), 1, "once per attempt");
}

#[tokio::test]
async fn resists_dns_rebinding() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let names = Arc::new(Names::default());
    names.set("receiver.test", &["93.184.216.34"]);
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.allowed_networks.clear();
        server.callback.attempts_max = 2;
        server.resolver = Arc::<Names>::clone(&names);
    })
    .await;
    let de = Pair::of(&installation, "DE/authentication");
    let url = format!("https://receiver.test:{}/", receiver.address.port());
    let put = format!("{PUT}1?url={url}{VERSION}");
    assert_eq!(gateway.ask(&put, &de, "DE", "").await.status(), 200);
    names.set("receiver.test", &["93.184.216.34", "127.0.0.1"]);
    cut(&installation, &gateway.engine, 0).await;
    gateway.until_disabled("DE").await;
    assert!(receiver.already_received().is_none());
    assert_eq!(gateway.ask(&put, &de, "DE", "").await.status(), 400);
}

#[tokio::test]
async fn counts_an_unresolvable_name_as_a_failed_attempt() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let names = Arc::new(Names::default());
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.attempts_max = 100;
        server.resolver = Arc::<Names>::clone(&names);
    })
    .await;
    let url = format!("https://receiver.test:{}/", receiver.address.port());
    gateway.subscribe("DE", "1", &url).await;
    let tag = cut(&installation, &gateway.engine, 0).await;
    until(async || names.asked() >= 2).await;
    assert_eq!(gateway.subscriptions("DE").await.len(), 1);
    names.set("receiver.test", &["127.0.0.1"]);
    assert_eq!(receiver.told().await.tag(), tag);
}

#[tokio::test]
async fn tries_the_next_address_of_a_host() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let names = Arc::new(Names::default());
    // Nothing listens on the first.
    names.set("receiver.test", &["127.0.0.2", "127.0.0.1"]);
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.attempts_max = 1;
        server.resolver = names;
    })
    .await;
    let url = format!("https://receiver.test:{}/", receiver.address.port());
    gateway.subscribe("DE", "1", &url).await;
    let tag = cut(&installation, &gateway.engine, 0).await;
    assert_eq!(receiver.told().await.tag(), tag);
}

#[tokio::test]
async fn goes_through_a_proxy_to_the_address_that_was_checked() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    // printf 'gateway:s3cret' | base64
    let (address, mut heads) =
        callback_support::proxy("\r\nProxy-Authorization: Basic Z2F0ZXdheTpzM2NyZXQ=\r\n").await;
    let names = Arc::new(Names::default());
    names.set("receiver.test", &["127.0.0.1"]);
    let proxy = |password: &str| CallbackProxy {
        host: address.ip().to_string(),
        port: address.port(),
        credentials: Some(("gateway".to_owned(), password.to_owned())),
    };
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.proxy = Some(proxy("s3cret"));
        server.resolver = Arc::<Names>::clone(&names);
    })
    .await;
    let url = format!("https://receiver.test:{}/", receiver.address.port());
    gateway.subscribe("DE", "1", &url).await;
    let tag = cut(&installation, &gateway.engine, 0).await;
    assert_eq!(receiver.told().await.tag(), tag);
    let head = heads.recv().await.unwrap();
    let expected = format!("CONNECT 127.0.0.1:{} HTTP/1.1\r\n", receiver.address.port());
    assert!(head.starts_with(&expected), "{head}");
    gateway.until_delivered().await;
    drop(gateway);

    let other = Installation::new("DE");
    let mut unreached = Receiver::start(&Pair::of(&other, "DE/callback")).await;
    let gateway = Gateway::start_with(&other, |server| {
        server.callback.attempts_max = 1;
        server.callback.proxy = Some(proxy("wrong"));
    })
    .await;
    gateway.subscribe("DE", "1", &unreached.url()).await;
    cut(&other, &gateway.engine, 0).await;
    // That is ours to put right: the receiver was not asked, and its subscription stays.
    until(async || postponed(&other) == 1).await;
    assert_eq!(gateway.subscriptions("DE").await.len(), 1);
    assert!(unreached.already_received().is_none());
}
