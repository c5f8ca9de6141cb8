//! The API description on the participants' ports: for those who build a client, from the gateway that
//! it will talk to. Anyone who is not a participant is not shown it.

use axum::body::Body;
use http::Response;
use http::request::Parts;

use crate::gateway::Gateway;
use crate::negotiate::PLAIN_JSON;
use crate::openapi::describe::{HTML, PLAIN_TEXT};
use crate::openapi::{self, Document};
use crate::response::{self, Refusal};

/// What is shown.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Shown {
    Page,
    Document,
    Proto,
}

/// Answers with the description, to participants only; `document` makes it.
///
/// # Errors
/// [`Refusal::Authentication`].
pub(crate) fn answer(
    gateway: &Gateway,
    parts: &Parts,
    shown: Shown,
    document: impl FnOnce() -> Document,
) -> Result<Response<Body>, Refusal> {
    let participant = gateway.authenticate(parts)?;
    Ok(match shown {
        Shown::Page => response::text(HTML, openapi::PAGE),
        Shown::Proto => response::text(PLAIN_TEXT, openapi::PROTO),
        Shown::Document => {
            let today = gateway.clock.now().day();
            response::text(PLAIN_JSON, document().on(today, participant.country))
        }
    })
}
