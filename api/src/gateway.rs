//! The state that request handlers share.

use std::sync::Arc;

use axum::body::Body;
use engine::{Clock, Engine};
use http::Response;
use http::request::Parts;

use crate::participant::{self, Arrival, AuthenticationError, Participant, ProxyPeer, ProxyTrust};
use crate::response::{self, Refusal};
use crate::slots::Slot;
use crate::timeouts::Timeouts;
use crate::url_checks::UrlChecks;
use crate::watchdog::InFlight;

/// Everything that a handler may need.
#[derive(Debug)]
pub(crate) struct Gateway {
    pub(crate) engine: Arc<Engine>,
    pub(crate) clock: Arc<dyn Clock>,
    /// Set when the proxy port is open.
    pub(crate) proxy_trust: Option<ProxyTrust>,
    pub(crate) url_checks: UrlChecks,
    pub(crate) body_bytes_max: usize,
    pub(crate) timeouts: Timeouts,
    /// Whether participants are shown the API description.
    pub(crate) describes_api: bool,
}

impl Gateway {
    /// Authenticates the caller and logs the outcome. Success also gives the connection the long
    /// keep-alive time.
    ///
    /// # Errors
    /// [`AuthenticationError`].
    pub(crate) fn authenticate(&self, parts: &Parts) -> Result<Participant, AuthenticationError> {
        let arrival = arrival(parts);
        let trust = self.engine.trust();
        let proxy_trust = self.proxy_trust.as_ref();
        let now = self.clock.now();
        let headers = &parts.headers;
        let outcome = participant::authenticate(arrival, headers, proxy_trust, &trust, now);
        match &outcome {
            Ok(participant) => {
                participant::log(participant, arrival, headers, proxy_trust);
                note_participant(parts, arrival, participant);
            }
            Err(error) => {
                let country = participant::shown_country(arrival, headers, proxy_trust, &trust);
                let reason = response::code(&Refusal::Authentication(*error));
                let why = (reason, country);
                participant::log_failure(*error, why, arrival, headers, proxy_trust);
            }
        }
        outcome
    }

    /// Looks for the proxy's secret, if there is one, before anything else sees the request: a
    /// request without it is not trusted.
    pub(crate) fn take_proxy_secret(&self, parts: &mut Parts) {
        let Some(proxy_trust) = &self.proxy_trust else {
            return;
        };
        if let Some(arrival @ Arrival::Proxy(_)) = parts.extensions.get_mut::<Arrival>()
            && !proxy_trust.take_secret(&mut parts.headers)
        {
            *arrival = Arrival::Proxy(ProxyPeer::WithoutSecret);
        }
    }

    /// Whether a peer is a proxy whose identity headers are trusted.
    pub(crate) fn trusts_proxy(&self, peer: ProxyPeer) -> bool {
        let proxy_trust = self.proxy_trust.as_ref();
        proxy_trust.is_some_and(|proxy_trust| proxy_trust.trusts(peer))
    }

    /// The error response for a refusal of a request; counts it, also for the participant whose
    /// certificate the request shows.
    pub(crate) fn refuse(&self, parts: &Parts, refusal: &Refusal) -> Response<Body> {
        let trust = self.engine.trust();
        let proxy_trust = self.proxy_trust.as_ref();
        let country =
            participant::shown_country(arrival(parts), &parts.headers, proxy_trust, &trust);
        response::refuse(refusal, country, self.clock.now())
    }
}

/// How a request arrived. One that came through none of our listeners is unauthenticated.
fn arrival(parts: &Parts) -> Arrival {
    let arrival = parts.extensions.get::<Arrival>().copied();
    arrival.unwrap_or(Arrival::Operations)
}

/// Applies the long keep-alive to the connection, and counts it against the participant's share. A
/// proxy's connection is not counted: it may carry requests of several participants.
fn note_participant(parts: &Parts, arrival: Arrival, participant: &Participant) {
    if let Some(in_flight) = parts.extensions.get::<Arc<InFlight>>() {
        in_flight.authenticated();
    }
    if let (Arrival::MutualTls(_), Some(slot)) = (arrival, parts.extensions.get::<Arc<Slot>>()) {
        slot.identify(participant.country);
    }
}
