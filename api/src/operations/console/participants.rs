//! The participants, one by one: what they send, take and need.

use std::collections::{BTreeMap, BTreeSet};

use engine::domain::{CertificateKind, Country, UnixMillis};
use engine::overview::{Overview, SubscriptionState};
use schemars::JsonSchema;
use serde::Serialize;

use super::figures::ParticipantFigures;
use super::refusals::{self, Refusals};
use super::sentence::Sentence;
use crate::attention;
use crate::lifecycle::Running;

/// Hours that are shown: those before the present one, and it.
pub(super) const HOURS: usize = 24;
/// As in the alert `EfgsParticipantBehind`.
const BATCHES_BEHIND_MAX: u64 = 100;
/// As in the alert `EfgsQuotaNearlyUsed`.
const QUOTA_PERCENT: u64 = 80;
const HOUR_MS: u64 = 3_600_000;
const DAY_MS: u64 = 86_400_000;

/// A participant. Days and hours are in UTC; instants are milliseconds since the Unix epoch.
#[derive(Debug, Default, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Participant {
    country: String,
    uploads_today: u64,
    keys_today: u64,
    /// Most keys that it may store today.
    keys_per_day_max: u64,
    /// Keys by hour, the oldest hour first, the present one last.
    keys_by_hour: Vec<u64>,
    last_upload_at: Option<u64>,
    /// Downloads of today, repeats included.
    downloads_today: u64,
    downloaded_keys_today: u64,
    /// As of some seconds.
    last_download_at: Option<u64>,
    /// Download batches that it has not downloaded, and can.
    batches_behind: u64,
    /// In the last hour.
    duplicate_keys: u64,
    duplicate_uploads: u64,
    rejected_uploads: u64,
    refused_uploads: u64,
    failed_uploads: u64,
    /// Requests of the last hour that were refused and show its certificate, by reason, the most frequent
    /// first.
    refusals: Vec<Refusals>,
    certificates: Vec<ShownCertificate>,
    subscriptions: Vec<Subscription>,
}

/// The certificate of a kind that is valid longest; without an end, none is listed.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct ShownCertificate {
    kind: &'static str,
    not_after: Option<u64>,
    /// Whole days; negative once it has expired.
    days_left: Option<i64>,
}

/// A callback subscription.
#[derive(Debug, JsonSchema, Serialize)]
#[serde(rename_all = "camelCase")]
struct Subscription {
    id: String,
    url: String,
    /// Since when it is disabled.
    disabled_at: Option<u64>,
    batches_behind: u64,
    failed_attempts: u32,
    last_error: Option<String>,
    last_error_at: Option<u64>,
    next_attempt_at: Option<u64>,
}

/// What the rows are made from.
pub(super) struct Source<'a> {
    pub(super) running: &'a Running,
    pub(super) overview: Option<&'a Overview>,
    /// What gateways have seen of each in the last hour.
    pub(super) seen: &'a BTreeMap<String, ParticipantFigures>,
    pub(super) now: UnixMillis,
}

/// When the hours of [`Participant::keys_by_hour`] begin.
pub(super) fn hours(now: UnixMillis) -> impl Iterator<Item = u64> {
    let present = now.0 - now.0 % HOUR_MS;
    (0..HOURS as u64)
        .rev()
        .map(move |ago| present.saturating_sub(ago * HOUR_MS))
}

impl Source<'_> {
    /// All participants that are listed, or have uploaded or downloaded today.
    pub(super) fn participants(&self) -> Vec<Participant> {
        let mut countries: BTreeSet<_> = self.running.engine.participants().into_iter().collect();
        if let Some(overview) = self.overview {
            countries.extend(overview.hours.iter().map(|hour| hour.country));
            countries.extend(overview.downloads.iter().map(|day| day.country));
        }
        let quotas = self.quotas();
        let ends = attention::ends_of(&self.running.engine.trust());
        let countries = countries.into_iter();
        let participant = |country| {
            let mut participant = self.participant(country);
            participant.keys_per_day_max = quotas.get(&country).copied().unwrap_or_default();
            participant.certificates = CertificateKind::ALL
                .into_iter()
                .map(|kind| self.certificate(kind, ends.get(&(country, kind)).copied()))
                .collect();
            participant
        };
        countries.map(participant).collect()
    }

    fn quotas(&self) -> BTreeMap<Country, u64> {
        let uses = self.running.engine.quota_uses().into_iter();
        uses.map(|used| (used.country, used.keys_max)).collect()
    }

    fn participant(&self, country: Country) -> Participant {
        let name = country.to_string();
        let seen = self.seen.get(&name).cloned().unwrap_or_default();
        let mut participant = Participant {
            country: name,
            batches_behind: self.running.engine.batches_behind(country),
            last_download_at: Some(seen.last_download_at).filter(|at| *at > 0),
            duplicate_keys: seen.duplicate_keys,
            duplicate_uploads: seen.duplicate_uploads,
            rejected_uploads: seen.rejected_uploads,
            refused_uploads: seen.refused_uploads,
            failed_uploads: seen.failed_uploads,
            refusals: refusals::by_reason(seen.refusals),
            ..Participant::default()
        };
        if let Some(overview) = self.overview {
            participant.count(overview, country, self.now);
        }
        participant
    }

    fn certificate(&self, kind: CertificateKind, end: Option<UnixMillis>) -> ShownCertificate {
        ShownCertificate {
            kind: kind.name(),
            not_after: end.map(|end| end.0),
            days_left: end.map(|end| days_between(self.now, end)),
        }
    }
}

