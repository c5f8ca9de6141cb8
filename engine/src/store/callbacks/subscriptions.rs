//! Subscriptions as their participants see and change them.

use super::rows::{DELETE_FAILURE, SUBSCRIPTIONS, key};
use crate::database::{Connection, Param, SqlError};
use crate::domain::{CallbackId, Country, UnixMillis};
use crate::limits;
use crate::store::columns::{callback_id, number_or_0};
use crate::store::session::Store;

/// A subscription, as its owner sees it: while it is enabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its name.
    pub callback_id: CallbackId,
    /// Where new download batches are announced.
    pub url: Box<str>,
}

/// The outcome of a subscription request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// The subscription is as wished, and enabled.
    Taken,
    /// The country has as many subscriptions as it may have; nothing was done.
    TooMany,
}

/// A subscription of a reference database.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ImportedSubscription {
    pub(crate) country: Country,
    pub(crate) callback_id: CallbackId,
    pub(crate) url: Box<str>,
    pub(crate) created_at: UnixMillis,
    pub(crate) delivered_ordinal: u64,
}

const INSERT_SUBSCRIPTION: &str = "INSERT INTO callback_subscription (country, callback_id, url, \
     created_at_ms, changed_at_ms, delivered_ordinal, failed_attempts, next_attempt_at_ms, \
     disabled_at_ms, claim_token, claimed_until_ms) VALUES (?, ?, ?, ?, ?, ?, 0, 0, NULL, 0, 0)";

impl Store {
    /// The enabled subscriptions of a country, in the order of their ids.
    pub(crate) fn callback_subscriptions(
        &mut self,
        country: Country,
    ) -> Result<Vec<Subscription>, SqlError> {
        let sql = "SELECT country, callback_id, url FROM callback_subscription \
             WHERE country = ? AND disabled_at_ms IS NULL ORDER BY callback_id";
        self.0.rows(sql, &[country.as_str().into()], |row| {
            SUBSCRIPTIONS.read(row, |row| {
                Ok(Subscription {
                    callback_id: callback_id(row, 1)?,
                    url: row.text(2)?.into(),
                })
            })
        })
    }

    /// Adds a subscription after the newest download batch, or changes the one with this id.
    pub(crate) fn subscribe(
        &mut self,
        country: Country,
        callback_id: &CallbackId,
        url: &str,
        now: UnixMillis,
    ) -> Result<Subscribed, SqlError> {
        loop {
            let subscribed = self.0.transaction(|c| {
                if change_subscription(c, country, callback_id, url, now)? {
                    return Ok(Subscribed::Taken);
                }
                add_subscription(c, country, callback_id, url, now)
            });
            match subscribed {
                // Another request was faster by a moment: now there is one to change.
                Err(SqlError::Duplicate(_)) => {}
                other => return other,
            }
        }
    }

    /// Removes a subscription, and returns whether it was disabled; nothing if there is none.
    pub(crate) fn unsubscribe(
        &mut self,
        country: Country,
        callback_id: &CallbackId,
    ) -> Result<Option<bool>, SqlError> {
        let key = key(&country, callback_id);
        self.0.transaction(|c| {
            let read = "SELECT disabled_at_ms FROM callback_subscription \
                 WHERE country = ? AND callback_id = ?";
            let found = c.first(read, &key)?;
            remove_subscription(c, &key)?;
            let disabled_at = found.map(|row| row.optional_number(0)).transpose()?;
            Ok(disabled_at.map(|at| at.is_some()))
        })
    }
}

