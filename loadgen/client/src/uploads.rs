//! Uploads that lose no key and store none twice, on any server of the protocol.
//!
//! What is sent is written down first ([`Pending`] in a [`Journal`]): after a lost answer, a broken
//! connection or a crash the same keys go again under the same tag. Each answer is resolved into keys
//! that are done and uploads that take its place, in one step of the journal.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use testkit::protocol::signed_bytes;

use crate::connection::Connection;
use crate::diagnosis_key::{DiagnosisKey, KeyFault, encode};
use crate::signing::{BatchSigner, SigningError};
use crate::verdict::{Verdict, classify_answer};

/// Most keys of an upload: the reference's limit and our default (wire §11.9).
pub const UPLOAD_KEYS_MAX: usize = 5000;
/// How often the server may fail to store a key (`500` in a 207) before it counts as refused.
const FAILURES_MAX: u32 = 3;

/// An upload whose outcome is not known. Its tag and keys never change, so it can be sent again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pending {
    /// The upload tag.
    pub tag: String,
    /// Its keys; at least one.
    pub keys: Vec<DiagnosisKey>,
    /// How often the server has failed to store these keys.
    pub failures: u32,
}

impl Pending {
    /// An upload under a new tag, which nobody else uses: 128 random bits.
    pub fn new(country: &str, keys: Vec<DiagnosisKey>) -> Self {
        Self {
            tag: new_tag(country),
            keys,
            failures: 0,
        }
    }

    /// Cuts keys into uploads, each under a new tag. Keys that repeat are left out once: a server refuses
    /// an upload with the same key in it twice.
    pub fn split(country: &str, keys: Vec<DiagnosisKey>, keys_max: usize) -> Vec<Self> {
        let mut seen = std::collections::HashSet::new();
        let mut unique = keys;
        unique.retain(|key| seen.insert(key.clone()));
        let parts = unique.chunks(keys_max.max(1));
        parts
            .map(|part| Self::new(country, part.to_vec()))
            .collect()
    }
}

fn new_tag(country: &str) -> String {
    let bytes: [u8; 16] = rand::random();
    format!("{country}-{}", URL_SAFE_NO_PAD.encode(bytes))
}

/// How a key ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum KeyOutcome {
    /// The gateway has stored it.
    Stored(DiagnosisKey),
    /// The gateway had it already, from an own upload before: perhaps one whose answer was lost.
    Known(DiagnosisKey),
    /// No gateway takes it.
    Refused {
        /// The key.
        key: DiagnosisKey,
        /// Why, for its owner.
        reason: String,
    },
}

/// What an answer does to an upload.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Resolution {
    /// Keys that are done.
    pub outcomes: Vec<KeyOutcome>,
    /// Uploads that take its place; together with `outcomes` they are all of its keys.
    pub next: Vec<Pending>,
}

/// Uploads on their way, on durable storage.
pub trait Journal {
    /// Why it cannot be read or written.
    type Error;

    /// The oldest upload whose outcome is not known.
    ///
    /// # Errors
    /// When it cannot be read.
    fn oldest(&mut self) -> Result<Option<Pending>, Self::Error>;

    /// Replaces an upload by what has become of it: all of it, durably, or nothing.
    ///
    /// # Errors
    /// When it cannot be written; then nothing has changed.
    fn resolve(&mut self, done: &Pending, resolution: Resolution) -> Result<(), Self::Error>;

    /// Hears of an attempt that failed, in a row of so many, and how long it is until the next: to show
    /// somebody who waits. Nothing by default.
    fn note_failure(&mut self, attempts: u32, reason: &str, wait: Duration) {
        let _ = (attempts, reason, wait);
    }
}

/// A journal in memory, for a process that may lose it.
#[derive(Debug, Default)]
pub struct MemoryJournal {
    /// Not outcomes, oldest first.
    pub pending: Vec<Pending>,
    /// Done.
    pub outcomes: Vec<KeyOutcome>,
}

impl Journal for MemoryJournal {
    type Error = std::convert::Infallible;

    fn oldest(&mut self) -> Result<Option<Pending>, Self::Error> {
        Ok(self.pending.first().cloned())
    }

    fn resolve(&mut self, done: &Pending, resolution: Resolution) -> Result<(), Self::Error> {
        self.pending.retain(|pending| pending.tag != done.tag);
        self.pending.splice(0..0, resolution.next);
        self.outcomes.extend(resolution.outcomes);
        Ok(())
    }
}

/// What to do after an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Next {
    /// The upload is resolved.
    Resolved(Resolution),
    /// Send the same again, after this time or the caller's own backoff.
    Again {
        /// What the server asks for.
        wait: Option<Duration>,
        /// Why, for the log.
        reason: String,
    },
    /// Do not send anything more until an operator has repaired what `reason` says. The keys stay pending.
    Stop {
        /// What is wrong.
        reason: String,
    },
}

