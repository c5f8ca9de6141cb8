//! Validate: every key obeys the rules of the protocol.
//!
//! - *In*: [`DecodedBatch`].
//! - *Out*: [`ValidBatch`].
//! - *Refuses*: the first offending key, with the first rule that it breaks ([`KeyRule`]).
//! - *Assumes*: nothing; the gateway does not check `days_since_onset_of_symptoms`.
//! - *Runs on*: a CPU job.

use std::fmt;
use std::ops::RangeInclusive;

use crate::decode::{DecodedBatch, DecodedKey};
use crate::domain::{Country, Day, REPORT_TYPES, UnixMillis};
use crate::limits::KEY_AGE_DAYS_MAX;

/// A rule of one key. In the order in which they are checked (wire §8; the last three are
/// ours: decision 14).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRule {
    /// `keyData` is there.
    KeyDataPresent,
    /// `keyData` has 16 bytes.
    KeyDataLength,
    /// The key began at most 15 days before today's midnight (UTC) and at the latest in the next
    /// ten-minute interval.
    RollingStart,
    /// The rolling period is 1 to 144.
    RollingPeriod,
    /// The transmission risk level is 0 to 8, or 2147483647 for "not given".
    RiskLevel,
    /// The report type is one of the enumeration.
    ReportType,
    /// Countries and origin are ASCII, and no visited country contains a comma or a control
    /// character.
    CountryText,
    /// The visited countries, joined with commas, have at most 287 characters, which is what the
    /// reference can store. Decoding stops where they have more, so this comes first.
    CountriesLength,
}

/// What the rule says, as the reference words it where it has the rule.
impl fmt::Display for KeyRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::KeyDataPresent => "The keydata is empty or null.",
            Self::KeyDataLength => "The keydata is not 16 bytes.",
            Self::RollingStart => "Invalid rolling start interval number.",
            Self::RollingPeriod => "Invalid rolling period.",
            Self::RiskLevel => "Invalid transmission risk level.",
            Self::ReportType => "Invalid report type.",
            Self::CountryText => "Countries must be ASCII without commas and control characters.",
            Self::CountriesLength => "The visited countries have more than 287 characters.",
        })
    }
}

/// A key breaks a rule.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key {index}: {rule}")]
pub struct InvalidKey {
    /// Zero-based position in the request.
    pub index: u32,
    /// The first rule that it breaks.
    pub rule: KeyRule,
}

/// A key does not originate in the expected country.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("key {index} does not originate in {expected}")]
pub struct OriginMismatch {
    /// Zero-based position in the request.
    pub index: u32,
    /// The uploader's country.
    pub expected: Country,
    /// How many keys the upload had.
    pub key_count: u32,
}

/// A batch whose keys obey every rule. Only [`validate`] makes one.
#[derive(Debug)]
pub struct ValidBatch<'a>(DecodedBatch<'a>);

impl<'a> ValidBatch<'a> {
    /// The keys.
    pub fn keys(&self) -> &DecodedBatch<'a> {
        &self.0
    }
}

/// Seconds in a ten-minute interval.
const INTERVAL_SECONDS: u64 = 600;
/// "Not given", as agreed between the backends.
const RISK_LEVEL_NOT_GIVEN: i32 = i32::MAX;
/// The last value of the enumeration.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    reason = "there are a handful of names"
)]
const REPORT_TYPE_MAX: i32 = REPORT_TYPES.len() as i32 - 1;

/// Checks all keys against the clock.
///
/// # Errors
/// [`InvalidKey`] for the first offending key.
pub fn validate(batch: DecodedBatch<'_>, now: UnixMillis) -> Result<ValidBatch<'_>, InvalidKey> {
    validate_on(batch, now.day(), now)
}

/// Checks all keys: their age counts from `day`, which may differ from the clock's because identities are
/// forgotten by it; none may begin after `latest`.
///
/// # Errors
/// [`InvalidKey`] for the first offending key.
pub fn validate_on(
    batch: DecodedBatch<'_>,
    day: Day,
    latest: UnixMillis,
) -> Result<ValidBatch<'_>, InvalidKey> {
    validate_begun_in(batch, &rolling_starts(day, latest))
}

