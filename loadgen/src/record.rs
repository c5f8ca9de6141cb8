//! What a run sent and what it was answered, as JSON lines. With the seed in its first line, keys
//! can be generated again, so that a verifier does not depend on anything that the gateway says.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use engine::domain::{Country, Day, UploadTag};
use serde::{Deserialize, Serialize};

use crate::keys::Seed;
use crate::workload::{PreparedUpload, UploadSpec};

/// Version of the format.
const VERSION: u32 = 1;

/// Why a record cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// The file cannot be read or written.
    #[error("record {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is malformed.
    #[error("record {path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// What is wrong with it.
        reason: String,
    },
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase", deny_unknown_fields)]
enum Line {
    Run {
        version: u32,
        profile: String,
        seed: u64,
        keys_total: u64,
        upload_keys: u32,
        day: String,
        countries: Vec<String>,
    },
    Upload {
        country: String,
        index: u32,
        tag: String,
        key_count: u32,
        status: Option<u16>,
        signed_sha256: String,
        batch_signature: String,
    },
}

/// The outcome of an upload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Outcome {
    /// 201: every key must reach every other participant.
    Stored,
    /// A response that says that nothing was stored.
    Refused(u16),
    /// No response, or one that leaves it open (5xx): all keys were stored, or none.
    Unknown(Option<u16>),
}

impl Outcome {
    /// The outcome by status; `None` means no response.
    pub const fn of(status: Option<u16>) -> Self {
        match status {
            Some(201) => Self::Stored,
            Some(status) if status < 500 => Self::Refused(status),
            other => Self::Unknown(other),
        }
    }

    /// The status, if there was a response.
    pub const fn status(self) -> Option<u16> {
        match self {
            Self::Stored => Some(201),
            Self::Refused(status) => Some(status),
            Self::Unknown(status) => status,
        }
    }
}

/// One upload of a record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecordedUpload {
    /// Its specification.
    pub spec: UploadSpec,
    /// Its outcome.
    pub outcome: Outcome,
    /// SHA-256 over what was signed.
    pub signed_digest: [u8; 32],
    /// The signature it was sent with, in base64.
    pub batch_signature: String,
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    /// The profile's name.
    pub profile: String,
    /// Seed of every key.
    pub seed: Seed,
    /// The countries that people travelled between.
    pub countries: Vec<Country>,
    /// The uploads, in the order in which they were answered.
    pub uploads: Vec<RecordedUpload>,
}

/// Writes a record during the run.
#[derive(Debug)]
pub struct RecordWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl RecordWriter {
    /// Creates the file and writes its first line.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(
        path: &Path,
        profile: &str,
        seed: Seed,
        countries: &[Country],
    ) -> Result<Self, RecordError> {
        let file = File::create(path).map_err(|source| RecordError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
        };
        writer.write(&Line::Run {
            version: VERSION,
            profile: profile.to_owned(),
            seed: seed.number,
            keys_total: seed.keys_total,
            upload_keys: seed.upload_keys,
            day: seed.day.to_string(),
            countries: countries.iter().map(Country::to_string).collect(),
        })?;
        Ok(writer)
    }

    /// Appends one upload.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn append(&mut self, upload: &PreparedUpload, outcome: Outcome) -> Result<(), RecordError> {
        self.write(&Line::Upload {
            country: upload.spec.country.to_string(),
            index: upload.spec.index,
            tag: upload.spec.tag.as_str().to_owned(),
            key_count: upload.spec.key_count,
            status: outcome.status(),
            signed_sha256: to_hex(&upload.signed_digest),
            batch_signature: upload.batch_signature.clone(),
        })
    }

    /// Flushes the buffer to the operating system.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn flush(&mut self) -> Result<(), RecordError> {
        self.file.flush().map_err(|source| self.failed(source))
    }

    fn write(&mut self, line: &Line) -> Result<(), RecordError> {
        let written = serde_json::to_writer(&mut self.file, line).map_err(io::Error::from);
        written
            .and_then(|()| self.file.write_all(b"\n"))
            .map_err(|source| self.failed(source))
    }

    fn failed(&self, source: io::Error) -> RecordError {
        RecordError::Io {
            path: self.path.clone(),
            source,
        }
    }
}

impl Record {
    /// Reads a record.
    ///
    /// # Errors
    /// When the file cannot be read or a line is malformed.
    pub fn read(path: &Path) -> Result<Self, RecordError> {
        let io = |source| RecordError::Io {
            path: path.to_owned(),
            source,
        };
        let malformed = |line, reason: String| RecordError::Line {
            path: path.to_owned(),
            line,
            reason,
        };
        let mut record = None;
        for (number, text) in (1..).zip(BufReader::new(File::open(path).map_err(io)?).lines()) {
            let line = serde_json::from_str(&text.map_err(io)?);
            let line = line.map_err(|error| malformed(number, error.to_string()))?;
            let taken = take(&mut record, line);
            taken.map_err(|reason| malformed(number, reason.to_owned()))?;
        }
        record.ok_or_else(|| malformed(1, "the file is empty".to_owned()))
    }
}

