//! What the answer to an upload means, and what is to be done: a pure function of the answer, for our
//! gateway and for the reference server (wire §11 and §12).

use std::time::Duration;

use serde::Deserialize;

use crate::answer::Answer;

/// Longest wait that an answer can ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_secs(86_400);

/// What an answer says about the upload that it answers. Positions are those of the upload's keys,
/// from 0.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// 201: every key is stored.
    Stored,
    /// 207: nothing of this upload is stored. What is `known` was stored before, by an own earlier
    /// upload, since nobody else uploads keys of this origin.
    Partly {
        /// Positions under `409`: stored already, or repeats of a key of this upload.
        known: Vec<usize>,
        /// Positions under `500`: the server could not store them.
        failed: Vec<usize>,
    },
    /// 409: the tag is in use: for the same keys, on a server that does not recognise a repeat, or for
    /// others. The same keys under a new tag find out.
    TagTaken,
    /// 413: more than the server takes at once.
    TooLarge,
    /// 400: this key breaks a rule, the others may not.
    KeyRefused {
        /// Its position.
        position: usize,
        /// The rule, as the server calls it.
        reason: String,
    },
    /// Stored or not: unknown, or not yet. The same again, after `wait` if the server names it.
    Later {
        /// From `Retry-After`; at most a day.
        wait: Option<Duration>,
        /// Status and code.
        reason: String,
    },
    /// The keys are not at fault and trying again does not help: certificate, signer or settings.
    Stop {
        /// Status, code and advice.
        reason: String,
    },
}

/// An error in the shapes that servers use: ours, the reference's with `message` alone, and
/// `application/problem+json`.
#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct ErrorBody {
    message: Option<String>,
    code: Option<String>,
    reason: Option<String>,
    advice: Option<String>,
    key_index: Option<usize>,
    title: Option<String>,
    detail: Option<String>,
}

/// The body of a 207; lists may be missing.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Outcomes {
    #[serde(rename = "201")]
    accepted: Vec<usize>,
    #[serde(rename = "409")]
    known: Vec<usize>,
    #[serde(rename = "500")]
    failed: Vec<usize>,
}

/// Classifies the answer to an upload of `key_count` keys.
pub fn classify_answer(answer: &Answer, key_count: usize) -> Verdict {
    let error = ErrorBody::read(answer);
    match answer.status {
        201 => Verdict::Stored,
        207 => multi_status(answer, key_count),
        409 => Verdict::TagTaken,
        413 => Verdict::TooLarge,
        400 => match error.key_index.filter(|position| *position < key_count) {
            Some(position) if error.is_about_keys() => Verdict::KeyRefused {
                position,
                reason: error.say(answer.status),
            },
            _ => Verdict::Stop {
                reason: error.say(answer.status),
            },
        },
        408 | 425 | 429 | 500..=599 => Verdict::Later {
            wait: answer.retry_after().map(|wait| wait.min(RETRY_AFTER_MAX)),
            reason: error.say(answer.status),
        },
        // 200 among them: no server that speaks the protocol answers an upload with it (clients §1.1).
        status => Verdict::Stop {
            reason: error.say(status),
        },
    }
}

fn multi_status(answer: &Answer, key_count: usize) -> Verdict {
    let read = serde_json::from_slice::<Outcomes>(&answer.body);
    let outcomes = read.unwrap_or_default();
    let named = [&outcomes.accepted, &outcomes.known, &outcomes.failed];
    let mut positions: Vec<usize> = named.into_iter().flatten().copied().collect();
    positions.sort_unstable();
    // Whatever is not named cannot be taken for stored, nor a list of positions that are not there.
    let is_whole = positions.iter().copied().eq(0..key_count);
    let says_why = !outcomes.known.is_empty() || !outcomes.failed.is_empty();
    if !is_whole || !says_why {
        return Verdict::Stop {
            reason: format!("207 whose lists do not name each of the {key_count} keys once"),
        };
    }
    Verdict::Partly {
        known: outcomes.known,
        failed: outcomes.failed,
    }
}

impl ErrorBody {
    fn read(answer: &Answer) -> Self {
        serde_json::from_slice(&answer.body).unwrap_or_default()
    }

