//! What each participant sends and takes, as counters by country.
//!
//! A request costs three atomic additions and no look-up by name: the handles of a country are made once.
//! Only authenticated participants are counted, so that there are as many countries as are listed.

use std::sync::OnceLock;

use engine::UploadError;
use engine::domain::Country;
use engine::upload::Receipt;
use metrics::{Counter, counter};

use crate::response::Refusal;

/// The counters of one participant.
struct Counters {
    uploads: [Counter; UploadOutcome::ALL.len()],
    keys: [Counter; KEY_OUTCOMES.len()],
    bodies: [BodyCounters; BodyKind::ALL.len()],
}

/// The counters of what it takes.
struct BodyCounters {
    answers: Counter,
    bytes: Counter,
}

/// What became of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum UploadOutcome {
    Stored,
    /// Stored before, under the same tag.
    Repeated,
    Duplicates,
    Rejected,
    Refused,
    Failed,
}

impl UploadOutcome {
    const ALL: [Self; 6] = [
        Self::Stored,
        Self::Repeated,
        Self::Duplicates,
        Self::Rejected,
        Self::Refused,
        Self::Failed,
    ];

    const fn name(self) -> &'static str {
        match self {
            Self::Stored => "stored",
            Self::Repeated => "repeated",
            Self::Duplicates => "duplicates",
            Self::Rejected => "rejected",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }

    fn of(outcome: &Result<Receipt, Refusal>) -> Self {
        match outcome {
            Ok(Receipt::Stored { replayed, .. }) => match replayed {
                true => Self::Repeated,
                false => Self::Stored,
            },
            Ok(Receipt::Refused { .. }) => Self::Duplicates,
            Err(Refusal::Upload(
                UploadError::Rejection(_) | UploadError::ContentMismatch { .. },
            )) => Self::Rejected,
            Err(Refusal::Upload(UploadError::Failure(_))) => Self::Failed,
            Err(_) => Self::Refused,
        }
    }
}

/// What became of keys, in the order of [`key_counts`].
const KEY_OUTCOMES: [&str; 3] = ["stored", "duplicate", "left_out"];

/// How many keys have which of [`KEY_OUTCOMES`]. A repetition of the whole upload counts none again.
fn key_counts(receipt: &Receipt) -> [u64; KEY_OUTCOMES.len()] {
    match receipt {
        Receipt::Stored { replayed: true, .. } => [0, 0, 0],
        Receipt::Stored { key_count, .. } => [u64::from(*key_count), 0, 0],
        Receipt::Refused {
            key_count,
            duplicates,
        } => {
            let duplicates = duplicates.len() as u64;
            [
                0,
                duplicates,
                u64::from(*key_count).saturating_sub(duplicates),
            ]
        }
    }
}

/// What is downloaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum BodyKind {
    Batch,
    Audit,
}

impl BodyKind {
    const ALL: [Self; 2] = [Self::Batch, Self::Audit];

    const fn name(self) -> &'static str {
        match self {
            Self::Batch => "batch",
            Self::Audit => "audit",
        }
    }
}

/// Counts an upload that was answered.
pub(crate) fn count_upload(country: Country, outcome: &Result<Receipt, Refusal>) {
    let counters = counters(country);
    counters.uploads[UploadOutcome::of(outcome) as usize].increment(1);
    let Ok(receipt) = outcome else {
        return;
    };
    for (counter, count) in counters.keys.iter().zip(key_counts(receipt)) {
        if count > 0 {
            counter.increment(count);
        }
    }
}

/// Counts a download batch or an audit that is answered, and its bytes as far as they are known.
pub(crate) fn count_body(country: Country, kind: BodyKind, bytes: Option<u64>) {
    let body = &counters(country).bodies[kind as usize];
    body.answers.increment(1);
    body.bytes.increment(bytes.unwrap_or_default());
}

/// Starts the counters of a participant at 0: otherwise an alert on an increase would miss the
/// first one.
pub(crate) fn register(country: Country) {
    counters(country);
}

fn counters(country: Country) -> &'static Counters {
    /// By the two letters.
    static OF_COUNTRY: [OnceLock<Counters>; LETTERS * LETTERS] =
        [const { OnceLock::new() }; LETTERS * LETTERS];
    let [first, second] = country.letters().map(|letter| usize::from(letter - b'A'));
    OF_COUNTRY[first * LETTERS + second].get_or_init(|| Counters::of(country))
}

const LETTERS: usize = 26;

impl Counters {
    fn of(country: Country) -> Self {
        let by = |outcome| [("country", country.to_string()), outcome];
        Self {
            uploads: UploadOutcome::ALL.map(|outcome| {
                let labels = by(("outcome", outcome.name().to_owned()));
                counter!("efgs_uploads_total", &labels)
            }),
            keys: KEY_OUTCOMES.map(|outcome| {
                let labels = by(("outcome", outcome.to_owned()));
                counter!("efgs_keys_total", &labels)
            }),
            bodies: BodyKind::ALL.map(|kind| {
                let labels = by(("kind", kind.name().to_owned()));
                BodyCounters {
                    answers: counter!("efgs_downloads_total", &labels),
                    bytes: counter!("efgs_download_bytes_total", &labels),
                }
            }),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_keys_by_what_became_of_them() {
        let stored = |replayed| Receipt::Stored {
            key_count: 7,
            replayed,
        };
        assert_eq!(key_counts(&stored(false)), [7, 0, 0]);
        assert_eq!(key_counts(&stored(true)), [0, 0, 0]);
        let duplicates = Receipt::Refused {
            key_count: 7,
            duplicates: vec![1, 4],
        };
        assert_eq!(key_counts(&duplicates), [0, 2, 5]);
    }
}