/// Changes and enables the subscription with this id; false if there is none. Repeating the
/// URL of an enabled subscription changes nothing: a repeated PUT does not cut short the wait after a
/// failure. A new URL revokes a delivery in progress, since the new receiver must be notified of that
/// batch, too. A disabled subscription continues where it stopped, as when an operator enables it:
/// batches that were cut meanwhile and can still be downloaded are announced.
fn change_subscription(
    c: &mut dyn Connection,
    country: Country,
    callback_id: &CallbackId,
    url: &str,
    now: UnixMillis,
) -> Result<bool, SqlError> {
    let [country, callback_id] = key(&country, callback_id);
    let read = "SELECT url FROM callback_subscription WHERE country = ? AND callback_id = ?";
    if c.first(read, &[country, callback_id])?.is_none() {
        return Ok(false);
    }
    let change = "UPDATE callback_subscription SET \
         claim_token = CASE WHEN url = ? THEN claim_token ELSE 0 END, \
         claimed_until_ms = CASE WHEN url = ? THEN claimed_until_ms ELSE 0 END, \
         failed_attempts = CASE WHEN url = ? AND disabled_at_ms IS NULL \
         THEN failed_attempts ELSE 0 END, \
         next_attempt_at_ms = CASE WHEN url = ? AND disabled_at_ms IS NULL \
         THEN next_attempt_at_ms ELSE 0 END, \
         url = ?, changed_at_ms = ?, disabled_at_ms = NULL \
         WHERE country = ? AND callback_id = ?";
    let url = url.into();
    let params = [url, url, url, url, url, now.0.into(), country, callback_id];
    c.execute(change, &params)?;
    Ok(true)
}

fn add_subscription(
    c: &mut dyn Connection,
    country: Country,
    callback_id: &CallbackId,
    url: &str,
    now: UnixMillis,
) -> Result<Subscribed, SqlError> {
    let [country, callback_id] = key(&country, callback_id);
    let count = "SELECT COUNT(*), (SELECT COALESCE(MAX(ordinal), 0) FROM download_batch) \
         FROM callback_subscription WHERE country = ?";
    let row = c.first(count, &[country])?;
    let (count, newest) = (number_or_0(row.as_ref(), 0)?, number_or_0(row.as_ref(), 1)?);
    if count >= limits::CALLBACKS_PER_COUNTRY_MAX && !remove_longest_disabled(c, &country)? {
        return Ok(Subscribed::TooMany);
    }
    let now = now.0.into();
    c.execute(
        INSERT_SUBSCRIPTION,
        &[country, callback_id, url.into(), now, now, newest.into()],
    )?;
    Ok(Subscribed::Taken)
}

fn remove_subscription(c: &mut dyn Connection, key: &[Param<'_>; 2]) -> Result<(), SqlError> {
    c.execute(DELETE_FAILURE, key)?;
    let sql = "DELETE FROM callback_subscription WHERE country = ? AND callback_id = ?";
    c.execute(sql, key).map(|_| ())
}

/// Makes room for another subscription of a country: its owner cannot, who does not see those that
/// are disabled. False if there is none.
fn remove_longest_disabled(c: &mut dyn Connection, country: &Param<'_>) -> Result<bool, SqlError> {
    let read = "SELECT callback_id FROM callback_subscription \
         WHERE country = ? AND disabled_at_ms IS NOT NULL \
         ORDER BY disabled_at_ms, callback_id LIMIT 1";
    let Some(row) = c.first(read, &[*country])? else {
        return Ok(false);
    };
    let callback_id = callback_id(&row, 0)?;
    remove_subscription(c, &[*country, callback_id.as_str().into()])?;
    Ok(true)
}

/// Adds a subscription of an import; to be done in its last transaction.
pub(in crate::store) fn insert_subscription(
    c: &mut dyn Connection,
    subscription: &ImportedSubscription,
    now: UnixMillis,
) -> Result<(), SqlError> {
    let [country, callback_id] = key(&subscription.country, &subscription.callback_id);
    let params = [
        country,
        callback_id,
        (&*subscription.url).into(),
        subscription.created_at.0.into(),
        now.0.into(),
        subscription.delivered_ordinal.into(),
    ];
    c.execute(INSERT_SUBSCRIPTION, &params).map(|_| ())
}
