//! The console: all gateways of an installation on one page.
//!
//! - *In*: the metrics of this process, sampled every 5 seconds; the database's statistics, while somebody
//!   looks; what the other gateways say about themselves, which they write to the database.
//! - *Out*: the page at `/` and its figures at `/console.json`.
//! - *Assumes*: nothing: without a database it shows what this gateway knows.
//! - *Runs on*: one tokio task; the database is asked on a thread for blocking work, by one look at a time,
//!   however many pages are open.

mod delay;
mod figures;
mod gateways;
mod history;
mod last_hour;
pub(super) mod page;
mod participants;
mod reading;
mod refusals;
mod sampling;
mod sentence;
mod sentences;
mod state;
mod task;
mod view;

pub(crate) use state::Console;
pub(crate) use task::run;
pub(super) use view::{describe_figures, look};
