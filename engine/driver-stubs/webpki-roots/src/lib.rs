//! The driver `mysql` 28 trusts the public web's roots beside the CA that it is given, and has no
//! option against it. A server's certificate from any public authority would do. So there are none.
#![no_std]

use rustls_pki_types::TrustAnchor;

/// None.
pub const TLS_SERVER_ROOTS: &[TrustAnchor<'static>] = &[];
