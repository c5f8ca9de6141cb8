//! Deliveries in order, and their repetition (wire §16.3).

use std::time::Duration;

use crate::callback_support::{Answer, Gateway, Pair, Receiver, cut, date_of};
use crate::cli_support::Installation;

#[tokio::test]
async fn notifies_of_each_batch_in_order_over_mutual_tls() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let gateway = Gateway::start(&installation).await;
    cut(&installation, &gateway.engine, 0).await;
    gateway.subscribe("DE", "1", &receiver.url()).await;
    // FI responds with 202.
    receiver.answer([
        Answer::Head("HTTP/1.1 202 Accepted"),
        Answer::Head("HTTP/1.1 204 No Content"),
    ]);
    let ours = Pair::of(&installation, "gateway-callback").thumbprint();
    for number in 1..5 {
        let tag = cut(&installation, &gateway.engine, number).await;
        let told = receiver.told().await;
        let expected = format!("/callback?batchTag={tag}&date={}", date_of(&tag));
        assert_eq!(told.target(), expected);
        assert!(told.head.starts_with("GET "), "{}", told.head);
        let host = format!("\r\nHost: localhost:{}\r\n", receiver.address.port());
        assert!(told.head.contains(&host), "{}", told.head);
        assert!(
            told.head
                .contains("\r\nUser-Agent: EFGS Callback Engine\r\n")
        );
        let lower_case = told.head.to_lowercase();
        assert!(
            !lower_case.contains("content-length") && !lower_case.contains("transfer-encoding")
        );
        assert!(told.more.is_empty());
        assert_eq!(told.gateway, ours);
        assert_eq!(told.server_name.as_deref(), Some("localhost"));
    }
    gateway.until_delivered().await;
    assert!(receiver.already_received().is_none(), "each once");
    let expected = serde_json::json!(
        {"delivers": true, "active": 1, "disabled": 0, "batchesBehindMax": 0}
    );
    assert_eq!(gateway.callbacks_status().await, expected);
}

#[tokio::test]
async fn tries_again_in_order_and_never_follows_a_redirect() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/authentication")).await;
    let gateway = Gateway::start_with(&installation, |server| {
        server.callback.read_timeout = Duration::from_millis(500);
    })
    .await;
    gateway.subscribe("DE", "1", &receiver.url()).await;
    receiver.answer([
        Answer::Head("HTTP/1.1 302 Found\r\nLocation: /elsewhere"),
        Answer::Head("HTTP/1.1 500 Oops"),
        Answer::Close,
        Answer::Hang,
        Answer::Head("HTTP/1.1 404 Not Found"),
    ]);
    let first = cut(&installation, &gateway.engine, 0).await;
    let second = cut(&installation, &gateway.engine, 1).await;
    for _ in 0..6 {
        let told = receiver.told().await;
        assert!(told.target().starts_with("/callback?"), "{}", told.head);
        assert_eq!(told.tag(), first);
    }
    assert_eq!(receiver.told().await.tag(), second);
}
