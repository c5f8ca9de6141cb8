//! Subscriptions as operators see and change them.

use super::rows::key;
use crate::database::{Row, SqlError};
use crate::domain::{BatchTag, CallbackId, Country, Day, UnixMillis};
use crate::store::columns::{Rows, callback_id, country};
use crate::store::session::Store;

/// A subscription, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionState {
    /// Whose.
    pub country: Country,
    /// Its name.
    pub callback_id: CallbackId,
    /// Where new download batches are announced.
    pub url: Box<str>,
    /// Since when it is disabled, if it is.
    pub disabled_at: Option<UnixMillis>,
    /// Attempts in a row that failed.
    pub failed_attempts: u32,
    /// The last of them.
    pub last_failure: Option<LastFailure>,
    /// The download batch to be announced next, if there is one that can still be downloaded.
    pub next_batch: Option<BatchTag>,
    /// When that is to be tried at the earliest; the epoch for at once.
    pub next_attempt_at: UnixMillis,
    /// How many download batches are to be announced.
    pub batches_behind: u64,
}

/// Why a delivery failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// When, by the database's clock.
    pub at: UnixMillis,
    /// What was wrong, at most [`crate::limits::CALLBACK_REASON_CHARACTERS_MAX`] characters.
    pub reason: Box<str>,
}

/// All subscriptions in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Subscriptions that are notified of new download batches.
    pub active: u64,
    /// Subscriptions that failed too often.
    pub disabled: u64,
    /// How many download batches the furthest active one is behind. Those too old to be
    /// downloaded count until it moves on.
    pub batches_behind_max: u64,
}

impl Store {
    /// All subscriptions with what operators want to know, in the order of country and id.
    pub(crate) fn subscription_states(
        &mut self,
        oldest: Day,
    ) -> Result<Vec<SubscriptionState>, SqlError> {
        let sql = "SELECT s.country, s.callback_id, s.url, s.disabled_at_ms, s.failed_attempts, \
             s.next_attempt_at_ms, s.delivered_ordinal, f.failed_at_ms, COALESCE(f.reason, '') \
             FROM callback_subscription s LEFT JOIN callback_failure f \
             ON f.country = s.country AND f.callback_id = s.callback_id \
             ORDER BY s.country, s.callback_id";
        let downloadable = self.downloadable(oldest)?;
        let mut states = self.0.rows(sql, &[], subscription_state)?;
        for (state, delivered_ordinal) in &mut states {
            let Some(range) = &downloadable else {
                continue;
            };
            let from = delivered_ordinal.saturating_add(1).max(*range.start());
            state.batches_behind = range.end().saturating_add(1).saturating_sub(from);
            state.next_batch = self.first_batch(from)?.map(|(_, tag)| tag);
        }
        Ok(states.into_iter().map(|(state, _)| state).collect())
    }

    /// Enables a subscription, which continues where it was; false if there is none.
    pub(crate) fn enable_subscription(
        &mut self,
        country: Country,
        callback_id: &CallbackId,
    ) -> Result<bool, SqlError> {
        let sql = "UPDATE callback_subscription SET failed_attempts = 0, next_attempt_at_ms = 0, \
             disabled_at_ms = NULL WHERE country = ? AND callback_id = ?";
        self.change(country, callback_id, sql)
    }

    /// Disables a subscription, until it is enabled or its participant PUTs it again; takes a
    /// delivery that is under way back. False if there is none.
    pub(crate) fn disable_subscription(
        &mut self,
        country: Country,
        callback_id: &CallbackId,
    ) -> Result<bool, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let sql = format!(
            "UPDATE callback_subscription SET disabled_at_ms = COALESCE(disabled_at_ms, {now_ms}), \
             claim_token = 0, claimed_until_ms = 0 WHERE country = ? AND callback_id = ?"
        );
        self.change(country, callback_id, &sql)
    }

    /// Changes a subscription; false if there is none. Whether a row is there is asked, since
    /// servers may count only rows that a statement makes different.
    fn change(
        &mut self,
        country: Country,
        callback_id: &CallbackId,
        sql: &str,
    ) -> Result<bool, SqlError> {
        let key = key(&country, callback_id);
        self.0.transaction(|c| {
            c.execute(sql, &key)?;
            let read = "SELECT 1 FROM callback_subscription WHERE country = ? AND callback_id = ?";
            Ok(c.first(read, &key)?.is_some())
        })
    }

    /// How many subscriptions there are, and how far behind the furthest is.
    pub(crate) fn callback_summary(&mut self) -> Result<Summary, SqlError> {
        let sql = "SELECT COUNT(*), COUNT(disabled_at_ms), \
             MIN(CASE WHEN disabled_at_ms IS NULL THEN delivered_ordinal END), \
             (SELECT COALESCE(MAX(ordinal), 0) FROM download_batch) FROM callback_subscription";
        let row = self.0.first(sql, &[])?;
        let Some(row) = row else {
            return Ok(Summary::default());
        };
        let (count, disabled, newest) = (row.counted(0)?, row.counted(1)?, row.counted(3)?);
        // A cursor that nobody has written is its own subscription's trouble.
        let furthest = row.optional_number(2).ok().flatten().unwrap_or(newest);
        Ok(Summary {
            active: count.saturating_sub(disabled),
            disabled,
            batches_behind_max: newest.saturating_sub(furthest),
        })
    }
}

const STATES: Rows = Rows {
    table: "callback_subscription",
    columns: &[
        "country",
        "callback_id",
        "url",
        "disabled_at_ms",
        "failed_attempts",
        "next_attempt_at_ms",
        "delivered_ordinal",
        "failed_at_ms of callback_failure",
        "reason of callback_failure",
    ],
    key: &[0, 1],
};

fn subscription_state(row: Row) -> Result<(SubscriptionState, u64), SqlError> {
    STATES.read(row, |row| {
        let failed_attempts = row.number_32(4)?;
        let disabled_at = row.optional_number(3)?.map(UnixMillis);
        let failed_at = row.optional_number(7)?.map(UnixMillis);
        // What failed before the last success is over.
        let failed_at = failed_at.filter(|_| failed_attempts > 0 || disabled_at.is_some());
        let reason: Box<str> = row.text(8)?.into();
        let state = SubscriptionState {
            country: country(row, 0)?,
            callback_id: callback_id(row, 1)?,
            url: row.text(2)?.into(),
            disabled_at,
            failed_attempts,
            last_failure: failed_at.map(|at| LastFailure { at, reason }),
            next_batch: None,
            next_attempt_at: UnixMillis(row.number(5)?),
            batches_behind: 0,
        };
        Ok((state, row.number(6)?))
    })
}
