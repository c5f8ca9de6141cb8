//! What needs attention, in sentences: what `/ready` says, as an operator reads it.
//!
//! Bounds at which a sentence comes are those of the alerts in `deploy/prometheus`.

use super::figures::{Gauges, Used};
use super::sentence::Sentence;
use crate::operations::status::ShownStatus;

/// What is wrong with a gateway's state. The findings of its `attention` are added to these.
pub(super) fn of_status(status: &ShownStatus) -> Vec<Sentence> {
    let mut sentences = Vec::new();
    if let Some(progress) = &status.starting {
        let (read, expected) = (progress.keys_read, progress.keys_expected);
        let text = format!(
            "the gateway is starting: it has read {read} of {expected} stored keys, and serves nobody \
             until it has read them all"
        );
        sentences.push(Sentence::warning(text));
        return sentences;
    }
    if status.stopping {
        let text = "the gateway is stopping: it finishes what it has begun";
        sentences.push(Sentence::warning(text));
    }
    sentences.extend(of_database(status));
    if !status.state_file_writable {
        let text = "the state file ([database] state_file) cannot be written, so that uploads are refused: \
                    make room on its disk, or give the gateway's user the right to write it";
        sentences.push(Sentence::error(text));
    }
    if !status.missing_sealing_keys.is_empty() {
        let text = format!(
            "sealing keys that other gateways have are missing here (ids {:?}), so that uploads sealed with them \
             cannot be read: copy the key file of the installation to this gateway",
            status.missing_sealing_keys
        );
        sentences.push(Sentence::error(text));
    }
    if let Some(reason) = &status.cutting_stopped {
        let text = format!(
            "no download batches are cut, so that participants receive no new keys: {reason}"
        );
        sentences.push(Sentence::error(text));
    }
    if let Some(doubt) = &status.day_in_doubt {
        sentences.push(Sentence::warning(doubt));
    }
    if let Some(reason) = status.uploads_refused {
        sentences.push(Sentence::error(format!("uploads are refused: {reason}")));
    }
    let damaged = status.damaged_uploads.iter();
    sentences.extend(damaged.map(Sentence::error));
    sentences
}

fn of_database(status: &ShownStatus) -> Option<Sentence> {
    let text = if let Some(difference) = &status.database_went_back {
        format!(
            "the database has gone back to an earlier state, and nothing is served until an operator has \
             looked: {difference}; see docs/recovery.md"
        )
    } else if let Some(refusal) = &status.database_refusal {
        format!("the database stores no uploads: {refusal}")
    } else if !status.database_available {
        "the database does not answer: uploads are refused, and only download batches that are in memory \
         are served"
            .to_owned()
    } else {
        return None;
    };
    Some(Sentence::error(text))
}

/// How much of a bound is used, in percent, when somebody should look. All of it is told otherwise.
const NEARLY_USED: f64 = 80.0;

/// What is nearly used up.
pub(super) fn of_gauges(gauges: &Gauges) -> Vec<Sentence> {
    let nearly = |used: Used, what: &str, remedy: &str| {
        let percent = used
            .percent()
            .filter(|percent| (NEARLY_USED..100.0).contains(percent))?;
        let text = format!("{percent:.0} % of {what} are used: {remedy}");
        Some(Sentence::warning(text))
    };
    [
        nearly(
            gauges.stored_memory_bytes,
            "the memory for stored keys",
            "uploads are refused once all is used; raise [memory] stored_bytes_max",
        ),
        nearly(
            gauges.connections,
            "the connections that may be open",
            "the next ones displace idle ones; see [connections], and who holds them",
        ),
        nearly(
            gauges.open_files,
            "the files that may be open",
            "raise the limit of open files of the service",
        ),
    ]
    .into_iter()
    .flatten()
    .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn well() -> ShownStatus {
        ShownStatus {
            ready: true,
            database_available: true,
            state_file_writable: true,
            ..ShownStatus::default()
        }
    }

    #[test]
    fn says_nothing_of_a_gateway_that_is_well() {
        assert_eq!(of_status(&well()), []);
        assert_eq!(of_gauges(&Gauges::default()), []);
    }

    #[test]
    fn says_what_is_wrong_and_what_follows() {
        let check = |status: ShownStatus, expected: &str| {
            let found = of_status(&status);
            assert_eq!(found.len(), 1, "{found:?}");
            let text = &found[0].text;
            assert!(text.starts_with(expected), "{text}");
            assert!(text.ends_with('.'), "{text}");
        };
        check(
            ShownStatus {
                database_available: false,
                ..well()
            },
            "The database does not answer: uploads are refused",
        );
        check(
            ShownStatus {
                database_refusal: Some("the disk is full".to_owned()),
                ..well()
            },
            "The database stores no uploads: the disk is full",
        );
        check(
            ShownStatus {
                state_file_writable: false,
                ..well()
            },
            "The state file ([database] state_file) cannot be written",
        );
        check(
            ShownStatus {
                cutting_stopped: Some("the clocks differ".to_owned()),
                ..well()
            },
            "No download batches are cut",
        );
        check(
            ShownStatus {
                stopping: true,
                ..well()
            },
            "The gateway is stopping",
        );
        check(
            ShownStatus {
                day_in_doubt: Some("the clock shows 2020-11-15".to_owned()),
                ..well()
            },
            "The clock shows 2020-11-15",
        );
    }

    #[test]
    fn warns_before_memory_is_used_up() {
        let of = |used| Gauges {
            stored_memory_bytes: Used { used, max: 1000 },
            ..Gauges::default()
        };
        assert_eq!(of_gauges(&of(799)), []);
        assert_eq!(
            of_gauges(&of(1000)),
            [],
            "uploads are refused, which is said"
        );
        let found = of_gauges(&of(800));
        assert!(
            found[0]
                .text
                .starts_with("80 % of the memory for stored keys"),
            "{found:?}"
        );
    }
}
