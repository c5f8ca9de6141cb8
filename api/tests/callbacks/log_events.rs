//! Log events of deliveries (wire §18.3).

use serde_json::{Value, json};

use crate::callback_support::{Answer, Gateway, Pair, Receiver, cut, until};
use crate::cli_support::Installation;
use crate::log_sink::LogSink;

/// The event with this message about a subscription.
fn find(log: &LogSink, callback_id: &str, message: &str, retry: u64) -> Option<Value> {
    log.lines().into_iter().find(|line| {
        line["callbackId"] == callback_id && line["message"] == message && line["retry"] == retry
    })
}

#[tokio::test]
async fn logs_the_events_of_deliveries() {
    let log = LogSink::of_process();
    let installation = Installation::new("DE,FI");
    let receiver = Receiver::start(&Pair::of(&installation, "DE/callback")).await;
    let gateway =
        Gateway::start_with(&installation, |server| server.callback.attempts_max = 2).await;
    receiver.answer(vec![Answer::Head("HTTP/1.1 503 Later")]);
    gateway.subscribe("DE", "logged", &receiver.url()).await;
    // Nothing listens at the first; the second must not be connected to.
    gateway
        .subscribe("FI", "unheard", "https://127.0.0.1:1/")
        .await;
    gateway.subscribe("FI", "inside", "https://10.0.0.1/").await;
    let tag = cut(&installation, &gateway.engine, 0).await;
    let check = async |callback_id: &str, message: &str, retry: u64, attributes: Value| {
        until(async || find(&log, callback_id, message, retry).is_some()).await;
        let line = find(&log, callback_id, message, retry).unwrap();
        for (name, value) in attributes.as_object().unwrap() {
            assert_eq!(line[name], *value, "{name} of {line}");
        }
        line
    };
    let told = json!({"country": "DE", "batchTag": tag, "statusCode": 503});
    let message = "Got a non 2xx response for callback.";
    check("logged", message, 0, told).await;
    let told = json!({"country": "DE", "batchTag": tag});
    check("logged", "Got 2xx response for callback.", 1, told).await;
    let failed = json!({"country": "FI", "batchTag": tag});
    let line = check("unheard", "Callback request failed", 0, failed).await;
    let why = line["callbackErrorMessage"].as_str().unwrap();
    assert!(why.starts_with("cannot connect"), "{why}");
    let message = "Callback reached max amount of retries. Disabling callback subscription.";
    let line = check("unheard", message, 1, json!({"country": "FI"})).await;
    assert_eq!(line["level"], "WARN");
    let refused = json!({
        "country": "FI",
        "batchTag": tag,
        "url": "https://10.0.0.1/",
        "reason": "IP Address of callback host is from private IP range.",
    });
    let message = "Security check for callback url has failed.";
    check("inside", message, 0, refused).await;
}
