//! Whether another upload may be stored: a participant's quota of keys per day, and the budget of
//! memory for what grows with the log.
//!
//! - *In*: an upload that is in order, with new keys.
//! - *Refuses*: what would exceed the quota, until the next day (UTC); everything while the memory is
//!   used up.
//! - *Assumes*: that what is under way counts for little: both bounds are compared with what is
//!   stored, so they can be exceeded by the uploads in flight, which admission bounds.
//! - *Runs on*: the CPU threads; repeats, duplicates and uploads without keys are answered whatever the
//!   bounds are, since they store nothing.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

use crate::bundle::Serve;
use crate::clock::Clock;
use crate::domain::{Country, Day, UnixMillis};
use crate::limits;
use crate::locks::LockIgnoringPoison;
use crate::overload::{Overload, OverloadBound};
use crate::persist::WriterState;
use crate::settings::QuotaSettings;
use crate::upload::Allow;

/// Between two warnings that the memory runs out.
const WARNING_INTERVAL: Duration = Duration::from_secs(3600);

/// The memory that grows with what is stored, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct StoredMemory {
    /// Identities of keys.
    pub set_bytes: u64,
    /// Upload tags.
    pub tags_bytes: u64,
    /// Download batches and their members, without their keys.
    pub catalog_bytes: u64,
    /// Most bytes of all three; beyond them uploads are refused.
    pub bytes_max: u64,
}

impl StoredMemory {
    /// Bytes in use.
    pub const fn bytes(&self) -> u64 {
        self.set_bytes + self.tags_bytes + self.catalog_bytes
    }

    /// Whole days until all is used, at so many keys per day, when so many keys take what is used.
    fn days_left(&self, stored_keys: u64, keys_per_day: u64) -> u64 {
        let key_bytes = self.bytes() / stored_keys.max(1);
        let left = self.bytes_max.saturating_sub(self.bytes());
        left / keys_per_day.saturating_mul(key_bytes).max(1)
    }

    /// Whether uploads are refused.
    pub const fn is_full(&self) -> bool {
        self.bytes() >= self.bytes_max
    }
}

/// A participant's keys of today, and how many it may store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuotaUse {
    /// The participant.
    pub country: Country,
    /// Keys that it has stored today.
    pub keys: u64,
    /// Most keys that it may store today.
    pub keys_max: u64,
}

/// Both bounds, and what they are compared with.
#[derive(Debug)]
pub(crate) struct Allowance {
    pub(crate) quota: QuotaSettings,
    pub(crate) bytes_max: u64,
    pub(crate) writer: Arc<WriterState>,
    pub(crate) serve: Arc<Serve>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) warned: Mutex<Warned>,
}

/// What was warned of already.
#[derive(Debug, Default)]
pub(crate) struct Warned {
    memory: Option<Instant>,
    quota: HashMap<Country, Day>,
}

impl Warned {
    /// Whether to warn of the memory now: once per [`WARNING_INTERVAL`].
    fn of_memory(&mut self, now: Instant) -> bool {
        let is_recent = |at| now.saturating_duration_since(at) < WARNING_INTERVAL;
        if self.memory.is_some_and(is_recent) {
            return false;
        }
        self.memory = Some(now);
        true
    }

    /// Whether to warn of a quota: once per participant and day.
    fn of_quota(&mut self, country: Country, day: Day) -> bool {
        self.quota.insert(country, day) != Some(day)
    }
}

impl Allow for Allowance {
    fn allow(&self, country: Country, key_count: u32) -> Result<(), Overload> {
        if key_count == 0 {
            return Ok(());
        }
        let memory = self.watch_memory();
        if memory.is_full() {
            return Err(Overload::at(OverloadBound::Memory).retry_after(limits::MEMORY_RETRY_AFTER));
        }
        let now = self.clock.now();
        let (day, keys_max) = (now.day(), self.quota.of(country));
        let keys = self.writer.key_counts.of(country, day) + u64::from(key_count);
        if keys > keys_max {
            let wait = until_tomorrow(now);
            return Err(Overload::at(OverloadBound::KeysPerDay).retry_after(wait));
        }
        if is_near(keys, keys_max) {
            self.warn_of_quota(country, day, keys, keys_max);
        }
        Ok(())
    }
}

impl Allowance {
    pub(crate) fn memory(&self) -> StoredMemory {
        StoredMemory {
            set_bytes: self.writer.set.bytes(),
            tags_bytes: self.writer.tags.bytes(),
            catalog_bytes: self.serve.catalog().bytes(),
            bytes_max: self.bytes_max,
        }
    }

    /// Participants with keys today.
    pub(crate) fn quota_uses(&self) -> Vec<QuotaUse> {
        let today = self.clock.now().day();
        let counted = self.writer.key_counts.on(today).into_iter();
        let mut uses: Vec<_> = counted
            .map(|(country, keys)| QuotaUse {
                country,
                keys,
                keys_max: self.quota.of(country),
            })
            .collect();
        uses.sort_unstable_by_key(|used| used.country);
        uses
    }

