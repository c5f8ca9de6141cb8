//! Callbacks (wire §16): the subscription API row by row, and deliveries to receivers
//! that speak real TLS.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

#[path = "../callback_support/mod.rs"]
mod callback_support;
#[path = "../cli_support/mod.rs"]
mod cli_support;
#[path = "../log_sink/mod.rs"]
mod log_sink;

mod addresses;
mod delivery;
mod floods;
mod log_events;
mod outages;
mod several_gateways;
mod shares;
mod subscriptions;
mod trust;

const PUT: &str = "PUT /diagnosiskeys/callback/";
const VERSION: &str = " HTTP/1.1";
