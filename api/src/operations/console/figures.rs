//! What a gateway says about itself, to the consoles of all gateways: it goes through the database, as JSON.
//!
//! Whoever can write the database can write anything there: a console shows it as text, within bounds, and
//! believes nothing more.

use std::collections::BTreeMap;

use engine::domain::Country;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::delay::Delays;
use super::history::rounded;
use super::sentence::Sentence;

/// Sentences that are passed on.
const SENTENCES_MAX: usize = 24;
/// Reasons of refusals that are passed on of each participant; the rest is added up under [`OTHER_REASONS`].
const REASONS_MAX: usize = 16;
/// In place of a code.
const OTHER_REASONS: &str = "other";
/// Bytes of a code that another gateway may name.
const CODE_BYTES_MAX: usize = 64;
/// Bytes of a sentence that is passed on; a longer one is cut.
const SENTENCE_BYTES_MAX: usize = 600;

/// Of one gateway.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Figures {
    pub(super) is_ready: bool,
    /// It said good-bye: it was stopped, not lost.
    pub(super) has_stopped: bool,
    /// Where its operations port is, if it has one.
    pub(super) address: Option<String>,
    /// It cuts download batches.
    pub(super) cuts: bool,
    pub(super) database_available: bool,
    pub(super) clock_ahead_of_database_ms: i64,
    pub(super) epoch: u64,
    pub(super) log_position: u64,
    pub(super) rates: Rates,
    pub(super) gauges: Gauges,
    pub(super) delays_minute: Delays,
    pub(super) delays_hour: Delays,
    /// Refused requests of the last hour, by code.
    pub(super) refusals: BTreeMap<String, u64>,
    pub(super) participants: BTreeMap<String, ParticipantFigures>,
    /// What it needs attention for.
    pub(super) sentences: Vec<Sentence>,
}

/// Per second, over the last seconds.
#[derive(Debug, Clone, Copy, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rates {
    pub(super) keys: f64,
    pub(super) uploads: f64,
    pub(super) downloads: f64,
    pub(super) download_bytes: f64,
    pub(super) refusals: f64,
}

/// How far it is used.
#[derive(Debug, Clone, Copy, Default, PartialEq, JsonSchema, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Gauges {
    pub(super) uploads_in_flight: Used,
    pub(super) upload_bytes_in_flight: Used,
    pub(super) connections: Used,
    pub(super) stored_memory_bytes: Used,
    pub(super) bundle_cache_bytes: Used,
    pub(super) audit_cache_bytes: Used,
    pub(super) callback_deliveries: Used,
    pub(super) open_files: Used,
    /// Of the disk with the SQLite database; 0 of 0 with a database server.
    pub(super) disk_bytes: Used,
    pub(super) identities: u64,
    pub(super) resident_bytes: u64,
    /// Seconds of CPU time per second.
    pub(super) cpu_cores: f64,
}

/// So much of so much.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, JsonSchema, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Used {
    pub(super) used: u64,
    pub(super) max: u64,
}

/// Of one participant, in the last hour.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ParticipantFigures {
    /// Keys that were stored before.
    #[serde(skip_serializing_if = "is_0")]
    pub(super) duplicate_keys: u64,
    /// Uploads that were refused for such keys.
    #[serde(skip_serializing_if = "is_0")]
    pub(super) duplicate_uploads: u64,
    /// Uploads that were wrong.
    #[serde(skip_serializing_if = "is_0")]
    pub(super) rejected_uploads: u64,
    /// Uploads that were refused at a bound or for their form.
    #[serde(skip_serializing_if = "is_0")]
    pub(super) refused_uploads: u64,
    /// Uploads that failed at the gateway.
    #[serde(skip_serializing_if = "is_0")]
    pub(super) failed_uploads: u64,
    /// Refused requests that show its certificate, by code.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub(super) refusals: BTreeMap<String, u64>,
    /// When it last downloaded anything, in milliseconds, as of some seconds; 0 if it is not known to have.
    #[serde(skip_serializing_if = "is_0")]
    pub(super) last_download_at: u64,
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde passes a reference"
)]
const fn is_0(count: &u64) -> bool {
    *count == 0
}

impl Figures {
    /// As bytes for the others.
    pub(super) fn into_bytes(mut self) -> Vec<u8> {
        self.participants
            .values_mut()
            .for_each(|seen| keep_most_frequent(&mut seen.refusals));
        serde_json::to_vec(&self).unwrap_or_default()
    }

    /// What another gateway says; what cannot be read counts as nothing.
    pub(super) fn from_bytes(bytes: &[u8]) -> Self {
        let mut read: Self = serde_json::from_slice(bytes).unwrap_or_default();
        read.sentences.truncate(SENTENCES_MAX);
        read.sentences
            .iter_mut()
            .for_each(|sentence| sentence.cut(SENTENCE_BYTES_MAX));
        let is_code = |code: &String| code.len() <= CODE_BYTES_MAX;
        read.refusals.retain(|code, _| is_code(code));
        read.participants
            .retain(|country, _| Country::parse(country).is_ok());
        for seen in read.participants.values_mut() {
            seen.refusals.retain(|code, _| is_code(code));
            keep_most_frequent(&mut seen.refusals);
        }
        read
    }
}