/// Why uploading ended before the journal was empty.
#[derive(Debug, thiserror::Error)]
pub enum UploadError<E> {
    /// An operator has to repair something: certificate, signer, settings.
    #[error("uploading has stopped: {0}")]
    Stopped(String),
    /// The gateway did not take the upload in so many attempts.
    #[error("gave up after {attempts} attempts: {reason}")]
    GaveUp {
        /// How many.
        attempts: u32,
        /// Why the last one failed.
        reason: String,
    },
    /// The journal.
    #[error("the journal of uploads: {0}")]
    Journal(E),
}

/// A participant that uploads.
#[derive(Debug)]
pub struct Uploader {
    connection: Connection,
    signer: BatchSigner,
    country: String,
}

impl Uploader {
    /// Uploads as `country` over a connection.
    pub fn new(connection: Connection, signer: BatchSigner, country: &str) -> Self {
        Self {
            connection,
            signer,
            country: country.to_owned(),
        }
    }

    /// Sends every upload of a journal until it is empty; what fails for now is tried again, at most
    /// `attempts_max` times in a row.
    ///
    /// ```no_run
    /// # async fn example(mut uploader: efgs_client::Uploader, keys: Vec<efgs_client::DiagnosisKey>)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// use efgs_client::{MemoryJournal, Pending, UPLOAD_KEYS_MAX};
    ///
    /// let mut journal = MemoryJournal {
    ///     pending: Pending::split("DE", keys, UPLOAD_KEYS_MAX),
    ///     ..MemoryJournal::default()
    /// };
    /// uploader.drain(&mut journal, 20).await?;
    /// println!("{} keys have an outcome", journal.outcomes.len());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`UploadError`]; what has no outcome yet is in the journal.
    pub async fn drain<J: Journal>(
        &mut self,
        journal: &mut J,
        attempts_max: u32,
    ) -> Result<(), UploadError<J::Error>> {
        let mut attempts = 0;
        while let Some(pending) = journal.oldest().map_err(UploadError::Journal)? {
            match self.send(&pending).await {
                Next::Resolved(resolution) => {
                    attempts = 0;
                    let resolved = journal.resolve(&pending, resolution);
                    resolved.map_err(UploadError::Journal)?;
                }
                Next::Stop { reason } => return Err(UploadError::Stopped(reason)),
                Next::Again { wait, reason } => {
                    attempts += 1;
                    if attempts >= attempts_max {
                        return Err(UploadError::GaveUp { attempts, reason });
                    }
                    let wait = wait.unwrap_or_else(|| backoff(attempts));
                    journal.note_failure(attempts, &reason, wait);
                    tokio::time::sleep(wait).await;
                }
            }
        }
        Ok(())
    }

    /// Sends an upload once.
    pub async fn send(&mut self, pending: &Pending) -> Next {
        let now_seconds = crate::answer::now_seconds();
        let resolution = leave_out_invalid(pending, &self.country, now_seconds);
        if let Some(resolution) = resolution {
            return Next::Resolved(resolution);
        }
        let (body, signature) = match self.sign(pending) {
            Ok(signed) => signed,
            Err(error) => {
                return Next::Stop {
                    reason: engine::chain(&error),
                };
            }
        };
        let Some(headers) = headers(&pending.tag, &signature) else {
            return Next::Stop {
                reason: "the upload tag or the signature is no header".to_owned(),
            };
        };
        let path = "/diagnosiskeys/upload";
        let sent = self.connection.send(Method::POST, path, &headers, body);
        match sent.await {
            Ok(answer) => resolve(
                pending,
                &self.country,
                classify_answer(&answer, pending.keys.len()),
            ),
            Err(error) => Next::Again {
                wait: None,
                reason: engine::chain(&error),
            },
        }
    }

    fn sign(&self, pending: &Pending) -> Result<(Bytes, String), SigningError> {
        let body = encode(&pending.keys);
        let canonical = signed_bytes(&body).expect("what we encode can be read");
        Ok((body.into(), self.signer.sign(&canonical)?))
    }
}

/// How long to wait after that many failed attempts: one second, doubled up to five minutes.
pub fn backoff(attempts: u32) -> Duration {
    const LONGEST: Duration = Duration::from_secs(300);
    let doubled = 1_u64
        .checked_shl(attempts.saturating_sub(1))
        .unwrap_or(u64::MAX);
    Duration::from_secs(doubled).min(LONGEST)
}

