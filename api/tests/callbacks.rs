//! Callbacks (wire §16): the subscription API row by row, and deliveries to receivers
//! that speak real TLS.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod callback_support;
mod cli_support;

use std::collections::BTreeSet;
use std::io;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::server::{ServerSettings, TlsSettings};
use api::settings::{CallbackProxy, LogFormat, LogSettings};
use api::telemetry;
use callback_support::{
    Answer, Gateway, Names, Pair, Receiver, cut, date_of, list_certificate, revoke, settings,
    subscribe, until,
};
use cli_support::Installation;
use engine::domain::CertificateKind;
use engine::{Engine, SystemClock};
use serde_json::{Value, json};

// Wire §16.1: the subscription API.

/// A gateway that delivers nothing, and resolves a receiver to a public address.
async fn subscriptions_only(installation: &Installation) -> Gateway {
    let names = Arc::new(Names::default());
    names.set("receiver.example", &["93.184.216.34"]);
    names.set("inside.example", &["93.184.216.34", "10.0.0.1"]);
    Gateway::start_with(installation, |server| {
        server.callback.identity = None;
        server.resolver = names;
    })
    .await
}

const PUT: &str = "PUT /diagnosiskeys/callback/";
const VERSION: &str = " HTTP/1.1";

#[tokio::test]
async fn lists_changes_and_removes_the_callers_own_subscriptions() {
    let installation = Installation::new("DE,FI");
    let gateway = subscriptions_only(&installation).await;
    let de = Pair::of(&installation, "DE/authentication");
    let fi = Pair::of(&installation, "FI/authentication");
    let list = "GET /diagnosiskeys/callback HTTP/1.1";
    let empty = gateway.ask(list, &de, "DE", "").await;
    assert_eq!((empty.status(), empty.body.as_str()), (200, "[]"));
    assert_eq!(empty.header("Content-Type"), Some("application/json"));

    // DE: the MD5 of its URL as id, its URL percent-encoded in the query.
    let id = "5f4dcc3b5aa765d61d8327deb882cf99";
    let url = "https%3A%2F%2Freceiver.example%2Fversion%2Fv1%2Fcallback";
    let head = format!("{PUT}{id}?url={url}{VERSION}");
    for _ in 0..2 {
        let taken = gateway.ask(&head, &de, "DE", "").await;
        assert_eq!((taken.status(), taken.body.as_str()), (200, ""));
    }
    let listed = gateway.ask(list, &de, "DE", "").await;
    let expected = format!(
        r#"[{{"callbackId":"{id}","url":"https://receiver.example/version/v1/callback"}}]"#
    );
    assert_eq!(listed.body, expected);

    // FI: id 1; here with a form, and the trailing slash.
    let head = format!(
        "{PUT}1/{VERSION}\r\nContent-Type: application/x-www-form-urlencoded; charset=UTF-8"
    );
    let form = "url=https%3A%2F%2Freceiver.example%2Fefgs%2Fcallback";
    assert_eq!(gateway.ask(&head, &fi, "FI", form).await.status(), 200);
    let head = format!("{PUT}1?url=https://receiver.example/other{VERSION}");
    assert_eq!(gateway.ask(&head, &fi, "FI", "").await.status(), 200);
    let listed = gateway
        .ask("GET /diagnosiskeys/callback/ HTTP/1.1", &fi, "FI", "")
        .await;
    let expected = r#"[{"callbackId":"1","url":"https://receiver.example/other"}]"#;
    assert_eq!(listed.body, expected);

    // Ids are per country.
    let delete = "DELETE /diagnosiskeys/callback/1 HTTP/1.1";
    let unknown = gateway.ask(delete, &de, "DE", "").await;
    assert_eq!(unknown.status(), 404);
    assert_eq!(
        unknown.member("message"),
        "Could not find any callback subscription for the given callbackId."
    );
    let removed = gateway.ask(delete, &fi, "FI", "").await;
    assert_eq!((removed.status(), removed.body.as_str()), (200, ""));
    assert_eq!(gateway.ask(list, &fi, "FI", "").await.body, "[]");
    assert_eq!(gateway.ask(delete, &fi, "FI", "").await.status(), 404);
}

