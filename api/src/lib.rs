//! The gateway: HTTP, TLS, authentication, configuration and the admin command line. Futures, no
//! SQL; the engine does the work on its own threads.

mod audit;
mod callback;
mod connection;
pub mod delivery;
mod download;
mod gateway;
mod header_case;
#[cfg(test)]
mod hostile;
mod negotiate;
mod openapi;
mod operations;
mod participant;
mod possession;
mod request_body;
mod request_date;
mod response;
mod router;
pub mod server;
pub mod settings;
pub mod signals;
pub mod telemetry;
mod timeouts;
mod tls;
mod upload;
mod url_checks;
mod watchdog;
