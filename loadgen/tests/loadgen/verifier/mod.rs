//! The verifier, against deliveries that are honest and deliveries that are not. What the gateway
//! should serve is written down here from the protocol: each other participant's uploads, whole and
//! in the same order.

mod audits;
mod deliveries;
mod scene;
