//! Callback subscriptions in the SQL that both databases share.
//!
//! Assignments of an UPDATE stand in an order that does not matter to SQLite and does to MySQL,
//! which evaluates them from left to right: what reads a column stands before what changes it.

use std::ops::RangeInclusive;

use super::columns::{Rows, batch_tag, callback_id, country, number_or_0};
use super::session::Store;
use crate::database::{Connection, Param, Row, SqlError};
use crate::domain::{BatchTag, CallbackId, Country, Day, UnixMillis};
use crate::limits;

/// A subscription, as its owner sees it: while it is enabled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    /// Its name.
    pub callback_id: CallbackId,
    /// Whom to tell.
    pub url: Box<str>,
}

/// A subscription, as operators see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SubscriptionState {
    /// Whose.
    pub country: Country,
    /// Its name.
    pub callback_id: CallbackId,
    /// Whom to tell.
    pub url: Box<str>,
    /// Since when it is disabled, if it is.
    pub disabled_at: Option<UnixMillis>,
    /// Attempts in a row that failed.
    pub failed_attempts: u32,
    /// The last of them.
    pub last_failure: Option<LastFailure>,
    /// The download batch to be told next, if there is one that can still be downloaded.
    pub next_batch: Option<BatchTag>,
    /// When that is to be tried at the earliest; the epoch for at once.
    pub next_attempt_at: UnixMillis,
    /// How many download batches are to be told.
    pub batches_behind: u64,
}

/// Why a subscriber was not told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LastFailure {
    /// When, by the database's clock.
    pub at: UnixMillis,
    /// What was wrong, at most [`limits::CALLBACK_REASON_CHARACTERS_MAX`] characters.
    pub reason: Box<str>,
}

/// What became of a wish to subscribe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Subscribed {
    /// The subscription is as wished, and enabled.
    Taken,
    /// The country has as many subscriptions as it may have; nothing was done.
    TooMany,
}

/// All subscriptions in numbers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Summary {
    /// Subscriptions that are told of new download batches.
    pub active: u64,
    /// Subscriptions that failed too often.
    pub disabled: u64,
    /// How many download batches the furthest active one is behind. Those too old to be
    /// downloaded count until it moves on.
    pub batches_behind_max: u64,
}

/// Under which terms deliveries are claimed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimTerms {
    /// Most deliveries to claim.
    pub(crate) count_max: u64,
    /// When the claims expire.
    pub(crate) ttl_ms: u64,
    /// The oldest day that can still be downloaded.
    pub(crate) oldest_day: Day,
}

/// A delivery that this gateway has claimed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DueDelivery {
    pub(crate) country: Country,
    pub(crate) callback_id: CallbackId,
    pub(crate) url: Box<str>,
    pub(crate) failed_attempts: u32,
    pub(crate) ordinal: u64,
    pub(crate) tag: BatchTag,
    pub(crate) token: u64,
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

const DELETE_FAILURE: &str = "DELETE FROM callback_failure WHERE country = ? AND callback_id = ?";

