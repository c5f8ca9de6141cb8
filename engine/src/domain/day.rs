//! Calendar days in UTC.

use std::fmt;
use std::str::FromStr;

use time::{Date, Duration, OffsetDateTime};

/// A calendar day, UTC.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Day(Date);

/// The text is not a date `yyyy-MM-dd`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a date is written yyyy-MM-dd")]
pub struct DayError;

impl Day {
    /// Milliseconds of a day.
    pub const MILLIS: u64 = 86_400_000;

    /// The day of an instant, given in seconds since the Unix epoch.
    ///
    /// Instants beyond the year 9999 give its last day.
    pub fn from_unix_seconds(seconds: u64) -> Self {
        let instant = i64::try_from(seconds)
            .ok()
            .and_then(|seconds| OffsetDateTime::from_unix_timestamp(seconds).ok());
        Self(instant.map_or(Date::MAX, OffsetDateTime::date))
    }

    /// Midnight UTC at which the day begins, in seconds since the Unix epoch.
    ///
    /// Days before 1970 give 0.
    pub fn start_unix_seconds(self) -> u64 {
        u64::try_from(self.0.midnight().assume_utc().unix_timestamp()).unwrap_or(0)
    }

    /// How many days later another day is; 0 if it is earlier.
    pub fn days_until(self, later: Self) -> u32 {
        u32::try_from((later.0 - self.0).whole_days()).unwrap_or(0)
    }

    /// Reads `yyyy-MM-dd`; an offset suffix (`Z`, `+02:00`) is tolerated and ignored, as the
    /// reference does (wire §14.3).
    ///
    /// # Errors
    /// When the text is anything else, or no day of the calendar.
    pub fn parse_iso(text: &str) -> Result<Self, DayError> {
        let (date, offset) = text.split_at_checked(10).ok_or(DayError)?;
        if !is_offset(offset) {
            return Err(DayError);
        }
        let bytes = date.as_bytes();
        if bytes[4] != b'-' || bytes[7] != b'-' {
            return Err(DayError);
        }
        Self::from_digits(&date[0..4], &date[5..7], &date[8..10])
    }

    /// Reads `yyyyMMdd`.
    ///
    /// # Errors
    /// When the text is anything else, or no day of the calendar.
    pub fn parse_compact(text: &str) -> Result<Self, DayError> {
        if text.len() != 8 || !text.is_ascii() {
            return Err(DayError);
        }
        Self::from_digits(&text[0..4], &text[4..6], &text[6..8])
    }

    fn from_digits(year: &str, month: &str, day: &str) -> Result<Self, DayError> {
        let number = |text: &str| {
            let digits = text.bytes().all(|byte| byte.is_ascii_digit());
            digits
                .then(|| text.parse::<u16>().ok())
                .flatten()
                .ok_or(DayError)
        };
        let month = u8::try_from(number(month)?).map_err(|_| DayError)?;
        let month = time::Month::try_from(month).map_err(|_| DayError)?;
        let day = u8::try_from(number(day)?).map_err(|_| DayError)?;
        let date = Date::from_calendar_date(i32::from(number(year)?), month, day);
        date.map(Self).map_err(|_| DayError)
    }

    /// The day `days` earlier, stopping at the calendar's end.
    #[must_use]
    pub fn minus_days(self, days: u32) -> Self {
        Self(self.0.saturating_sub(Duration::days(i64::from(days))))
    }

    /// The day after, stopping at the calendar's end.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0.next_day().unwrap_or(Date::MAX))
    }

    /// The day as the number `yyyyMMdd`, which sorts as days do. This is its form in the database.
    pub fn compact_number(self) -> u32 {
        let (year, month, day) = self.0.to_calendar_date();
        u32::try_from(year).unwrap_or(0) * 10_000
            + u32::from(u8::from(month)) * 100
            + u32::from(day)
    }

    /// Reads the number `yyyyMMdd`.
    ///
    /// # Errors
    /// When it is no day of the calendar.
    pub fn from_compact_number(number: u32) -> Result<Self, DayError> {
        Self::parse_compact(&format!("{number:08}"))
    }
}

fn is_offset(text: &str) -> bool {
    let bytes = text.as_bytes();
    match bytes {
        [] | [b'Z'] => true,
        [b'+' | b'-', h1, h2, b':', m1, m2] => [h1, h2, m1, m2].into_iter().all(u8::is_ascii_digit),
        _ => false,
    }
}

impl FromStr for Day {
    type Err = DayError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Self::parse_iso(text)
    }
}

/// `yyyy-MM-dd`.
impl fmt::Display for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (year, month, day) = self.0.to_calendar_date();
        write!(f, "{year:04}-{:02}-{day:02}", u8::from(month))
    }
}

impl fmt::Debug for Day {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_iso_dates_with_or_without_an_offset() {
        for text in [
            "2020-10-06",
            "2020-10-06Z",
            "2020-10-06+02:00",
            "2020-10-06-11:30",
        ] {
            assert_eq!(
                Day::parse_iso(text).unwrap().to_string(),
                "2020-10-06",
                "{text}"
            );
        }
        for text in [
            "",
            "2020-10-6",
            "2020-13-01",
            "2021-02-29",
            "20201006",
            "2020-10-06T00:00",
            "2020-10-0é",
            "+020-10-06",
            "2020-10-06 ",
            "2020-10-06+2:00",
            "éééééééé-10-06",
        ] {
            assert_eq!(Day::parse_iso(text), Err(DayError), "{text:?}");
        }
    }

    #[test]
    fn counts_days_in_utc() {
        // `date -u -d @1602028799` and its successor.
        assert_eq!(
            Day::from_unix_seconds(1_602_028_799).to_string(),
            "2020-10-06"
        );
        let day = Day::from_unix_seconds(1_602_028_800);
        assert_eq!(day.to_string(), "2020-10-07");
        assert_eq!(day.start_unix_seconds(), 1_602_028_800);
        assert_eq!(day.minus_days(7).to_string(), "2020-09-30");
        assert_eq!(day.compact_number(), 20_201_007);
        assert_eq!(Day::from_compact_number(20_201_007), Ok(day));
        assert_eq!(Day::from_unix_seconds(u64::MAX).to_string(), "9999-12-31");
    }
}
