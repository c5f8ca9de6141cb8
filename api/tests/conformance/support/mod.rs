//! What rows, scenarios and clients share: gateways on either database, participants with real
//! keys, raw sockets.

pub(crate) mod backend;
pub(crate) mod batch;
pub(crate) mod cms;
pub(crate) mod pki;
pub(crate) mod raw;
pub(crate) mod vectors;
pub(crate) mod world;