/// A subscription that may have something to be told.
struct Candidate {
    country: Country,
    callback_id: CallbackId,
    url: Box<str>,
    delivered_ordinal: u64,
    failed_attempts: u32,
}

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

    /// Adds a subscription behind the newest download batch, or changes the one with this id.
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

    /// Removes a subscription, and gives whether it was disabled; nothing if there is none.
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
            let from = (*delivered_ordinal + 1).max(*range.start());
            state.batches_behind = (*range.end() + 1).saturating_sub(from);
            state.next_batch = self.first_batch(from)?.map(|(_, tag)| tag);
        }
        Ok(states.into_iter().map(|(state, _)| state).collect())
    }

    /// Enables a subscription, which goes on where it was; false if there is none.
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
        let (count, disabled, newest) = (row.number(0)?, row.number(1)?, row.number(3)?);
        let furthest = row.optional_number(2)?.unwrap_or(newest);
        Ok(Summary {
            active: count.saturating_sub(disabled),
            disabled,
            batches_behind_max: newest.saturating_sub(furthest),
        })
    }

    /// Claims deliveries that are due, those first that have waited longest. Each claim is one
    /// statement, which only one gateway can win.
    pub(crate) fn claim_deliveries(
        &mut self,
        terms: &ClaimTerms,
        mut token: impl FnMut() -> u64,
    ) -> Result<Vec<DueDelivery>, SqlError> {
        let mut claimed = Vec::new();
        let Some(downloadable) = self.downloadable(terms.oldest_day)? else {
            return Ok(claimed);
        };
        for candidate in self.candidates(terms, *downloadable.end())? {
            let from = (candidate.delivered_ordinal + 1).max(*downloadable.start());
            let Some((ordinal, tag)) = self.first_batch(from)? else {
                continue;
            };
            let token = token();
            match self.claim(&candidate, token, terms.ttl_ms) {
                Ok(true) => claimed.push(DueDelivery {
                    country: candidate.country,
                    callback_id: candidate.callback_id,
                    url: candidate.url,
                    failed_attempts: candidate.failed_attempts,
                    ordinal,
                    tag,
                    token,
                }),
                // Another gateway has it, or is about to.
                Ok(false) | Err(SqlError::Conflict(_)) => {}
                // What is claimed already is delivered; the rest is claimed next time.
                Err(error) if !claimed.is_empty() => {
                    tracing::warn!(%error, "cannot claim a callback");
                    break;
                }
                Err(error) => return Err(error),
            }
        }
        Ok(claimed)
    }

    /// From which ordinal to which download batches can be downloaded: days ascend along the
    /// chain.
    fn downloadable(&mut self, oldest: Day) -> Result<Option<RangeInclusive<u64>>, SqlError> {
        let first = "SELECT ordinal FROM download_batch WHERE day >= ? \
             ORDER BY day, number LIMIT 1";
        let day = u64::from(oldest.compact_number());
        let Some(first) = self.0.first(first, &[day.into()])? else {
            return Ok(None);
        };
        let newest = self.newest_download_batch()?;
        let first = first.number(0)?;
        Ok(newest.map(|newest| first..=newest.ordinal))
    }

    fn candidates(
        &mut self,
        terms: &ClaimTerms,
        newest_ordinal: u64,
    ) -> Result<Vec<Candidate>, SqlError> {
        if terms.count_max == 0 {
            return Ok(Vec::new());
        }
        let now_ms = self.0.dialect().now_ms;
        let sql = format!(
            "SELECT country, callback_id, url, delivered_ordinal, failed_attempts \
             FROM callback_subscription WHERE disabled_at_ms IS NULL \
             AND (claimed_until_ms < {now_ms} OR claimed_until_ms > {now_ms} + ?) \
             AND (next_attempt_at_ms <= {now_ms} OR next_attempt_at_ms > {now_ms} + ?) \
             AND delivered_ordinal < ? \
             ORDER BY next_attempt_at_ms, country, callback_id LIMIT ?"
        );
        let params = [
            impossible_ms().into(),
            impossible_ms().into(),
            newest_ordinal.into(),
            terms.count_max.into(),
        ];
        self.0.rows(&sql, &params, |row| {
            SUBSCRIPTIONS.read(row, |row| {
                Ok(Candidate {
                    country: country(row, 0)?,
                    callback_id: callback_id(row, 1)?,
                    url: row.text(2)?.into(),
                    delivered_ordinal: row.number(3)?,
                    failed_attempts: row.number_32(4)?,
                })
            })
        })
    }

    /// The first download batch from an ordinal on.
    fn first_batch(&mut self, from: u64) -> Result<Option<(u64, BatchTag)>, SqlError> {
        let sql = "SELECT ordinal, day, number FROM download_batch \
             WHERE ordinal >= ? ORDER BY ordinal LIMIT 1";
        let row = self.0.first(sql, &[from.into()])?;
        let read = |row: &mut Row| Ok((row.number(0)?, batch_tag(row, 1)?));
        row.map(|row| BATCHES.read(row, read)).transpose()
    }

    /// Takes the delivery, unless something about it has changed since it was read.
    fn claim(&mut self, found: &Candidate, token: u64, ttl_ms: u64) -> Result<bool, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let sql = format!(
            "UPDATE callback_subscription SET claim_token = ?, claimed_until_ms = {now_ms} + ? \
             WHERE country = ? AND callback_id = ? AND url = ? AND delivered_ordinal = ? \
             AND disabled_at_ms IS NULL \
             AND (claimed_until_ms < {now_ms} OR claimed_until_ms > {now_ms} + ?)"
        );
        let [country, callback_id] = key(&found.country, &found.callback_id);
        let params = [
            token.into(),
            ttl_ms.into(),
            country,
            callback_id,
            (&*found.url).into(),
            found.delivered_ordinal.into(),
            impossible_ms().into(),
        ];
        Ok(self.0.execute(&sql, &params)? == 1)
    }

    /// Moves the cursor behind what was delivered and gives the claim back; false if the claim was
    /// not ours any more: nothing was done.
    pub(crate) fn record_delivered(&mut self, delivery: &DueDelivery) -> Result<bool, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let sql = format!(
            "UPDATE callback_subscription SET delivered_ordinal = ?, failed_attempts = 0, \
             next_attempt_at_ms = {now_ms}, claim_token = 0, claimed_until_ms = 0 \
             WHERE country = ? AND callback_id = ? AND claim_token = ?"
        );
        let [country, callback_id] = key(&delivery.country, &delivery.callback_id);
        let params = [
            delivery.ordinal.into(),
            country,
            callback_id,
            delivery.token.into(),
        ];
        Ok(self.0.execute(&sql, &params)? == 1)
    }

    /// Counts a failed attempt and gives the claim back; disables the subscription at the last of
    /// `attempts_max`, and gives whether it is disabled now. Nothing if the claim was not ours any
    /// more: nothing was done.
    pub(crate) fn record_failed(
        &mut self,
        delivery: &DueDelivery,
        wait_ms: u64,
        attempts_max: u32,
        reason: &str,
    ) -> Result<Option<bool>, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let update = format!(
            "UPDATE callback_subscription SET disabled_at_ms = CASE \
             WHEN failed_attempts + 1 >= ? THEN {now_ms} ELSE NULL END, \
             failed_attempts = failed_attempts + 1, next_attempt_at_ms = {now_ms} + ?, \
             claim_token = 0, claimed_until_ms = 0 \
             WHERE country = ? AND callback_id = ? AND claim_token = ?"
        );
        let [country, callback_id] = key(&delivery.country, &delivery.callback_id);
        let kept = reason
            .char_indices()
            .nth(limits::CALLBACK_REASON_CHARACTERS_MAX);
        let reason = &reason[..kept.map_or(reason.len(), |(end, _)| end)];
        let params = [
            u64::from(attempts_max).into(),
            wait_ms.into(),
            country,
            callback_id,
            delivery.token.into(),
        ];
        self.0.transaction(|c| {
            if c.execute(&update, &params)? != 1 {
                return Ok(None);
            }
            c.execute(DELETE_FAILURE, &[country, callback_id])?;
            let insert = format!(
                "INSERT INTO callback_failure (country, callback_id, failed_at_ms, reason) \
                 VALUES (?, ?, {now_ms}, ?)"
            );
            c.execute(&insert, &[country, callback_id, reason.into()])?;
            let read = "SELECT disabled_at_ms FROM callback_subscription \
                 WHERE country = ? AND callback_id = ?";
            let row = c.first(read, &[country, callback_id])?;
            let disabled_at = row.map(|row| row.optional_number(0)).transpose()?;
            Ok(disabled_at.map(|at| at.is_some()))
        })
    }
}

