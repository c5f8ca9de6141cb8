//! The gateway: HTTP, TLS, authentication, configuration and the admin command line. Futures, no
//! SQL; the engine does the work on its own threads.

mod attention;
mod audit;
mod bounds;
mod callback;
mod connection;
pub mod delivery;
mod description;
mod download;
#[cfg(any(test, debug_assertions))]
pub mod fuzzing;
mod gateway;
mod header_case;
mod lifecycle;
mod message;
mod negotiate;
mod openapi;
mod operations;
mod participant;
mod participant_counters;
pub mod pem_text;
mod possession;
mod request_body;
mod request_date;
mod response;
mod router;
mod segment_body;
pub mod server;
pub mod settings;
mod shares;
pub mod signals;
mod slots;
mod stream_task;
pub mod telemetry;
mod timeouts;
mod tls;
mod upload;
mod url_checks;
mod watchdog;