#[tokio::test]
async fn refuses_invalid_ids_and_urls() {
    let installation = Installation::new("DE");
    let gateway = subscriptions_only(&installation).await;
    let de = Pair::of(&installation, "DE/authentication");
    let put = async |rest: &str, body: &str| {
        let head = format!("{PUT}{rest}");
        let reply = gateway.ask(&head, &de, "DE", body).await;
        assert_eq!(reply.status(), 400, "{rest}");
        assert_eq!(reply.header("Content-Type"), Some("application/json"));
        (
            reply.member("message"),
            reply.member("code"),
            reply.member("reason"),
        )
    };
    let is = |found: (String, String, String), message: &str, code: &str, reason: &str| {
        assert_eq!(
            (found.0.as_str(), found.1.as_str(), found.2.as_str()),
            (message, code, reason)
        );
    };
    let missing = "Required parameter 'url' is not present.";
    is(
        put("1 HTTP/1.1", "").await,
        missing,
        "callback_url_missing",
        "",
    );
    is(
        put("1?x=y HTTP/1.1", "url=https://receiver.example/").await,
        missing,
        "callback_url_missing",
        "",
    );
    let form = "1 HTTP/1.1\r\nContent-Type: application/x-www-form-urlencoded";
    is(put(form, "x=y").await, missing, "callback_url_missing", "");

    let invalid = "Callback URL is invalid";
    let code = "callback_url_invalid";
    for (url, reason) in [
        ("", "unreadable"),
        ("receiver.example", "unreadable"),
        ("http://receiver.example/", "not_https"),
        ("https://receiver.example/?", "has_query"),
        ("https://receiver.example/?a=b", "has_query"),
        ("https://user@receiver.example/", "has_user_info"),
        // One reason for whatever the internal network knows and does not know.
        ("https://unknown.example/", "host_refused"),
        ("https://inside.example/", "host_refused"),
        ("https://169.254.169.254/", "host_refused"),
        ("https://[::1]/", "host_refused"),
        (
            &format!("https://receiver.example/{}", "x".repeat(232)),
            "too_long",
        ),
    ] {
        is(
            put(&format!("1?url={url} HTTP/1.1"), "").await,
            invalid,
            code,
            reason,
        );
    }
    let longest = format!(
        "{PUT}1?url=https://receiver.example/{}{VERSION}",
        "x".repeat(231)
    );
    assert_eq!(gateway.ask(&longest, &de, "DE", "").await.status(), 200);

    let id = "x".repeat(33);
    let refused = put(&format!("{id}?url=https://receiver.example/ HTTP/1.1"), "").await;
    let message = "The callbackId must have 1 to 32 characters: ASCII letters, digits and -_.:";
    is(refused, message, "callback_id_invalid", "");
    for id in [
        "%ff",
        "%E2%80%AE1",
        "..%2F..%2Fx",
        "%3Cscript%3E",
        "a%20b",
        "%C3%A9",
        "a@b",
    ] {
        let refused = put(&format!("{id}?url=https://receiver.example/ HTTP/1.1"), "").await;
        is(refused, message, "callback_id_invalid", "");
    }
    let longest = format!(
        "{PUT}A-z_0.9:{}?url=https://receiver.example/{VERSION}",
        "x".repeat(24)
    );
    assert_eq!(gateway.ask(&longest, &de, "DE", "").await.status(), 200);
}

#[tokio::test]
async fn authenticates_before_anything_else() {
    let installation = Installation::new("DE");
    let gateway = subscriptions_only(&installation).await;
    for head in [
        "GET /diagnosiskeys/callback HTTP/1.1",
        "GET /diagnosiskeys/callback HTTP/1.1\r\nAccept: text/html",
        "PUT /diagnosiskeys/callback/1 HTTP/1.1",
        "DELETE /diagnosiskeys/callback/1 HTTP/1.1",
    ] {
        assert_eq!(gateway.ask_raw(head, "").await.status(), 403, "{head}");
    }
}