    /// Whether `keyIndex` names a key that can be left out. A batch signature is about all of them.
    fn is_about_keys(&self) -> bool {
        matches!(
            self.code.as_deref(),
            Some("invalid_key" | "origin_mismatch")
        )
    }

    fn say(&self, status: u16) -> String {
        let parts = [
            &self.code,
            &self.reason,
            &self.message,
            &self.title,
            &self.detail,
            &self.advice,
        ];
        let mut said = status.to_string();
        for part in parts.into_iter().flatten() {
            said.push_str(": ");
            said.extend(part.chars().take(200));
        }
        said
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue};

    use super::*;

    fn answer(status: u16, body: &'static str) -> Answer {
        Answer {
            status,
            headers: HeaderMap::new(),
            body: Bytes::from_static(body.as_bytes()),
        }
    }

    fn stops(status: u16, body: &'static str, says: &str) {
        let verdict = classify_answer(&answer(status, body), 3);
        match &verdict {
            Verdict::Stop { reason } => assert!(reason.contains(says), "{reason}"),
            _ => panic!("{status}: {verdict:?}"),
        }
    }

    #[test]
    fn takes_a_207_for_what_it_is() {
        let partly = |body| classify_answer(&answer(207, body), 3);
        assert_eq!(
            partly(r#"{"201":[1],"409":[0,2],"500":[]}"#),
            Verdict::Partly {
                known: vec![0, 2],
                failed: vec![]
            }
        );
        assert_eq!(
            partly(r#"{"409":[0,1,2]}"#),
            Verdict::Partly {
                known: vec![0, 1, 2],
                failed: vec![]
            }
        );
        // Keys are not lost to an answer that does not name them, or not sensibly.
        for body in [
            "",
            "[]",
            r#"{"201":[0,1,2],"409":[],"500":[]}"#,
            r#"{"201":[0],"409":[1],"500":[]}"#,
            r#"{"201":[0,1],"409":[1,2],"500":[]}"#,
            r#"{"201":[0,1],"409":[3],"500":[]}"#,
        ] {
            assert!(matches!(partly(body), Verdict::Stop { .. }), "{body}");
        }
    }

    #[test]
    fn tells_faults_of_keys_from_faults_of_the_signer() {
        let body = r#"{"message":"m","code":"invalid_key","keyIndex":2,"reason":"rolling_start"}"#;
        let verdict = classify_answer(&answer(400, body), 3);
        assert!(
            matches!(verdict, Verdict::KeyRefused { position: 2, .. }),
            "{verdict:?}"
        );
        // The origins differ from the signer's country: the signer is another country's.
        let body = r#"{"code":"invalid_signature","keyIndex":0,"reason":"origin_mismatch"}"#;
        stops(400, body, "origin_mismatch");
        stops(400, r#"{"code":"invalid_key","keyIndex":3}"#, "invalid_key");
        stops(200, "<html>", "200");
        stops(
            403,
            r#"{"message":null,"code":"unknown_certificate"}"#,
            "unknown_certificate",
        );
    }

    /// As the reference server answers since 1.0.16 (wire §2).
    #[test]
    fn understands_problems_of_the_reference() {
        let problem = r#"{"type":"about:blank","title":"Bad Request","status":400,
            "detail":"Invalid signature","instance":"/diagnosiskeys/upload"}"#;
        stops(400, problem, "Invalid signature");
        assert_eq!(
            classify_answer(&answer(409, r#"{"title":"Conflict","status":409}"#), 3),
            Verdict::TagTaken
        );
        assert_eq!(classify_answer(&answer(413, "{}"), 3), Verdict::TooLarge);
    }

    #[test]
    fn waits_as_long_as_it_is_told_but_not_for_ever() {
        for (header, wait) in [
            (Some("7"), Some(Duration::from_secs(7))),
            (Some("Fri, 31 Dec 9999 00:00:00 GMT"), Some(RETRY_AFTER_MAX)),
            (None, None),
        ] {
            for status in [408, 429, 500, 502, 503, 504] {
                let mut answer = answer(status, "");
                if let Some(header) = header {
                    let value = HeaderValue::from_static(header);
                    answer.headers.insert("retry-after", value);
                }
                let verdict = classify_answer(&answer, 3);
                assert!(
                    matches!(&verdict, Verdict::Later { wait: found, .. } if *found == wait),
                    "{verdict:?}"
                );
            }
        }
    }
}
