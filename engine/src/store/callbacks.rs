//! Callback subscriptions in the SQL that both databases share.
//!
//! Assignments of an UPDATE stand in an order that does not matter to SQLite and does to MySQL,
//! which evaluates them from left to right: what reads a column stands before what changes it.

mod claims;
mod rows;
mod states;
mod subscriptions;

pub(crate) use claims::{ClaimTerms, DueDelivery};
pub use states::{LastFailure, SubscriptionState, Summary};
pub(crate) use subscriptions::ImportedSubscription;
pub(super) use subscriptions::insert_subscription;
pub use subscriptions::{Subscribed, Subscription};
