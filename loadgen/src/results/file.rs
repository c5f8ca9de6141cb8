//! The results file: one line for the run, one per second, one for the summary.

use std::fs::File;
use std::io::{self, BufRead, BufReader, BufWriter, Write};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::counts::Second;
use super::figures::Summary;
use super::run::{Run, VERSION};

/// Why results cannot be read or written.
#[derive(Debug, thiserror::Error)]
pub enum ResultsError {
    /// The file cannot be read or written.
    #[error("results {path}")]
    Io {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A line is malformed.
    #[error("results {path}, line {line}: {reason}")]
    Line {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The error.
        reason: String,
    },
}

/// One line of the file.
#[derive(Debug, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub(super) enum Line {
    Run(Box<Run>),
    Second(Box<Second>),
    Summary(Box<Summary>),
}

/// A file of results.
#[derive(Debug, Clone, PartialEq)]
pub struct Results {
    /// The run and its environment.
    pub run: Run,
    /// Second by second.
    pub seconds: Vec<Second>,
    /// The summary; absent when the run was cut off.
    pub summary: Option<Summary>,
}

impl Results {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read, or a line is malformed, unknown or out of order.
    pub fn read(path: &Path) -> Result<Self, ResultsError> {
        let io = |source| ResultsError::Io {
            path: path.to_owned(),
            source,
        };
        let malformed = |line, reason: String| ResultsError::Line {
            path: path.to_owned(),
            line,
            reason,
        };
        let mut results = None;
        for (number, text) in (1..).zip(BufReader::new(File::open(path).map_err(io)?).lines()) {
            let line = serde_json::from_str(&text.map_err(io)?);
            let line = line.map_err(|error| malformed(number, error.to_string()))?;
            let taken = take(&mut results, line);
            taken.map_err(|reason| malformed(number, reason.to_owned()))?;
        }
        results.ok_or_else(|| malformed(1, "the file is empty".to_owned()))
    }
}

fn take(results: &mut Option<Results>, line: Line) -> Result<(), &'static str> {
    match (line, results) {
        (Line::Run(run), _) if run.version != VERSION => Err("another version of the format"),
        (Line::Run(run), empty @ None) => {
            *empty = Some(Results {
                run: *run,
                seconds: Vec::new(),
                summary: None,
            });
            Ok(())
        }
        (Line::Run(_), Some(_)) => Err("a second run begins"),
        (_, None) => Err("the first line is no run"),
        (
            _,
            Some(Results {
                summary: Some(_), ..
            }),
        ) => Err("something follows the summary"),
        (Line::Second(second), Some(results)) => {
            results.seconds.push(*second);
            Ok(())
        }
        (Line::Summary(summary), Some(results)) => {
            results.summary = Some(*summary);
            Ok(())
        }
    }
}

/// Writes results during the run.
#[derive(Debug)]
pub struct ResultsWriter {
    path: PathBuf,
    file: BufWriter<File>,
}

impl ResultsWriter {
    /// Creates the file and writes its first line.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn create(path: &Path, run: &Run) -> Result<Self, ResultsError> {
        let file = File::create(path).map_err(|source| ResultsError::Io {
            path: path.to_owned(),
            source,
        })?;
        let mut writer = Self {
            path: path.to_owned(),
            file: BufWriter::new(file),
        };
        writer.write(&Line::Run(Box::new(run.clone())))?;
        Ok(writer)
    }

    /// Appends a second and flushes it, so that a run that is cut off leaves its results so far.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn second(&mut self, second: &Second) -> Result<(), ResultsError> {
        self.write(&Line::Second(Box::new(second.clone())))
    }

    /// Appends the summary.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn finish(mut self, summary: &Summary) -> Result<(), ResultsError> {
        self.write(&Line::Summary(Box::new(summary.clone())))
    }

    fn write(&mut self, line: &Line) -> Result<(), ResultsError> {
        serde_json::to_writer(&mut self.file, line)
            .map_err(io::Error::from)
            .and_then(|()| self.file.write_all(b"\n"))
            .and_then(|()| self.file.flush())
            .map_err(|source| ResultsError::Io {
                path: self.path.clone(),
                source,
            })
    }
}
