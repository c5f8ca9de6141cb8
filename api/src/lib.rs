//! The gateway: HTTP, TLS, authentication, configuration and the admin command line.

pub mod settings;
