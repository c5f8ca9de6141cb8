//! Log events of deliveries (wire §18.3).

use std::io;
use std::sync::{Arc, Mutex};

use api::settings::{LogFormat, LogSettings};
use api::telemetry;
use serde_json::{Value, json};

use crate::callback_support::{Answer, Gateway, Pair, Receiver, cut, until};
use crate::cli_support::Installation;

/// Lines of the log, of all tests of this process.
#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<u8>>>);

impl io::Write for Log {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Log {
    fn begin() -> Self {
        let (log, level) = (Self::default(), "info".to_owned());
        let format = LogFormat::Json;
        let sink = log.clone();
        let subscriber =
            telemetry::subscriber(&LogSettings { format, level }, move || sink.clone());
        tracing::subscriber::set_global_default(subscriber.unwrap()).unwrap();
        log
    }

    /// The event with this message about a subscription, without what every line has.
    fn find(&self, callback_id: &str, message: &str, retry: u64) -> Option<Value> {
        let text = String::from_utf8(self.0.lock().unwrap().clone()).unwrap();
        let mut lines = text
            .lines()
            .map(|line| serde_json::from_str::<Value>(line).unwrap());
        lines.find(|line| {
            line["callbackId"] == callback_id
                && line["message"] == message
                && line["retry"] == retry
        })
    }
}

#[tokio::test]
async fn logs_the_events_of_deliveries() {
    let log = Log::begin();
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
        until(async || log.find(callback_id, message, retry).is_some()).await;
        let line = log.find(callback_id, message, retry).unwrap();
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
