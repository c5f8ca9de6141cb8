//! Receivers of FI and DE that are down for longer than six attempts (K-6).

use std::collections::BTreeSet;

use crate::callback_support::{Answer, Gateway, Pair, Receiver, cut};
use crate::cli_support::Installation;
use crate::{PUT, VERSION, cli_support};

const LIST: &str = "GET /diagnosiskeys/callback HTTP/1.1";

/// Fails all six attempts to deliver a batch.
async fn outage(installation: &Installation, gateway: &Gateway, receiver: &mut Receiver) {
    receiver.answer(vec![Answer::Head("HTTP/1.1 503 Later"); 6]);
    let tag = cut(installation, &gateway.engine, 0).await;
    for _ in 0..6 {
        assert_eq!(receiver.told().await.tag(), tag);
    }
}

/// The operator's view.
fn callback_list(installation: &Installation) -> String {
    cli_support::succeeds(&mut installation.efgs(&["callback", "list"]))
}

/// Once a day, FI lists its subscriptions and PUTs only if its own is missing or has another URL:
/// it must not find one that is no longer notified.
#[tokio::test]
async fn hides_a_subscription_after_six_attempts_so_that_fi_subscribes_again() {
    let installation = Installation::new("DE,FI");
    let mut receiver = Receiver::start(&Pair::of(&installation, "FI/callback")).await;
    let gateway = Gateway::start(&installation).await;
    let fi = Pair::of(&installation, "FI/authentication");
    let url = receiver.url();
    let put = format!("{PUT}1?url={url}{VERSION}");
    let listed = format!(r#"[{{"callbackId":"1","url":"{url}"}}]"#);
    // As its CallbackInitializer does; returns whether it has subscribed.
    let initialize = async || {
        let found = gateway.ask(LIST, &fi, "FI", "").await.body;
        if found == listed {
            return false;
        }
        assert_eq!(found, "[]");
        assert_eq!(gateway.ask(&put, &fi, "FI", "").await.status(), 200);
        true
    };
    assert!(initialize().await);
    assert!(!initialize().await);
    outage(&installation, &gateway, &mut receiver).await;
    gateway.until_disabled("FI").await;
    let shown = callback_list(&installation);
    assert!(shown.starts_with("FI  1  disabled 20"), "{shown}");
    let missed = cut(&installation, &gateway.engine, 1).await;
    assert!(receiver.already_received().is_none(), "six in total");

    assert!(initialize().await, "the next day");
    assert!(!initialize().await);
    // FI imports by callbacks alone: nothing that can still be downloaded is left out.
    let told = cut(&installation, &gateway.engine, 2).await;
    let mut heard = BTreeSet::new();
    while heard.len() < 3 {
        heard.insert(receiver.told().await.tag().to_owned());
    }
    assert!(
        heard.contains(&missed) && heard.contains(&told),
        "{heard:?}"
    );
    gateway.until_delivered().await;
    assert!(receiver.already_received().is_none());
}

/// DE always PUTs, whatever is listed.
#[tokio::test]
async fn accepts_a_put_of_de_before_during_and_after_an_outage() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let gateway = Gateway::start(&installation).await;
    let de = Pair::of(&installation, "DE/authentication");
    let id = "5f4dcc3b5aa765d61d8327deb882cf99";
    let put = format!("{PUT}{id}?url={}{VERSION}", receiver.url());
    let subscribe = async || assert_eq!(gateway.ask(&put, &de, "DE", "").await.status(), 200);
    subscribe().await;
    // While it is enabled it continues where it was: the batch is delivered in the end.
    receiver.answer(vec![Answer::Head("HTTP/1.1 503 Later"); 2]);
    let tag = cut(&installation, &gateway.engine, 10).await;
    assert_eq!(receiver.told().await.tag(), tag);
    subscribe().await;
    assert_eq!(receiver.told().await.tag(), tag);
    assert_eq!(receiver.told().await.tag(), tag);
    gateway.until_delivered().await;

    outage(&installation, &gateway, &mut receiver).await;
    gateway.until_disabled("DE").await;
    subscribe().await;
    let failed = receiver.told().await.tag().to_owned();
    let told = cut(&installation, &gateway.engine, 11).await;
    assert_ne!(failed, told, "the one of the outage comes first");
    assert_eq!(receiver.told().await.tag(), told);
    gateway.until_delivered().await;
    assert!(receiver.already_received().is_none());
}

#[tokio::test]
async fn forgets_a_disabled_subscription_that_is_removed() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let gateway = Gateway::start(&installation).await;
    let de = Pair::of(&installation, "DE/authentication");
    gateway.subscribe("DE", "1", &receiver.url()).await;
    outage(&installation, &gateway, &mut receiver).await;
    gateway.until_disabled("DE").await;
    let delete = format!("DELETE /diagnosiskeys/callback/1{VERSION}");
    let reply = gateway.ask(&delete, &de, "DE", "").await;
    let message = "Could not find any callback subscription for the given callbackId.";
    assert_eq!(
        (reply.status(), reply.member("message").as_str()),
        (404, message)
    );
    let shown = callback_list(&installation);
    assert!(!shown.contains("DE  1"), "{shown}");
}
