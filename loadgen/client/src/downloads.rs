//! Downloads from a cursor that survives restarts: no batch is passed over and none comes twice.
//!
//! Links are followed across days. At the end the newest batch is asked for again, whose link then names
//! the next one; tags are never guessed. Where links end at midnight (the Swiss fork, wire §19), the next
//! day is looked at, and the end of the day before once more, so that a batch that came last is not missed.

use bytes::Bytes;
use engine::domain::{BatchTag, Day};
use http::header::ACCEPT;
use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use crate::answer::Answer;
use crate::connection::Connection;
use crate::diagnosis_key::{DiagnosisKey, Malformed, decode};
use crate::error::ClientError;

/// Days of download batches that a gateway keeps at most, for the search after a long pause.
const DAYS_MAX: u32 = 15;

/// How far a participant has read. Store it together with the batch that it belongs to.
///
/// ```
/// let cursor = efgs_client::Cursor::since("2021-06-01").expect("a day");
/// let stored = serde_json::to_string(&cursor)?;
/// assert_eq!(serde_json::from_str::<efgs_client::Cursor>(&stored)?, cursor);
/// # Ok::<(), serde_json::Error>(())
/// ```
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cursor {
    /// Nothing before this day is read, as `yyyy-MM-dd`.
    since: String,
    /// The tag of the last batch that was read.
    last: Option<String>,
    /// The link of that batch.
    next: Option<String>,
}

impl Cursor {
    /// Reads from the first batch of a day on, `yyyy-MM-dd` in UTC.
    pub fn since(day: &str) -> Option<Self> {
        Some(Self {
            since: Day::parse_iso(day).ok()?.to_string(),
            last: None,
            next: None,
        })
    }

    /// The tag of the last batch that was read.
    pub fn last(&self) -> Option<&str> {
        self.last.as_deref()
    }

    fn behind(&self, tag: &str, next: Option<String>) -> Self {
        Self {
            since: self.since.clone(),
            last: Some(tag.to_owned()),
            next,
        }
    }

    /// Nothing before this day is read, as `yyyy-MM-dd`.
    pub fn since_day(&self) -> &str {
        &self.since
    }

    fn day(&self) -> Option<Day> {
        let last = self.last.as_deref().and_then(day_of);
        last.or_else(|| Day::parse_iso(&self.since).ok())
    }
}

/// A download batch.
#[derive(Debug, Clone)]
pub struct DownloadedBatch {
    /// Its tag, `yyyyMMdd-N`.
    pub tag: String,
    /// The keys of others, in protobuf; none if all of them are the reader's own.
    pub body: Bytes,
    /// The cursor behind it.
    pub cursor: Cursor,
}

impl DownloadedBatch {
    /// Its keys.
    ///
    /// # Errors
    /// When the body is not a batch of diagnosis keys.
    pub fn keys(&self) -> Result<Vec<DiagnosisKey>, Malformed> {
        decode(&self.body)
    }
}

/// What there is to read.
#[derive(Debug, Clone)]
pub enum Read {
    /// A batch. Store it and its cursor before reading on.
    Batch(Box<DownloadedBatch>),
    /// Nothing new yet: ask again in a few minutes, or when called.
    UpToDate,
    /// The gateway no longer has what comes next: batches may be missing between the cursor and the day
    /// from which this one reads on. Report it, store it, and continue.
    Gap(Cursor),
}

/// Why nothing could be read.
#[derive(Debug, thiserror::Error)]
pub enum DownloadError {
    /// No answer. Try again.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// Not now (408, 429, 5xx). Try again, after this time if the gateway names it.
    #[error("the gateway is busy: {status}")]
    Later {
        /// The status.
        status: u16,
        /// From `Retry-After`.
        wait: Option<std::time::Duration>,
    },
    /// Trying again does not help: certificate, settings.
    #[error("refused: {0}")]
    Refused(String),
    /// A 200 that is not as the protocol says.
    #[error("the gateway's answer has no usable {0}")]
    Answer(&'static str),
}

/// A participant that downloads.
#[derive(Debug)]
pub struct Downloader {
    connection: Connection,
}

/// An answer to a download.
enum Found {
    Batch {
        tag: String,
        next: Option<String>,
        body: Bytes,
    },
    Missing,
    TooOld,
}

impl Downloader {
    /// Downloads over a connection.
    pub const fn new(connection: Connection) -> Self {
        Self { connection }
    }

