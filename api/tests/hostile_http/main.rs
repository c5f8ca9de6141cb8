//! Hostile participants and peers over real sockets: requests that nobody should send, HTTP/2
//! frames in no order, and attacks on what all share.

#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "tests; seeds and measurements are printed"
)]

#[path = "../cli_support/mod.rs"]
mod cli_support;
#[path = "../description/mod.rs"]
mod description;
#[path = "../support/mod.rs"]
mod support;

mod attacks;
mod frames;
mod pieces;
mod requests;
mod values;

fn number(variable: &str, default: u64) -> u64 {
    let text = std::env::var(variable).ok();
    text.map_or(default, |text| text.parse().unwrap())
}
