//! Several gateways that deliver.

use std::sync::Arc;

use engine::{Engine, SystemClock};

use crate::callback_support::{Answer, Gateway, Pair, Receiver, cut, settings, subscribe};
use crate::cli_support;
use crate::cli_support::Installation;

#[tokio::test]
async fn two_gateways_deliver_each_batch_once() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let gateways = [
        Gateway::start(&installation).await,
        Gateway::start(&installation).await,
    ];
    gateways[0].subscribe("DE", "1", &receiver.url()).await;
    let mut tags = Vec::new();
    for number in 0..10 {
        tags.push(cut(&installation, &gateways[0].engine, number).await);
    }
    let mut told = Vec::new();
    for _ in 0..10 {
        told.push(receiver.told().await.tag().to_owned());
    }
    assert_eq!(told, tags);
    gateways[1].until_delivered().await;
    assert!(receiver.already_received().is_none());
}

#[tokio::test]
async fn takes_over_from_a_gateway_that_was_killed() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    receiver.answer([Answer::Hang]);
    let engine = Engine::start(settings(&installation).0.engine, Arc::new(SystemClock)).unwrap();
    subscribe(&engine, "DE", "1", &receiver.url()).await;
    let mut serve = installation.serve();
    for (name, value) in [
        ("CALLBACK__ALLOWED_NETWORKS", "127.0.0.0/8"),
        ("CALLBACK__INTERVAL_MS", "10"),
        // A claim holds for twice the sum.
        ("CALLBACK__CONNECT_TIMEOUT_MS", "1000"),
        ("CALLBACK__READ_TIMEOUT_MS", "1000"),
        ("BUNDLE__MAX_DELAY_MS", "10"),
    ] {
        serve.env(format!("EFGS__{name}"), value);
    }
    let (running, _) = cli_support::Gateway::start(&mut serve);
    let tag = cut(&installation, &engine, 0).await;
    assert_eq!(receiver.told().await.tag(), tag);
    // SIGKILL, while the receiver keeps it waiting.
    drop(running);
    let gateway = Gateway::start(&installation).await;
    assert_eq!(receiver.told().await.tag(), tag);
    gateway.until_delivered().await;
    assert!(receiver.already_received().is_none());
}