/// Whole days until an instant; negative once it is past.
pub(super) fn days_between(now: UnixMillis, end: UnixMillis) -> i64 {
    let between = |from: u64, to: u64| i64::try_from((to - from) / DAY_MS).unwrap_or(i64::MAX);
    match end.0 >= now.0 {
        true => between(now.0, end.0),
        false => -1 - between(end.0, now.0),
    }
}

impl Participant {
    /// Adds what the database has counted.
    fn count(&mut self, overview: &Overview, country: Country, now: UnixMillis) {
        let begin_of_day = now.0 - now.0 % DAY_MS;
        let own = overview.hours.iter().filter(|hour| hour.country == country);
        self.keys_by_hour = hours(now).map(|_| 0).collect();
        for hour in own {
            if hour.hour.0 >= begin_of_day {
                self.uploads_today += hour.uploads;
                self.keys_today += hour.keys;
            }
            let place = hours(now).position(|start| start == hour.hour.0);
            if let Some(keys) = place.and_then(|place| self.keys_by_hour.get_mut(place)) {
                *keys += hour.keys;
            }
        }
        let last = overview.last_uploads.get(&country);
        self.last_upload_at = last.map(|at| at.0);
        let downloads = overview.downloads.iter().find(|day| day.country == country);
        if let Some(day) = downloads {
            self.downloads_today = day.downloads;
            self.downloaded_keys_today = day.downloaded_keys;
        }
        let subscriptions = overview.subscriptions.iter();
        let subscriptions = subscriptions.filter(|state| state.country == country);
        self.subscriptions = subscriptions.map(Subscription::of).collect();
    }

    /// What the operator should see to of it. Certificates are the findings of each gateway.
    pub(super) fn sentences(&self) -> impl Iterator<Item = Sentence> {
        let country = &self.country;
        let mut sentences = Vec::new();
        if self.batches_behind > BATCHES_BEHIND_MAX {
            let text = format!(
                "{country} has not downloaded the newest {} download batches: ask its operator whether its \
                 downloads work",
                self.batches_behind
            );
            sentences.push(Sentence::warning(text));
        }
        let (keys, max) = (self.keys_today, self.keys_per_day_max);
        if max > 0 && keys > max / 100 * QUOTA_PERCENT {
            let text = format!(
                "{country} has stored {} of the {} keys that it may store today (UTC): beyond them its uploads \
                 are refused until 00:00; ask whether that is right, or raise [quota]",
                grouped(keys),
                grouped(max)
            );
            sentences.push(Sentence::warning(text));
        }
        let failing = self.subscriptions.iter();
        let failing = failing.filter_map(|one| one.failure_sentence(country));
        sentences.extend(failing.map(Sentence::warning));
        sentences.into_iter()
    }

    pub(super) const fn uploads_today(&self) -> u64 {
        self.uploads_today
    }

    pub(super) const fn keys_today(&self) -> u64 {
        self.keys_today
    }

    pub(super) const fn downloads_today(&self) -> u64 {
        self.downloads_today
    }

    pub(super) const fn downloaded_keys_today(&self) -> u64 {
        self.downloaded_keys_today
    }
}

/// 1234567 as "1,234,567".
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

impl Subscription {
    /// What is wrong with its deliveries: it is disabled, or several in a row have failed. One may have been a
    /// receiver that was just started.
    fn failure_sentence(&self, country: &str) -> Option<String> {
        let (id, attempts) = (&self.id, self.failed_attempts);
        let reason = self.last_error.as_deref();
        let reason = reason.unwrap_or("its reason is not known");
        if self.disabled_at.is_some() {
            return Some(format!(
                "the callback subscription {id} of {country} is disabled after {attempts} failed attempts ({reason}): \
                 once its receiver works, enable it with efgs callback enable --country {country} {id}"
            ));
        }
        (attempts > 1).then(|| {
            format!(
                "the callback subscription {id} of {country} has failed {attempts} times in a row ({reason}): tell \
                 {country}, before it is disabled"
            )
        })
    }