fn validate_begun_in<'a>(
    batch: DecodedBatch<'a>,
    starts: &RangeInclusive<u64>,
) -> Result<ValidBatch<'a>, InvalidKey> {
    for (index, key) in (0..).zip(batch.keys()) {
        if let Err(broken) = check_key(key, starts) {
            // Where decoding stopped, fields are missing, which breaks other rules as well.
            let rule = if key.has_too_many_countries() {
                KeyRule::CountriesLength
            } else {
                broken
            };
            return Err(InvalidKey { index, rule });
        }
    }
    Ok(ValidBatch(batch))
}

/// Checks all keys, whenever they began.
///
/// # Errors
/// [`InvalidKey`] for the first offending key.
pub fn validate_at_any_age(batch: DecodedBatch<'_>) -> Result<ValidBatch<'_>, InvalidKey> {
    validate_begun_in(batch, &(0..=u64::MAX))
}

/// Checks that every key originates in `expected`: exact, as the reference compares.
///
/// # Errors
/// [`OriginMismatch`] for the first key that does not.
pub fn check_origins(batch: &DecodedBatch<'_>, expected: Country) -> Result<(), OriginMismatch> {
    let is_foreign = |origin: &str| *origin.as_bytes() != expected.letters();
    let mut keys = (0..).zip(batch.keys());
    match keys.find(|(_, key)| is_foreign(key.fields.origin)) {
        Some((index, _)) => Err(OriginMismatch {
            index,
            expected,
            key_count: batch.key_count(),
        }),
        None => Ok(()),
    }
}

/// Interval numbers at which a key may begin: from midnight 15 days ago to the next interval.
fn rolling_starts(day: Day, latest: UnixMillis) -> RangeInclusive<u64> {
    let oldest = day.minus_days(KEY_AGE_DAYS_MAX).start_unix_seconds();
    oldest / INTERVAL_SECONDS..=latest.seconds() / INTERVAL_SECONDS + 1
}

fn check_key(key: &DecodedKey<'_>, starts: &RangeInclusive<u64>) -> Result<(), KeyRule> {
    let fields = &key.fields;
    let rule = |holds: bool, rule: KeyRule| if holds { Ok(()) } else { Err(rule) };
    rule(!fields.key_data.is_empty(), KeyRule::KeyDataPresent)?;
    rule(fields.key_data.len() == 16, KeyRule::KeyDataLength)?;
    rule(
        starts.contains(&u64::from(fields.rolling_start)),
        KeyRule::RollingStart,
    )?;
    rule(
        (1..=144).contains(&fields.rolling_period),
        KeyRule::RollingPeriod,
    )?;
    let level = fields.risk_level;
    rule(
        (0..=8).contains(&level) || level == RISK_LEVEL_NOT_GIVEN,
        KeyRule::RiskLevel,
    )?;
    rule(
        (0..=REPORT_TYPE_MAX).contains(&fields.report_type),
        KeyRule::ReportType,
    )?;
    rule(key.has_plain_countries, KeyRule::CountryText)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::decode::decode;
    use crate::wire::protobuf::{KeyFields, write_key};

    /// 2021-06-01T12:00:00Z, as `date -u -d 2021-06-01T12:00:00Z +%s` prints it.
    const NOON: UnixMillis = UnixMillis(1_622_548_800_000);
    /// The interval of that instant: 1622548800 / 600.
    const NOON_INTERVAL: u32 = 2_704_248;
    /// 2021-05-17T00:00:00Z / 600.
    const OLDEST_INTERVAL: u32 = 2_702_016;

    const VALID: KeyFields<'_> = KeyFields {
        key_data: &[7; 16],
        rolling_start: NOON_INTERVAL - 100,
        rolling_period: 144,
        risk_level: 3,
        origin: "DE",
        report_type: 1,
        days_since_onset: 3,
    };

    fn verdict(key: &KeyFields<'_>, countries: &[&str]) -> Result<(), InvalidKey> {
        let mut body = Vec::new();
        write_key(&mut body, &VALID, ["FR"].into_iter());
        write_key(&mut body, key, countries.iter().copied());
        validate(decode(&body, 2).unwrap(), NOON).map(|_| ())
    }

    fn check(key: KeyFields<'_>, broken: Option<KeyRule>) {
        let expected = broken.map_or(Ok(()), |rule| Err(InvalidKey { index: 1, rule }));
        assert_eq!(verdict(&key, &["FR", "IT"]), expected, "{key:?}");
    }

    #[test]
    fn holds_key_data_to_16_bytes() {
        check(VALID, None);
        check(
            KeyFields {
                key_data: &[],
                ..VALID
            },
            Some(KeyRule::KeyDataPresent),
        );
        check(
            KeyFields {
                key_data: &[7; 15],
                ..VALID
            },
            Some(KeyRule::KeyDataLength),
        );
        check(
            KeyFields {
                key_data: &[7; 17],
                ..VALID
            },
            Some(KeyRule::KeyDataLength),
        );
    }

    #[test]
    fn accepts_starts_from_midnight_15_days_ago_to_the_next_interval() {
        for (rolling_start, broken) in [
            (OLDEST_INTERVAL, None),
            (OLDEST_INTERVAL - 1, Some(KeyRule::RollingStart)),
            (NOON_INTERVAL + 1, None),
            (NOON_INTERVAL + 2, Some(KeyRule::RollingStart)),
            (u32::MAX, Some(KeyRule::RollingStart)),
            (0, Some(KeyRule::RollingStart)),
        ] {
            check(
                KeyFields {
                    rolling_start,
                    ..VALID
                },
                broken,
            );
        }
    }

    #[test]
    fn rejects_rolling_periods_outside_1_to_144() {
        for (rolling_period, broken) in [
            (0, Some(KeyRule::RollingPeriod)),
            (1, None),
            (144, None),
            (145, Some(KeyRule::RollingPeriod)),
            (u32::MAX, Some(KeyRule::RollingPeriod)),
        ] {
            check(
                KeyFields {
                    rolling_period,
                    ..VALID
                },
                broken,
            );
        }
    }

    #[test]
    fn rejects_risk_levels_outside_0_to_8_but_for_not_given() {
        for (risk_level, broken) in [
            (-1, Some(KeyRule::RiskLevel)),
            (0, None),
            (8, None),
            (9, Some(KeyRule::RiskLevel)),
            (0x7fff_fffe, Some(KeyRule::RiskLevel)),
            (0x7fff_ffff, None),
        ] {
            check(
                KeyFields {
                    risk_level,
                    ..VALID
                },
                broken,
            );
        }
    }

    #[test]
    fn rejects_report_types_outside_the_enumeration() {
        for (report_type, broken) in [
            (-1, Some(KeyRule::ReportType)),
            (0, None),
            (5, None),
            (6, Some(KeyRule::ReportType)),
        ] {
            check(
                KeyFields {
                    report_type,
                    ..VALID
                },
                broken,
            );
        }
    }

    #[test]
    fn does_not_validate_days_since_onset() {
        for days_since_onset in [i32::MIN, -4000, 0, i32::MAX] {
            check(
                KeyFields {
                    days_since_onset,
                    ..VALID
                },
                None,
            );
        }
    }

    #[test]
    fn rejects_country_text_whose_canonical_form_is_ambiguous() {
        let broken = Err(InvalidKey {
            index: 1,
            rule: KeyRule::CountryText,
        });
        for countries in [["DE,FR", "IT"].as_slice(), &["É"], &[","], &["D\u{1}"]] {
            assert_eq!(verdict(&VALID, countries), broken, "{countries:?}");
        }
        assert_eq!(verdict(&VALID, &[]), Ok(()));
        check(
            KeyFields {
                origin: "É",
                ..VALID
            },
            Some(KeyRule::CountryText),
        );
    }

    #[test]
    fn rejects_more_than_287_characters_of_visited_countries() {
        let broken = Err(InvalidKey {
            index: 1,
            rule: KeyRule::CountriesLength,
        });
        assert_eq!(verdict(&VALID, &["FR"; 96]), Ok(()));
        assert_eq!(verdict(&VALID, &["FR"; 97]), broken);
        assert_eq!(verdict(&VALID, &[&"x".repeat(287)]), Ok(()));
        assert_eq!(verdict(&VALID, &[&"x".repeat(288)]), broken);
    }

    #[test]
    fn names_the_first_foreign_origin() {
        let country = |code| Country::parse(code).unwrap();
        let mut body = Vec::new();
        write_key(&mut body, &VALID, std::iter::empty());
        write_key(
            &mut body,
            &KeyFields {
                origin: "de",
                ..VALID
            },
            std::iter::empty(),
        );
        let batch = decode(&body, 2).unwrap();
        let expected = country("DE");
        let mismatch = OriginMismatch {
            index: 1,
            expected,
            key_count: 2,
        };
        assert_eq!(check_origins(&batch, expected), Err(mismatch));
    }
}