    /// Sets the metrics.
    #[allow(
        clippy::cast_precision_loss,
        reason = "bytes and keys are far below 2^53"
    )]
    pub(crate) fn measure(&self) {
        let memory = self.watch_memory();
        for (part, bytes) in [
            ("set", memory.set_bytes),
            ("tags", memory.tags_bytes),
            ("catalog", memory.catalog_bytes),
        ] {
            metrics::gauge!("efgs_stored_memory_bytes", "part" => part).set(bytes as f64);
        }
        metrics::gauge!("efgs_stored_memory_bytes_max").set(memory.bytes_max as f64);
        let yesterday = self.clock.now().day().minus_days(1);
        for country in self.writer.key_counts.on(yesterday).into_keys() {
            self.measure_quota(country, 0);
        }
        for used in self.quota_uses() {
            self.measure_quota(used.country, used.keys);
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "keys are far below 2^53")]
    fn measure_quota(&self, country: Country, keys: u64) {
        let max = self.quota.of(country) as f64;
        let name = country.to_string();
        metrics::gauge!("efgs_quota_keys_today", "country" => name.clone()).set(keys as f64);
        metrics::gauge!("efgs_quota_keys_per_day_max", "country" => name).set(max);
    }

    /// What is used; warns long before it is all.
    pub(crate) fn watch_memory(&self) -> StoredMemory {
        let memory = self.memory();
        if is_near(memory.bytes(), memory.bytes_max) && self.warned().of_memory(Instant::now()) {
            let (bytes, bytes_max) = (memory.bytes(), memory.bytes_max);
            let days_left = self.days_left(&memory);
            tracing::warn!(
                bytes,
                bytes_max,
                days_left,
                "memory for stored uploads is running out: uploads are refused when it is used up; raise [memory] stored_bytes_max if the machine has more memory"
            );
        }
        memory
    }

    /// Whole days until the memory is used up, at the rate of today or yesterday.
    fn days_left(&self, memory: &StoredMemory) -> u64 {
        let today = self.clock.now().day();
        let keys_on = |day| self.writer.key_counts.on(day).into_values().sum::<u64>();
        let keys = keys_on(today).max(keys_on(today.minus_days(1)));
        memory.days_left(self.writer.set.len(), keys)
    }

    fn warned(&self) -> MutexGuard<'_, Warned> {
        self.warned.lock_ignoring_poison()
    }

    fn warn_of_quota(&self, country: Country, day: Day, keys: u64, keys_max: u64) {
        if self.warned().of_quota(country, day) {
            tracing::warn!(%country, keys, keys_max, "a participant is close to its daily quota of keys: beyond it, its uploads are refused until tomorrow (UTC); see [quota] keys_per_day");
        }
    }
}

/// Whether 80 % are used.
const fn is_near(used: u64, most: u64) -> bool {
    used >= most / 5 * 4
}

fn until_tomorrow(now: UnixMillis) -> Duration {
    let tomorrow = now.day().next().start();
    Duration::from_millis(tomorrow.0.saturating_sub(now.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_near_from_80_percent_on() {
        assert!(!is_near(79, 100) && is_near(80, 100) && is_near(120, 100));
    }

    #[test]
    fn is_full_when_all_is_used_and_tells_the_days_until_then() {
        let memory = |set_bytes| StoredMemory {
            set_bytes,
            tags_bytes: 200,
            catalog_bytes: 100,
            bytes_max: 1000,
        };
        assert!(!memory(699).is_full() && memory(700).is_full());
        // 50 keys take 500 bytes; 500 more are left for 50 keys.
        assert_eq!(memory(200).days_left(50, 10), 5);
        assert_eq!(memory(200).days_left(50, 11), 4);
        assert_eq!(memory(200).days_left(0, 0), 500, "no keys to go by");
        assert_eq!(memory(800).days_left(50, 10), 0);
    }

    #[test]
    fn warns_once_an_hour_of_the_memory_and_once_a_day_of_each_quota() {
        let (mut warned, start) = (Warned::default(), Instant::now());
        let minutes = [0, 1, 59, 60, 61].map(|at| start + Duration::from_secs(60 * at));
        let memory = minutes.map(|now| warned.of_memory(now));
        assert_eq!(memory, [true, false, false, true, false]);
        let country = |code| Country::parse(code).unwrap();
        let today = UnixMillis(1_602_028_800_000).day();
        for (code, day, expected) in [
            ("DE", today, true),
            ("DE", today, false),
            ("FR", today, true),
            ("DE", today.next(), true),
        ] {
            assert_eq!(
                warned.of_quota(country(code), day),
                expected,
                "{code} {day}"
            );
        }
    }
}
