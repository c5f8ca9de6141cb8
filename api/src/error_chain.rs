//! Errors as the log shows them: with their causes.

use std::error::Error;
use std::fmt::Write as _;

/// An error and what caused it, on one line.
pub(crate) fn error_chain(error: &(dyn Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let _ = write!(text, ": {error}");
        cause = error.source();
    }
    text
}

#[cfg(test)]
mod tests {
    use std::io;

    use super::*;

    #[derive(Debug, thiserror::Error)]
    #[error("cannot store the batch")]
    struct StoreError(#[source] io::Error);

    #[test]
    fn lists_each_cause_once() {
        let error = StoreError(io::Error::other("connection refused"));
        assert_eq!(
            error_chain(&error),
            "cannot store the batch: connection refused"
        );
    }
}
