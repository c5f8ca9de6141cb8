//! The verifier, against correct and tampered deliveries. What the gateway
//! should serve is written down here from the protocol: each other participant's uploads, whole and
//! in the same order.

mod audits;
mod deliveries;
mod fixture;
