//! The load generator from outside: signatures against OpenSSL, the verifier against tampered
//! deliveries, the client against the bytes on the wire, local servers against kill -9.

#![allow(
    clippy::unwrap_used,
    reason = "helpers of tests are tests, which clippy does not see here"
)]

mod backend;
mod client;
mod load;
mod local;
mod output;
mod plan;
mod print;
mod run_command;
mod signer;
mod support;
mod verifier;
mod verify_command;