    /// Reads what comes behind a cursor.
    ///
    /// ```no_run
    /// # async fn example(mut downloader: efgs_client::Downloader)
    /// # -> Result<(), Box<dyn std::error::Error>> {
    /// use efgs_client::{Cursor, Read};
    ///
    /// let mut cursor = Cursor::since("2021-06-01").expect("a day");
    /// loop {
    ///     match downloader.read(&cursor).await? {
    ///         Read::Batch(batch) => {
    ///             println!("{}: {} keys", batch.tag, batch.keys()?.len());
    ///             cursor = batch.cursor;
    ///         }
    ///         Read::Gap(later) => cursor = later,
    ///         Read::UpToDate => break,
    ///     }
    /// }
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`DownloadError`]; the cursor is as good as before.
    pub async fn read(&mut self, cursor: &Cursor) -> Result<Read, DownloadError> {
        if let Some(next) = &cursor.next {
            return self.follow(cursor, next).await;
        }
        let Some(last) = &cursor.last else {
            return self.first(cursor).await;
        };
        match self.look(day_of(last), Some(last)).await? {
            Found::Batch {
                next: Some(next), ..
            } if next != *last => self.follow(cursor, &next).await,
            Found::Batch { .. } => self.next_day(cursor, last).await,
            Found::Missing | Found::TooOld => self.after_gap(cursor).await,
        }
    }

    /// The audit of a batch, in JSON, for [`Auditor::verify`](crate::Auditor::verify).
    ///
    /// # Errors
    /// [`DownloadError`].
    pub async fn audit(&mut self, tag: &str) -> Result<Bytes, DownloadError> {
        let day = day_of(tag).ok_or(DownloadError::Answer("batchTag"))?;
        let path = format!("/diagnosiskeys/audit/download/{day}/{tag}");
        let accept = HeaderValue::from_static("application/json; version=1.0");
        let headers = [(ACCEPT, accept)];
        let sent = self
            .connection
            .send(Method::GET, &path, &headers, Bytes::new());
        let answer = sent.await?;
        match answer.status {
            200 => Ok(answer.body),
            _ => Err(refusal(&answer)),
        }
    }

    async fn follow(&mut self, cursor: &Cursor, tag: &str) -> Result<Read, DownloadError> {
        match self.look(day_of(tag), Some(tag)).await? {
            Found::Batch { tag, next, body } => Ok(batch(cursor, &tag, next, body)),
            Found::Missing | Found::TooOld => self.after_gap(cursor).await,
        }
    }

    /// The first batch of the cursor's day or of a later one.
    async fn first(&mut self, cursor: &Cursor) -> Result<Read, DownloadError> {
        match self.look(cursor.day(), None).await? {
            Found::Batch { tag, next, body } => Ok(batch(cursor, &tag, next, body)),
            Found::Missing => self.later_day(cursor).await,
            Found::TooOld => self.after_gap(cursor).await,
        }
    }

    /// Where a day without batches hides those of later days (the Swiss fork).
    async fn later_day(&mut self, cursor: &Cursor) -> Result<Read, DownloadError> {
        for day in days_after(cursor.day()) {
            if let Found::Batch { tag, next, body } = self.look(Some(day), None).await? {
                return Ok(batch(cursor, &tag, next, body));
            }
        }
        Ok(Read::UpToDate)
    }

    /// Whether links end at midnight.
    async fn next_day(&mut self, cursor: &Cursor, last: &str) -> Result<Read, DownloadError> {
        let Read::Batch(later) = self.later_day(cursor).await? else {
            return Ok(Read::UpToDate);
        };
        // It may have been cut after the link was looked at, and another one of the old day before it.
        match self.look(day_of(last), Some(last)).await? {
            Found::Batch {
                next: Some(next), ..
            } if next != last => self.follow(cursor, &next).await,
            _ => Ok(Read::Batch(later)),
        }
    }

