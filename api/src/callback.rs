//! `/diagnosiskeys/callback`: the subscriptions to new download batches (wire §16.1).
//!
//! - *In*: a request, not authenticated yet.
//! - *Out*: the participant's own subscriptions, as they are after the request.
//! - *Refuses*: in this order: unauthenticated requests, media types, an invalid id or URL, a URL
//!   that callbacks must not connect to, one subscription too many.
//! - *Assumes*: nothing about the URL; it is checked again before each delivery.
//! - *Runs on*: a tokio thread, which only waits.

use axum::body::Body;
use engine::Failure;
use engine::callbacks::{CallbackError, CallbackId, Subscribed, Subscription};
use http::request::Parts;
use http::{HeaderMap, Response, header};
use percent_encoding::percent_decode_str;
use serde::Serialize;
use tokio::sync::oneshot;

use crate::delivery::{UrlError, redact_url};
use crate::gateway::Gateway;
use crate::negotiate;
use crate::participant::Participant;
use crate::request_body::read_body;
use crate::response::{self, CallbackRefusal, Refusal};

/// Bytes of a form: the longest URL has 256 characters of up to four bytes, percent-encoded.
const FORM_BYTES_MAX: usize = 8 << 10;

/// Lists the participant's enabled subscriptions.
///
/// # Errors
/// Any [`Refusal`] but that of a route.
pub(crate) async fn list(gateway: &Gateway, parts: &Parts) -> Result<Response<Body>, Refusal> {
    let participant = gateway.authenticate(parts)?;
    let json_type = negotiate::json_answer(&parts.headers)
        .inspect_err(|error| negotiate::log(*error, &parts.headers, participant.country))?;
    let subscriptions = ask(|reply| {
        let callbacks = gateway.engine.callbacks();
        callbacks.list(participant.country, reply);
    });
    let subscriptions = subscriptions.await?;
    let shown: Vec<_> = subscriptions.iter().map(ShownSubscription::new).collect();
    Ok(response::found(json_type, &shown))
}

/// Subscribes, or changes and enables a subscription.
///
/// # Errors
/// Any [`Refusal`] but that of a route.
pub(crate) async fn put(
    gateway: &Gateway,
    parts: &Parts,
    id: &str,
    body: Body,
) -> Result<Response<Body>, Refusal> {
    let participant = gateway.authenticate(parts)?;
    let id = new_callback_id(id)?;
    let url = url(gateway, parts, body).await?;
    if let Err(refusal) = gateway.url_checks.check(participant.country, &url).await {
        log_refusal(&refusal, &participant, &id, &url);
        return Err(refusal.into());
    }
    let (callback_id, country) = (id.clone(), participant.country);
    let subscribed = ask(|reply| {
        let callbacks = gateway.engine.callbacks();
        callbacks.subscribe(country, callback_id, url.into(), reply);
    });
    match subscribed.await? {
        Subscribed::Taken => {
            tracing::info!(%country, callbackId = id.as_str(), "Callback subscription stored");
            Ok(response::done())
        }
        Subscribed::TooMany => Err(CallbackRefusal::TooMany.into()),
    }
}

/// Removes a subscription.
///
/// # Errors
/// Any [`Refusal`] but that of a route.
pub(crate) async fn delete(
    gateway: &Gateway,
    parts: &Parts,
    id: &str,
) -> Result<Response<Body>, Refusal> {
    let participant = gateway.authenticate(parts)?;
    let id = callback_id(id)?;
    let (callback_id, country) = (id.clone(), participant.country);
    let removed = ask(|reply| {
        let callbacks = gateway.engine.callbacks();
        callbacks.unsubscribe(country, callback_id, reply);
    });
    if !removed.await? {
        return Err(CallbackRefusal::Unknown.into());
    }
    tracing::info!(%country, callbackId = id.as_str(), "Callback subscription removed");
    Ok(response::done())
}

/// Waits for the engine's answer.
async fn ask<T: Send + 'static>(
    ask: impl FnOnce(Box<dyn FnOnce(Result<T, CallbackError>) + Send>),
) -> Result<T, Refusal> {
    let (sender, receiver) = oneshot::channel();
    ask(Box::new(move |answer| {
        // Fails when the participant has disconnected; what is stored stays stored.
        let _ = sender.send(answer);
    }));
    let answer = receiver.await;
    let answer = answer.unwrap_or_else(|_| Err(Failure::ShuttingDown.into()));
    answer.map_err(|error| {
        if let CallbackError::Failure(failure) = &error {
            let exception = engine::chain(failure);
            tracing::error!(exception, "callback subscriptions are unavailable");
        }
        CallbackRefusal::Error(error).into()
    })
}