fn take(record: &mut Option<Record>, line: Line) -> Result<(), &'static str> {
    match (line, record) {
        (run @ Line::Run { .. }, empty @ None) => *empty = Some(begin(run)?),
        (upload @ Line::Upload { .. }, Some(record)) => record.uploads.push(read_upload(upload)?),
        (Line::Run { .. }, Some(_)) => return Err("a second run begins"),
        (Line::Upload { .. }, None) => return Err("an upload comes before its run"),
    }
    Ok(())
}

fn begin(line: Line) -> Result<Record, &'static str> {
    let Line::Run {
        version,
        profile,
        seed,
        keys_total,
        upload_keys,
        day,
        countries,
    } = line
    else {
        return Err("the first line is not a run");
    };
    if version != VERSION {
        return Err("another version of the format");
    }
    let day = Day::parse_iso(&day).map_err(|_| "day is not a date")?;
    let countries: Result<Vec<_>, _> = countries
        .iter()
        .map(|country| Country::parse(country))
        .collect();
    Ok(Record {
        profile,
        seed: Seed {
            number: seed,
            keys_total,
            upload_keys,
            day,
        },
        countries: countries.map_err(|_| "countries has an entry that is not a country")?,
        uploads: Vec::new(),
    })
}

fn read_upload(line: Line) -> Result<RecordedUpload, &'static str> {
    let Line::Upload {
        country,
        index,
        tag,
        key_count,
        status,
        signed_sha256,
        batch_signature,
    } = line
    else {
        return Err("the line is not an upload");
    };
    let spec = UploadSpec {
        country: Country::parse(&country).map_err(|_| "country is not a country")?,
        index,
        key_count,
        tag: UploadTag::parse(&tag).map_err(|_| "tag is not an upload tag")?,
    };
    let signed_digest = from_hex(&signed_sha256).ok_or("signed_sha256 is not a SHA-256 in hex")?;
    Ok(RecordedUpload {
        spec,
        outcome: Outcome::of(status),
        signed_digest,
        batch_signature,
    })
}

fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn from_hex(text: &str) -> Option<[u8; 32]> {
    engine::domain::Thumbprint::parse_hex(text)
        .ok()
        .map(|digest| digest.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seed() -> Seed {
        let day = Day::parse_iso("2021-06-01").unwrap();
        Seed {
            number: u64::MAX,
            keys_total: 20,
            upload_keys: 10,
            day,
        }
    }

    fn upload(index: u32) -> PreparedUpload {
        PreparedUpload {
            spec: UploadSpec {
                country: Country::parse("DE").unwrap(),
                index,
                key_count: 10,
                tag: UploadTag::parse(&format!("tag-{index}\"")).unwrap(),
            },
            body: bytes::Bytes::new(),
            batch_signature: "MII=".to_owned(),
            signed_digest: [0xa7; 32],
        }
    }

    #[test]
    fn reads_back_what_it_wrote() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.jsonl");
        let countries = ["DE", "FR"].map(|code| Country::parse(code).unwrap());
        let mut writer = RecordWriter::create(&path, "smoke", seed(), &countries).unwrap();
        let outcomes = [
            Outcome::Stored,
            Outcome::Refused(207),
            Outcome::Unknown(Some(503)),
            Outcome::Unknown(None),
        ];
        for (index, outcome) in (0..).zip(outcomes) {
            writer.append(&upload(index), outcome).unwrap();
        }
        writer.flush().unwrap();
        let record = Record::read(&path).unwrap();
        assert_eq!((record.profile.as_str(), record.seed), ("smoke", seed()));
        assert_eq!(record.countries, countries);
        assert_eq!(
            record
                .uploads
                .iter()
                .map(|upload| upload.outcome)
                .collect::<Vec<_>>(),
            outcomes
        );
        assert_eq!(record.uploads[1].spec, upload(1).spec);
        assert_eq!(record.uploads[1].signed_digest, [0xa7; 32]);
    }

    #[test]
    fn names_the_line_that_is_wrong() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("record.jsonl");
        drop(RecordWriter::create(&path, "smoke", seed(), &[]).unwrap());
        let mut text = std::fs::read_to_string(&path).unwrap();
        text.push_str("{}\n");
        std::fs::write(&path, text).unwrap();
        assert!(
            Record::read(&path)
                .unwrap_err()
                .to_string()
                .contains("line 2")
        );
        std::fs::write(&path, "").unwrap();
        assert!(
            Record::read(&path)
                .unwrap_err()
                .to_string()
                .contains("the file is empty")
        );
    }
}
