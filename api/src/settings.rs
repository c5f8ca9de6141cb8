//! Configuration: one TOML file, overridden by `EFGS__SECTION__KEY` in the environment.
//!
//! Every setting is declared once, as a field of a section's type: its documentation, default and
//! range. From these declarations come the reading of the file and of the environment, the errors
//! ([`source`]), the template that `efgs init` writes and the list in `efgs help serve`
//! ([`mod@template`]). Sections are declared in [`sections`], `[connections]` in [`connections`],
//! `[database]` in [`database`], `[proxy]` in [`proxy`], `[callback]` in [`callback`], `[practice]` in
//! [`practice`], and `[upload]`, `[bundle]` and `[download]` in
//! [`engine::settings`].
//!
//! Messages name the setting and where it was given, say what it must be, and never show what it
//! was: it may be a secret.

mod callback;
mod connections;
mod database;
mod database_checks;
mod exposure;
mod gateway;
mod network;
mod permissions;
mod practice;
mod practice_checks;
mod proxy;
mod proxy_checks;
mod schema;
mod sections;
mod source;
mod template;
#[cfg(test)]
mod tests;
mod text;

pub use callback::{CallbackProxy, CallbackSettings};
pub use connections::ConnectionSettings;
pub use gateway::{AdminSettings, PublicSettings, Settings};
pub use network::{Network, NetworkError};
pub use practice::PracticeSettings;
pub use proxy::{ProxySecret, ProxySettings, ProxySocket};
pub use sections::{LogFormat, LogSettings};
pub use source::{SettingsError, environment};
pub use template::{Given, help, template};
