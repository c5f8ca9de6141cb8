//! A password in a file, which is changed there and on the server while the gateway runs.

use std::fmt;
use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use super::connection::Source;

/// The file, and the password that the server accepted last: between the two steps of a change,
/// whichever comes first, the old one or the new one may be the right one.
pub(super) struct PasswordFile {
    path: PathBuf,
    accepted: Mutex<Option<String>>,
}

impl PasswordFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            accepted: Mutex::new(None),
        }
    }

    /// The passwords to try, the one in the file first.
    pub(super) fn candidates(&self) -> Result<Vec<String>, Source> {
        let accepted = self.accepted.lock();
        let accepted = accepted.unwrap_or_else(PoisonError::into_inner).clone();
        match (fs::read_to_string(&self.path), accepted) {
            (Ok(text), accepted) => {
                let written = text.trim_end_matches(['\r', '\n']).to_owned();
                let other = accepted.filter(|accepted| *accepted != written);
                Ok(std::iter::once(written).chain(other).collect())
            }
            // It is being replaced.
            (Err(_), Some(accepted)) => Ok(vec![accepted]),
            (Err(error), None) => Err(format!(
                "the password file {} cannot be read: {error}",
                self.path.display()
            )
            .into()),
        }
    }

    pub(super) fn accepted(&self, password: String) {
        let mut accepted = self.accepted.lock().unwrap_or_else(PoisonError::into_inner);
        *accepted = Some(password);
    }
}

/// Without the password.
impl fmt::Debug for PasswordFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.path.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tries_the_file_first_and_then_what_was_accepted_last() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("password");
        let file = PasswordFile::new(path.clone());
        let error = file.candidates().unwrap_err().to_string();
        assert!(error.contains("cannot be read"), "{error}");
        fs::write(&path, "old\r\n").unwrap();
        assert_eq!(file.candidates().unwrap(), ["old"]);
        file.accepted("old".to_owned());
        assert_eq!(file.candidates().unwrap(), ["old"]);
        fs::write(&path, "new\n").unwrap();
        assert_eq!(file.candidates().unwrap(), ["new", "old"]);
        fs::remove_file(&path).unwrap();
        assert_eq!(file.candidates().unwrap(), ["old"]);
        assert!(!format!("{file:?}").contains("old"));
    }
}
