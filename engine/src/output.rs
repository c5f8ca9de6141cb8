//! What programs print for people and for pipes.
//!
//! A reader may stop early, as `head` does. Rust ignores SIGPIPE, so that the next write fails instead;
//! programs then end quietly, with [`CLOSED_STATUS`].

use std::error::Error;
use std::fmt;
use std::io::{self, Write};

/// Exit status of a program whose output has no reader any more: 128 + SIGPIPE, which shells report for
/// programs that the signal ends.
pub const CLOSED_STATUS: u8 = 141;

/// Why something could not be printed.
#[derive(Debug, thiserror::Error)]
pub enum OutputError {
    /// The reader of standard output has gone.
    #[error("nobody reads standard output any more")]
    Closed,
    /// Standard output cannot be written, as on a full disk.
    #[error("cannot write to standard output")]
    Failed(#[source] io::Error),
}

impl From<io::Error> for OutputError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::Closed,
            _ => Self::Failed(error),
        }
    }
}

/// Writes text to standard output, at once.
///
/// # Errors
/// When it has no reader any more, or cannot be written.
pub fn print(text: impl fmt::Display) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    write!(out, "{text}")?;
    Ok(out.flush()?)
}

/// Writes bytes to standard output, at once.
///
/// # Errors
/// When it has no reader any more, or cannot be written.
pub fn print_bytes(bytes: &[u8]) -> Result<(), OutputError> {
    let mut out = io::stdout().lock();
    out.write_all(bytes)?;
    Ok(out.flush()?)
}

/// Writes a line to standard output, at once.
///
/// # Errors
/// When it has no reader any more, or cannot be written.
pub fn say(line: impl fmt::Display) -> Result<(), OutputError> {
    print(format_args!("{line}\n"))
}

/// Writes a line to standard error. It is lost when it cannot be written, as after `2>&1 | head`: nothing
/// is left then to say so with.
pub fn note(line: impl fmt::Display) {
    writeln!(io::stderr(), "{line}").ok();
}

/// Whether an error, or a cause of it, is that standard output has no reader any more.
pub fn is_closed(error: &(dyn Error + 'static)) -> bool {
    let mut cause = Some(error);
    while let Some(error) = cause {
        if matches!(error.downcast_ref(), Some(OutputError::Closed)) {
            return true;
        }
        cause = error.source();
    }
    false
}

/// Standard output, for work that prints as it goes.
#[derive(Debug, Default)]
pub struct Output {
    is_closed: bool,
}

impl Output {
    /// Says whether all could be written so far, whatever the work made of the failure.
    ///
    /// # Errors
    /// [`OutputError::Closed`] when a write has found no reader.
    pub const fn check(&self) -> Result<(), OutputError> {
        match self.is_closed {
            true => Err(OutputError::Closed),
            false => Ok(()),
        }
    }

    fn noted<T>(&mut self, written: io::Result<T>) -> io::Result<T> {
        if let Err(error) = &written {
            self.is_closed |= error.kind() == io::ErrorKind::BrokenPipe;
        }
        written
    }
}

impl Write for Output {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = io::stdout().write(bytes);
        self.noted(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        let flushed = io::stdout().flush();
        self.noted(flushed)
    }
}

/// Standard error, for work that notes what it is at. What cannot be written is lost, as with [`note`].
#[derive(Debug, Default)]
pub struct Notes;

impl Write for Notes {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        io::stderr().write_all(bytes).ok();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        io::stderr().flush().ok();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("the command failed")]
    struct Outer(#[source] Box<dyn Error>);

    #[test]
    fn tells_a_reader_that_has_gone_from_a_broken_connection() {
        let broken = || io::Error::from(io::ErrorKind::BrokenPipe);
        assert!(is_closed(&OutputError::from(broken())));
        assert!(is_closed(&Outer(Box::new(OutputError::from(broken())))));
        assert!(!is_closed(&Outer(Box::new(broken()))), "a socket");
        let full = io::Error::from(io::ErrorKind::StorageFull);
        assert!(!is_closed(&OutputError::from(full)));
    }

    #[test]
    fn remembers_that_a_write_found_no_reader() {
        let mut out = Output::default();
        let failed = Err::<(), _>(io::ErrorKind::StorageFull.into());
        assert!(out.noted(failed).is_err() && out.check().is_ok());
        let closed = Err::<(), _>(io::ErrorKind::BrokenPipe.into());
        assert!(out.noted(closed).is_err() && out.check().is_err());
    }
}