fn callback_id(text: &str) -> Result<CallbackId, CallbackRefusal> {
    CallbackId::parse(text).map_err(|_| CallbackRefusal::InvalidId)
}

/// The id of a new subscription. Stricter than [`callback_id`]: imported subscriptions may have
/// other ids, and can still be deleted.
fn new_callback_id(text: &str) -> Result<CallbackId, CallbackRefusal> {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.:".contains(&byte);
    if !text.bytes().all(allowed) {
        return Err(CallbackRefusal::InvalidId);
    }
    callback_id(text)
}

/// The parameter `url`: in the query, otherwise in a form.
async fn url(gateway: &Gateway, parts: &Parts, body: Body) -> Result<String, Refusal> {
    if let Some(url) = parameter(parts.uri.query().unwrap_or_default(), "url") {
        return Ok(url?);
    }
    if !is_form(&parts.headers) {
        return Err(CallbackRefusal::MissingUrl.into());
    }
    let form = read_body(parts, body, FORM_BYTES_MAX, &gateway.timeouts).await?;
    let form = str::from_utf8(&form).unwrap_or_default();
    Ok(parameter(form, "url").ok_or(CallbackRefusal::MissingUrl)??)
}

fn is_form(headers: &HeaderMap) -> bool {
    let sent = headers.get(header::CONTENT_TYPE);
    let text = sent.and_then(|value| value.to_str().ok()).unwrap_or("");
    let media_type = text.split(';').next().unwrap_or_default().trim();
    media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded")
}

/// The first parameter of a name in a query or form (RFC 1866 §8.2.1).
fn parameter(text: &str, name: &str) -> Option<Result<String, UrlError>> {
    let mut pairs = text
        .split('&')
        .map(|pair| pair.split_once('=').unwrap_or((pair, "")));
    let (_, value) = pairs.find(|(key, _)| decode(key).as_deref() == Ok(name))?;
    Some(decode(value))
}

fn decode(text: &str) -> Result<String, UrlError> {
    let spaced = text.replace('+', " ");
    let decoded = percent_decode_str(&spaced).decode_utf8();
    decoded.map(Into::into).map_err(|_| UrlError::Unreadable)
}

/// The reference's events (wire §18.3).
fn log_refusal(refusal: &CallbackRefusal, participant: &Participant, id: &CallbackId, url: &str) {
    let CallbackRefusal::Url(error) = refusal else {
        return;
    };
    let (country, message) = (participant.country, error.event());
    let (url, uri) = (redact_url(url), url.parse::<http::Uri>().ok());
    let host = uri.as_ref().and_then(http::Uri::host).unwrap_or("");
    tracing::info!(%country, callbackId = id.as_str(), url, host, "{message}");
}

/// A subscription as it is sent. DE looks for a member `id`, which the reference does not send
/// either, and subscribes again whenever it is missing: so it is missing here, too.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownSubscription<'a> {
    callback_id: &'a str,
    url: &'a str,
}

impl<'a> ShownSubscription<'a> {
    fn new(subscription: &'a Subscription) -> Self {
        Self {
            callback_id: subscription.callback_id.as_str(),
            url: &subscription.url,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_the_url_in_a_query_or_form() {
        let url = |text| parameter(text, "url").map(Result::ok);
        let expected = Some(Some("https://h/p".to_owned()));
        for text in [
            "url=https://h/p",
            "url=https%3A%2F%2Fh%2Fp",
            "a=b&url=https://h/p&url=https://other",
            "%75rl=https%3a//h/p",
        ] {
            assert_eq!(url(text), expected, "{text}");
        }
        assert_eq!(url("url"), Some(Some(String::new())));
        assert_eq!(url("url=a+b%2B"), Some(Some("a b+".to_owned())));
        assert_eq!(
            url("url=https://h/?a=b"),
            Some(Some("https://h/?a=b".to_owned()))
        );
        assert_eq!(url("url=%ff"), Some(None));
        for text in ["", "urls=x", "URL=x", "x=url"] {
            assert_eq!(url(text), None, "{text}");
        }
    }
}