    /// The cursor is older than what the gateway keeps, or its batch is gone.
    async fn after_gap(&mut self, cursor: &Cursor) -> Result<Read, DownloadError> {
        let days = cursor.day().into_iter().chain(days_after(cursor.day()));
        for day in days {
            let mut found = self.look(Some(day), None).await?;
            while let Found::Batch { tag, next, .. } = found {
                let is_new = |last: &str| BatchTag::parse(&tag).ok() > BatchTag::parse(last).ok();
                if cursor.last().is_none_or(is_new) {
                    return Ok(Read::Gap(Cursor {
                        since: day_of(&tag).unwrap_or(day).to_string(),
                        last: None,
                        next: Some(tag),
                    }));
                }
                // A batch from before the gap: what comes behind it may be new.
                let Some(next) = next else { break };
                found = self.look(day_of(&next), Some(&next)).await?;
            }
        }
        Ok(Read::UpToDate)
    }

    async fn look(&mut self, day: Option<Day>, tag: Option<&str>) -> Result<Found, DownloadError> {
        let day = day.ok_or(DownloadError::Answer("batchTag"))?;
        let path = format!("/diagnosiskeys/download/{day}");
        let accept = HeaderValue::from_static("application/protobuf; version=1.0");
        let mut headers = vec![(ACCEPT, accept)];
        if let Some(tag) = tag {
            let value =
                HeaderValue::from_str(tag).map_err(|_| DownloadError::Answer("batchTag"))?;
            headers.push((HeaderName::from_static("batchtag"), value));
        }
        let sent = self
            .connection
            .send(Method::GET, &path, &headers, Bytes::new());
        let answer = sent.await?;
        match answer.status {
            200 => found(answer),
            404 => Ok(Found::Missing),
            410 => Ok(Found::TooOld),
            _ => Err(refusal(&answer)),
        }
    }
}

/// A batch by its headers; a link is missing, empty, `null` in any case, or the batch itself (CH) at
/// the end.
fn found(answer: Answer) -> Result<Found, DownloadError> {
    let tag = answer.header("batchtag").map(str::trim);
    let tag = tag.filter(|tag| day_of(tag).is_some());
    let tag = tag.ok_or(DownloadError::Answer("batchTag"))?.to_owned();
    let next = answer.header("nextbatchtag").map(str::trim);
    let is_end = |next: &str| next.is_empty() || next.eq_ignore_ascii_case("null") || next == tag;
    let next = next.filter(|next| !is_end(next)).map(str::to_owned);
    decode(&answer.body).map_err(|_| DownloadError::Answer("body"))?;
    Ok(Found::Batch {
        next,
        body: answer.body,
        tag,
    })
}

fn batch(cursor: &Cursor, tag: &str, next: Option<String>, body: Bytes) -> Read {
    Read::Batch(Box::new(DownloadedBatch {
        cursor: cursor.behind(tag, next),
        tag: tag.to_owned(),
        body,
    }))
}

fn refusal(answer: &Answer) -> DownloadError {
    match answer.status {
        408 | 425 | 429 | 500..=599 => DownloadError::Later {
            status: answer.status,
            wait: answer.retry_after(),
        },
        status => {
            let said = String::from_utf8_lossy(&answer.body);
            let said: String = said.chars().take(200).collect();
            DownloadError::Refused(format!("{status}: {said}"))
        }
    }
}

/// The day of a tag `yyyyMMdd-N`.
fn day_of(tag: &str) -> Option<Day> {
    let digits = tag.get(..8)?;
    let (year, rest) = digits.split_at_checked(4)?;
    let (month, day) = rest.split_at_checked(2)?;
    Day::parse_iso(&format!("{year}-{month}-{day}")).ok()
}

/// The days behind one, until today.
fn days_after(day: Option<Day>) -> Vec<Day> {
    let today = Day::from_unix_seconds(crate::answer::now_seconds());
    let mut days: Vec<_> = (0..DAYS_MAX)
        .map(|back| today.minus_days(back))
        .take_while(|later| day.is_some_and(|day| *later > day))
        .collect();
    days.reverse();
    days
}
