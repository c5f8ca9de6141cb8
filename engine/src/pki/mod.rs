//! Certificates, CMS, algorithms: pure functions over bytes (stub, being built).
pub mod certificate;