#[tokio::test]
async fn answers_other_methods_and_media_types_as_other_routes_do() {
    let installation = Installation::new("DE");
    let gateway = subscriptions_only(&installation).await;
    let de = Pair::of(&installation, "DE/authentication");
    for (head, status, allow) in [
        (
            "OPTIONS /diagnosiskeys/callback",
            200,
            Some("GET,HEAD,OPTIONS"),
        ),
        (
            "OPTIONS /diagnosiskeys/callback/1",
            200,
            Some("PUT,DELETE,OPTIONS"),
        ),
        (
            "POST /diagnosiskeys/callback",
            405,
            Some("GET,HEAD,OPTIONS"),
        ),
        (
            "GET /diagnosiskeys/callback/1",
            405,
            Some("PUT,DELETE,OPTIONS"),
        ),
        ("HEAD /diagnosiskeys/callback", 200, None),
        ("GET /diagnosiskeys/callback/1/2", 404, None),
    ] {
        let reply = gateway
            .ask(&format!("{head} HTTP/1.1"), &de, "DE", "")
            .await;
        assert_eq!(
            (reply.status(), reply.header("Allow")),
            (status, allow),
            "{head}"
        );
    }
    for (accept, status) in [
        ("application/json; version=1.0", 200),
        ("text/plain, */*", 200),
        ("application/protobuf", 406),
    ] {
        let head = format!("GET /diagnosiskeys/callback HTTP/1.1\r\nAccept: {accept}");
        assert_eq!(
            gateway.ask(&head, &de, "DE", "").await.status(),
            status,
            "{accept}"
        );
    }
}

#[tokio::test]
async fn keeps_one_subscription_of_two_simultaneous_ones_and_bounds_their_number() {
    let installation = Installation::new("DE");
    let gateway = subscriptions_only(&installation).await;
    let de = Pair::of(&installation, "DE/authentication");
    let put = async |id: u64| {
        let head = format!("{PUT}{id}?url=https://receiver.example/{VERSION}");
        gateway.ask(&head, &de, "DE", "").await
    };
    let (one, two) = tokio::join!(put(0), put(0));
    assert_eq!((one.status(), two.status()), (200, 200));
    assert_eq!(gateway.subscriptions("DE").await.len(), 1);
    for id in 1..engine::limits::CALLBACKS_PER_COUNTRY_MAX {
        assert_eq!(put(id).await.status(), 200);
    }
    let refused = put(99).await;
    assert_eq!(refused.status(), 409);
    assert_eq!(refused.member("code"), "too_many_callbacks");
}

// Wire §16.3: delivery.

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

#[tokio::test]
async fn gives_up_on_informational_responses_without_end() {
    let installation = Installation::new("DE");
    let mut receiver = Receiver::start(&Pair::of(&installation, "DE/authentication")).await;
    let gateway = Gateway::start_with(&installation, |server| {
        // Not what ends it.
        server.callback.read_timeout = Duration::from_secs(600);
        server.callback.attempts_max = 2;
    })
    .await;
    gateway.subscribe("DE", "1", &receiver.url()).await;
    receiver.answer([Answer::Continue, Answer::Continue]);
    cut(&installation, &gateway.engine, 0).await;
    gateway.until_disabled("DE").await;
    receiver.told().await;
    receiver.told().await;
    // A few of them are no obstacle.
    gateway.subscribe("DE", "1", &receiver.url()).await;
    receiver.answer([Answer::Head(
        "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 202 Accepted",
    )]);
    cut(&installation, &gateway.engine, 1).await;
    receiver.told().await;
    gateway.until_delivered().await;
}

// K-6: what happens to FI and DE when their receivers are down for longer than six attempts.

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

/// Once a day, FI lists its subscriptions and PUTs only if its own is missing or has another URL: it
/// must not find one that is no longer notified.
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

// Wire §18.3: log events of deliveries.

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

// Wire §16.3: which receivers the gateway trusts.

/// Whether a gateway delivers to a receiver with this certificate at the first attempt.
async fn is_delivered(
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

// Wire §16.2 before each delivery.

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

// The proxy.

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
    let pair = Pair::of(&other, "DE/callback");
    let told = is_delivered(&other, &pair, None, |server| {
        server.callback.proxy = Some(proxy("wrong"));
    });
    assert!(!told.await);
}

// Several gateways.

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