/// Changes and enables the subscription with this id; false if there is none. The URL that it has
/// changes nothing of one that is enabled: whoever repeats its PUT does not end the wait after a
/// failure. Another URL takes a delivery that is under way back: the new receiver shall hear of that
/// batch, too. One that was disabled goes on where it was, as when an operator enables it: what was
/// cut meanwhile and can still be downloaded is told.
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
pub(super) fn insert_subscription(
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

const SUBSCRIPTIONS: Rows = Rows {
    table: "callback_subscription",
    columns: &[
        "country",
        "callback_id",
        "url",
        "delivered_ordinal",
        "failed_attempts",
    ],
    key: &[0, 1],
};

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
        "failed_at_ms",
        "reason",
    ],
    key: &[0, 1],
};

const BATCHES: Rows = Rows {
    table: "download_batch",
    columns: &["ordinal", "day", "number"],
    key: &[0],
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

/// The primary key.
fn key<'a>(country: &'a Country, callback_id: &'a CallbackId) -> [Param<'a>; 2] {
    [country.as_str().into(), callback_id.as_str().into()]
}

/// No instant lies further in the future, unless the database's clock was set back.
fn impossible_ms() -> u64 {
    u64::try_from(limits::CALLBACK_WAIT_MAX.as_millis() * 2).expect("two days")
}