fn headers(tag: &str, signature: &str) -> Option<[(HeaderName, HeaderValue); 4]> {
    let name = HeaderName::from_static;
    Some([
        (
            CONTENT_TYPE,
            HeaderValue::from_static("application/protobuf; version=1.0"),
        ),
        (
            ACCEPT,
            HeaderValue::from_static("application/json; version=1.0"),
        ),
        (name("batchtag"), HeaderValue::from_str(tag).ok()?),
        (
            name("batchsignature"),
            HeaderValue::from_str(signature).ok()?,
        ),
    ])
}

/// Takes out keys that no gateway takes (any more); nothing if there are none.
fn leave_out_invalid(pending: &Pending, country: &str, now_seconds: u64) -> Option<Resolution> {
    let fault = |key: &DiagnosisKey| key.check(country, now_seconds).err();
    let refuse = |key: &DiagnosisKey, fault: KeyFault| KeyOutcome::Refused {
        key: key.clone(),
        reason: fault.to_string(),
    };
    let keys = pending.keys.iter();
    let outcomes: Vec<_> = keys
        .filter_map(|key| Some(refuse(key, fault(key)?)))
        .collect();
    if outcomes.is_empty() {
        return None;
    }
    let valid = pending.keys.iter().filter(|key| fault(key).is_none());
    Some(Resolution {
        outcomes,
        next: rest(country, valid.cloned().collect(), pending.failures),
    })
}

fn rest(country: &str, keys: Vec<DiagnosisKey>, failures: u32) -> Vec<Pending> {
    if keys.is_empty() {
        return Vec::new();
    }
    vec![Pending {
        failures,
        ..Pending::new(country, keys)
    }]
}

/// What a verdict does to an upload. Everything that is sent anew gets a new tag: it is other content, or
/// the old tag is taken.
pub fn resolve(pending: &Pending, country: &str, verdict: Verdict) -> Next {
    let stored = |key: &DiagnosisKey| KeyOutcome::Stored(key.clone());
    Next::Resolved(match verdict {
        Verdict::Stored => Resolution {
            outcomes: pending.keys.iter().map(stored).collect(),
            next: Vec::new(),
        },
        Verdict::Partly { known, failed } => after_207(pending, country, &known, &failed),
        Verdict::TagTaken => Resolution {
            outcomes: Vec::new(),
            next: rest(country, pending.keys.clone(), pending.failures),
        },
        Verdict::TooLarge => halve(pending, country),
        Verdict::KeyRefused { position, reason } => {
            let mut keys = pending.keys.clone();
            let key = keys.remove(position);
            Resolution {
                outcomes: vec![KeyOutcome::Refused { key, reason }],
                next: rest(country, keys, pending.failures),
            }
        }
        Verdict::Later { wait, reason } => return Next::Again { wait, reason },
        Verdict::Stop { reason } => return Next::Stop { reason },
    })
}

/// Known keys are stored, by an own earlier upload. The others are not, whatever the list is called that
/// they are in, and go again; those that the server failed to store on their own, so that they do not
/// take the others with them.
fn after_207(pending: &Pending, country: &str, known: &[usize], failed: &[usize]) -> Resolution {
    let (mut outcomes, mut again, mut faulty) = (Vec::new(), Vec::new(), Vec::new());
    for (position, key) in pending.keys.iter().enumerate() {
        match (known.contains(&position), failed.contains(&position)) {
            (true, _) => outcomes.push(KeyOutcome::Known(key.clone())),
            (_, true) => faulty.push(key.clone()),
            _ => again.push(key.clone()),
        }
    }
    let failures = pending.failures + 1;
    if failures >= FAILURES_MAX {
        let refused = faulty.drain(..).map(|key| KeyOutcome::Refused {
            key,
            reason: format!("the gateway could not store it in {failures} attempts"),
        });
        outcomes.extend(refused);
    }
    let mut next = rest(country, again, pending.failures);
    // One by one once they have failed together: one may have taken the others with it.
    let alone = if pending.failures == 0 {
        faulty.len()
    } else {
        1
    };
    for keys in faulty.chunks(alone.max(1)) {
        next.extend(rest(country, keys.to_vec(), failures));
    }
    Resolution { outcomes, next }
}

fn halve(pending: &Pending, country: &str) -> Resolution {
    if let [key] = pending.keys.as_slice() {
        let refused = KeyOutcome::Refused {
            key: key.clone(),
            reason: "413: too large even alone".to_owned(),
        };
        return Resolution {
            outcomes: vec![refused],
            next: Vec::new(),
        };
    }
    let halves = pending.keys.chunks(pending.keys.len().div_ceil(2));
    Resolution {
        outcomes: Vec::new(),
        next: halves
            .flat_map(|half| rest(country, half.to_vec(), pending.failures))
            .collect(),
    }
}

#[cfg(test)]
mod tests;