    fn of(state: &SubscriptionState) -> Self {
        let failure = state.last_failure.as_ref();
        Self {
            id: state.callback_id.to_string(),
            url: state.url.to_string(),
            disabled_at: state.disabled_at.map(|at| at.0),
            batches_behind: state.batches_behind,
            failed_attempts: state.failed_attempts,
            last_error: failure.map(|failure| failure.reason.to_string()),
            last_error_at: failure.map(|failure| failure.at.0),
            next_attempt_at: Some(state.next_attempt_at.0).filter(|at| *at > 0),
        }
    }
}

#[cfg(test)]
mod tests {
    use engine::overview::CountryHour;

    use super::*;

    #[test]
    fn counts_days_down_to_the_end_and_beyond() {
        let now = UnixMillis(10 * DAY_MS);
        let days = |end| days_between(now, UnixMillis(end));
        assert_eq!(days(12 * DAY_MS), 2);
        assert_eq!(days(12 * DAY_MS - 1), 1);
        assert_eq!(days(10 * DAY_MS), 0);
        assert_eq!(days(10 * DAY_MS - 1), -1);
        assert_eq!(days(9 * DAY_MS - 1), -2);
    }

    #[test]
    fn warns_of_who_is_behind_near_its_quota_or_no_longer_called_back() {
        let well = || Participant {
            country: "DE".to_owned(),
            batches_behind: 100,
            keys_today: 800,
            keys_per_day_max: 1000,
            ..Participant::default()
        };
        let texts = |participant: &Participant| -> Vec<String> {
            participant
                .sentences()
                .map(|sentence| sentence.text)
                .collect()
        };
        assert!(texts(&well()).is_empty());
        let behind = Participant {
            batches_behind: 101,
            ..well()
        };
        assert!(texts(&behind)[0].starts_with("DE has not downloaded the newest 101"));
        let near = Participant {
            keys_today: 1_200_000,
            keys_per_day_max: 1_400_000,
            ..well()
        };
        assert!(texts(&near)[0].starts_with("DE has stored 1,200,000 of the 1,400,000 keys"));
        let state = SubscriptionState {
            country: Country::parse("DE").unwrap(),
            callback_id: engine::callbacks::CallbackId::parse("main").unwrap(),
            url: "https://receiver.example/".into(),
            disabled_at: Some(UnixMillis(7)),
            failed_attempts: 6,
            last_failure: None,
            next_batch: None,
            next_attempt_at: UnixMillis(0),
            batches_behind: 3,
        };
        let disabled = Participant {
            subscriptions: vec![Subscription::of(&state)],
            ..well()
        };
        let text = &texts(&disabled)[0];
        assert!(
            text.starts_with("The callback subscription main of DE is disabled after 6"),
            "{text}"
        );
    }

    #[test]
    fn names_a_subscription_that_fails_again_and_again() {
        let sentence = |failed_attempts, disabled_at| {
            let subscription = Subscription {
                id: "main".to_owned(),
                url: String::new(),
                disabled_at,
                batches_behind: 1,
                failed_attempts,
                last_error: Some("connection refused".to_owned()),
                last_error_at: None,
                next_attempt_at: None,
            };
            subscription.failure_sentence("DE")
        };
        assert_eq!(sentence(1, None), None);
        let twice = sentence(2, None).unwrap();
        assert!(twice.contains("main of DE has failed 2 times in a row (connection refused)"));
        assert!(
            sentence(6, Some(7))
                .unwrap()
                .contains("is disabled after 6")
        );
    }

    #[test]
    fn has_the_hours_of_a_day_and_counts_today_from_midnight() {
        let (de, it) = (Country::parse("DE").unwrap(), Country::parse("IT").unwrap());
        // Half past two in the morning.
        let now = UnixMillis(20 * DAY_MS + 2 * HOUR_MS + HOUR_MS / 2);
        let of = |country, hour: u64, keys| CountryHour {
            hour: UnixMillis(hour * HOUR_MS),
            country,
            uploads: 1,
            keys,
            last_upload: UnixMillis(hour * HOUR_MS + 5),
        };
        let today = 20 * 24;
        let overview = Overview {
            hours: vec![
                of(de, today - 22, 1000),
                of(de, today - 1, 100),
                of(de, today, 10),
                of(it, today, 7),
                of(de, today + 2, 1),
            ],
            last_uploads: BTreeMap::from([(de, UnixMillis(9))]),
            ..Overview::default()
        };
        let mut participant = Participant::default();
        participant.count(&overview, de, now);
        assert_eq!((participant.uploads_today, participant.keys_today), (2, 11));
        assert_eq!(participant.keys_by_hour.len(), HOURS);
        assert_eq!(participant.keys_by_hour[20..], [100, 10, 0, 1]);
        assert_eq!(
            participant.keys_by_hour.iter().sum::<u64>(),
            111,
            "22 hours before midnight is out"
        );
        assert_eq!(participant.last_upload_at, Some(9));
    }
}
