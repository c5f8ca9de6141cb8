//! Deliveries: claimed by one gateway, and recorded.

use std::ops::RangeInclusive;

use super::rows::{DELETE_FAILURE, SUBSCRIPTIONS, key};
use crate::database::{Row, SqlError};
use crate::domain::{BatchTag, CallbackId, Country, Day};
use crate::fair_queue::FairQueue;
use crate::limits;
use crate::store::columns::{callback_id, country};
use crate::store::session::Store;

/// Under which terms deliveries are claimed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct ClaimTerms {
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

/// A subscription that may have a delivery due.
struct Candidate {
    country: Country,
    callback_id: CallbackId,
    url: Box<str>,
    delivered_ordinal: u64,
    failed_attempts: u32,
}

impl Store {
    /// Claims deliveries that are due: participants are served in rotation, and of each those come first that have
    /// waited longest. Each claim is one statement, which only one gateway can win. `admit` says
    /// whether a participant may have another delivery under way, and returns the permit.
    pub(crate) fn claim_deliveries<P>(
        &mut self,
        terms: &ClaimTerms,
        mut admit: impl FnMut(Country) -> Option<P>,
        mut token: impl FnMut() -> u64,
    ) -> Result<Vec<(DueDelivery, P)>, SqlError> {
        let mut claimed = Vec::new();
        let Some(downloadable) = self.downloadable(terms.oldest_day)? else {
            return Ok(claimed);
        };
        let mut candidates = FairQueue::default();
        for candidate in self.candidates(*downloadable.end())? {
            candidates.push(candidate.country, candidate);
        }
        while let Some(candidate) = candidates.pop() {
            let Some(permit) = admit(candidate.country) else {
                continue;
            };
            match self.claim_candidate(candidate, &downloadable, token(), terms.ttl_ms) {
                Ok(Some(delivery)) => claimed.push((delivery, permit)),
                // Another gateway has it, or is about to.
                Ok(None) | Err(SqlError::Conflict(_)) => {}
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

    fn claim_candidate(
        &mut self,
        candidate: Candidate,
        downloadable: &RangeInclusive<u64>,
        token: u64,
        ttl_ms: u64,
    ) -> Result<Option<DueDelivery>, SqlError> {
        let from = candidate.delivered_ordinal.saturating_add(1);
        let from = from.max(*downloadable.start());
        let Some((ordinal, tag)) = self.first_batch(from)? else {
            return Ok(None);
        };
        let is_ours = self.claim(&candidate, token, ttl_ms)?;
        Ok(is_ours.then_some(DueDelivery {
            country: candidate.country,
            callback_id: candidate.callback_id,
            url: candidate.url,
            failed_attempts: candidate.failed_attempts,
            ordinal,
            tag,
            token,
        }))
    }

    /// All that are due: at most the subscriptions of all participants.
    fn candidates(&mut self, newest_ordinal: u64) -> Result<Vec<Candidate>, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let sql = format!(
            "SELECT country, callback_id, url, delivered_ordinal, failed_attempts \
             FROM callback_subscription WHERE disabled_at_ms IS NULL \
             AND (claimed_until_ms < {now_ms} OR claimed_until_ms > {now_ms} + ?) \
             AND (next_attempt_at_ms <= {now_ms} OR next_attempt_at_ms > {now_ms} + ?) \
             AND delivered_ordinal < ? \
             ORDER BY next_attempt_at_ms, country, callback_id"
        );
        let params = [
            impossible_ms().into(),
            impossible_ms().into(),
            newest_ordinal.into(),
        ];
        let mut candidates = Vec::new();
        self.0.each(&sql, &params, &mut |row| {
            match candidate(row) {
                Ok(candidate) => candidates.push(candidate),
                // The others are notified all the same.
                Err(error) => {
                    tracing::warn!(%error, "ignoring an unreadable callback subscription");
                }
            }
            Ok(())
        })?;
        Ok(candidates)
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

    /// Moves the cursor after what was delivered and gives the claim back; false if the claim was
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

    /// Gives the claim back and counts nothing: the receiver was not asked. False if the claim was not
    /// ours any more: nothing was done.
    pub(crate) fn record_postponed(
        &mut self,
        delivery: &DueDelivery,
        wait_ms: u64,
    ) -> Result<bool, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let sql = format!(
            "UPDATE callback_subscription SET next_attempt_at_ms = {now_ms} + ?, \
             claim_token = 0, claimed_until_ms = 0 \
             WHERE country = ? AND callback_id = ? AND claim_token = ?"
        );
        let [country, callback_id] = key(&delivery.country, &delivery.callback_id);
        let params = [wait_ms.into(), country, callback_id, delivery.token.into()];
        Ok(self.0.execute(&sql, &params)? == 1)
    }

    /// Counts a failed attempt and gives the claim back; disables the subscription at the last of
    /// `attempts_max`, and returns whether it is disabled now. Nothing if the claim was not ours any
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

fn candidate(row: Row) -> Result<Candidate, SqlError> {
    SUBSCRIPTIONS.read(row, |row| {
        Ok(Candidate {
            country: country(row, 0)?,
            callback_id: callback_id(row, 1)?,
            url: row.text(2)?.into(),
            delivered_ordinal: row.number(3)?,
            failed_attempts: row.number_32(4)?,
        })
    })
}

/// No instant lies further in the future, unless the database's clock was set back.
fn impossible_ms() -> u64 {
    u64::try_from(limits::CALLBACK_WAIT_MAX.as_millis() * 2).expect("two days")
}