/// Adds up all but the most frequent reasons, so that a participant which is refused for everything takes
/// little of the room of all.
fn keep_most_frequent(refusals: &mut BTreeMap<String, u64>) {
    if refusals.len() <= REASONS_MAX {
        return;
    }
    let mut by_count: Vec<_> = std::mem::take(refusals).into_iter().collect();
    by_count.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
    let rest = by_count.split_off(REASONS_MAX - 1);
    refusals.extend(by_count);
    let rest = rest.into_iter().map(|(_, count)| count);
    let others = refusals.entry(OTHER_REASONS.to_owned()).or_default();
    *others = rest.fold(*others, u64::saturating_add);
}

/// Adds counts of refusals, by code.
pub(super) fn add_refusals(refused: &mut BTreeMap<String, u64>, others: &BTreeMap<String, u64>) {
    for (code, count) in others {
        let known = refused.entry(code.clone()).or_default();
        *known = known.saturating_add(*count);
    }
}

impl Used {
    /// How much of it is used; nothing where there is no bound.
    #[allow(clippy::cast_precision_loss, reason = "bytes are far below 2^53")]
    pub(super) fn percent(self) -> Option<f64> {
        (self.max > 0).then(|| self.used as f64 / self.max as f64 * 100.0)
    }
}

impl Rates {
    /// Adds those of another gateway.
    pub(super) fn add(&mut self, other: &Self) {
        self.keys += other.keys;
        self.uploads += other.uploads;
        self.downloads += other.downloads;
        self.download_bytes += other.download_bytes;
        self.refusals += other.refusals;
    }

    pub(super) fn rounded(self) -> Self {
        Self {
            keys: rounded(self.keys),
            uploads: rounded(self.uploads),
            downloads: rounded(self.downloads),
            download_bytes: rounded(self.download_bytes),
            refusals: rounded(self.refusals),
        }
    }
}

impl ParticipantFigures {
    /// Adds what another gateway has seen of the same participant.
    pub(super) fn add(&mut self, other: &Self) {
        self.duplicate_keys = self.duplicate_keys.saturating_add(other.duplicate_keys);
        self.duplicate_uploads = self
            .duplicate_uploads
            .saturating_add(other.duplicate_uploads);
        self.rejected_uploads = self.rejected_uploads.saturating_add(other.rejected_uploads);
        self.refused_uploads = self.refused_uploads.saturating_add(other.refused_uploads);
        self.failed_uploads = self.failed_uploads.saturating_add(other.failed_uploads);
        add_refusals(&mut self.refusals, &other.refusals);
        self.last_download_at = self.last_download_at.max(other.last_download_at);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::attention::Severity;

    #[test]
    fn reads_what_it_writes_and_takes_anything_else_for_nothing() {
        let mut figures = Figures {
            is_ready: true,
            epoch: 3,
            ..Figures::default()
        };
        let seen = ParticipantFigures {
            duplicate_keys: 4,
            last_download_at: 7,
            ..ParticipantFigures::default()
        };
        figures.participants.insert("DE".to_owned(), seen);
        figures.refusals.insert("not_found".to_owned(), 2);
        assert_eq!(Figures::from_bytes(&figures.clone().into_bytes()), figures);
        for other in ["", "[]", "{\"epoch\":-1}", "\u{0}", "{\"rates\":null}"] {
            assert_eq!(
                Figures::from_bytes(other.as_bytes()),
                Figures::default(),
                "{other:?}"
            );
        }
        let newer = Figures::from_bytes(b"{\"epoch\":5,\"unheardOf\":[1]}");
        assert_eq!(newer.epoch, 5);
    }

    #[test]
    fn bounds_what_others_say() {
        let sentence = Sentence {
            severity: Severity::Error,
            text: "ü".repeat(400),
        };
        let figures = Figures {
            sentences: vec![sentence; 30],
            ..Figures::default()
        };
        let read = Figures::from_bytes(&figures.into_bytes());
        assert_eq!(read.sentences.len(), SENTENCES_MAX);
        assert!(read.sentences[0].text.len() <= SENTENCE_BYTES_MAX + 3);
    }

    #[test]
    fn adds_up_the_rarest_reasons_beyond_a_bound() {
        let count_of = |number: u64| (format!("code_{number:02}"), number);
        let mut figures = Figures::default();
        let all = ParticipantFigures {
            refusals: (1..=40).map(count_of).collect(),
            ..ParticipantFigures::default()
        };
        figures.participants.insert("DE".to_owned(), all);
        let read = Figures::from_bytes(&figures.into_bytes());
        let refusals = &read.participants["DE"].refusals;
        assert_eq!(refusals.len(), REASONS_MAX);
        assert_eq!((refusals["code_40"], refusals["code_26"]), (40, 26));
        assert_eq!(refusals[OTHER_REASONS], (1..=25).sum::<u64>());
        assert_eq!(refusals.values().sum::<u64>(), (1..=40).sum::<u64>());
    }

    #[test]
    fn takes_little_room_for_all_participants() {
        let mut figures = Figures::default();
        let codes = crate::response::catalog::every_code().into_iter();
        let refusals: BTreeMap<_, _> = codes.map(|code| (code.to_owned(), 123_456)).collect();
        for letters in b'A'..=b'Z' {
            let country = format!("A{}", char::from(letters));
            let seen = ParticipantFigures {
                last_download_at: 1_600_000_000_000,
                duplicate_keys: 5000,
                duplicate_uploads: 12,
                refusals: refusals.clone(),
                ..ParticipantFigures::default()
            };
            figures.participants.insert(country, seen);
        }
        let bytes = figures.into_bytes().len();
        assert!(
            bytes < engine::limits::GATEWAY_FIGURES_BYTES_MAX / 3,
            "{bytes}"
        );
    }
}
