//! The subscription API, row by row (wire §16.1).

use std::sync::Arc;

use crate::callback_support::{Gateway, Names, Pair};
use crate::cli_support::Installation;
use crate::{PUT, VERSION};

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
        ("https://unknown.example/", "unresolvable"),
        ("https://inside.example/", "not_public"),
        ("https://169.254.169.254/", "not_public"),
        ("https://[::1]/", "not_public"),
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
    let message = "The callbackId must have 1 to 32 characters.";
    is(refused, message, "callback_id_invalid", "");
    let refused = put("%ff?url=https://receiver.example/ HTTP/1.1", "").await;
    is(refused, message, "callback_id_invalid", "");
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
