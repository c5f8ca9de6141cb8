//! Which file an SQLite database is: a path can be given to another one while the first is open,
//! and what is written then goes into a file that nobody finds again.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// The file behind a path, as of the first connection.
#[derive(Debug)]
pub(super) struct FileIdentity {
    path: PathBuf,
    first: OnceLock<(u64, u64)>,
}

impl FileIdentity {
    pub(super) const fn of(path: PathBuf) -> Self {
        Self {
            path,
            first: OnceLock::new(),
        }
    }

    /// Remembers the file, which is open now, unless an earlier one is remembered.
    pub(super) fn remember(&self) {
        if let Some(found) = device_and_inode(&self.path) {
            self.first.get_or_init(|| found);
        }
    }

    /// Whether a connection has been opened before: then the file is not to be created again.
    pub(super) fn is_known(&self) -> bool {
        self.first.get().is_some()
    }

    /// What became of the path, if it does not lead to the first file any more.
    pub(super) fn change(&self) -> Option<&'static str> {
        let first = self.first.get()?;
        match fs::metadata(&self.path) {
            Ok(found) if (found.dev(), found.ino()) == *first => None,
            Ok(_) => Some("another file"),
            Err(error) if is_missing(&error) => Some("no file"),
            // It may pass. What is in the file that is open decides meanwhile.
            Err(_) => None,
        }
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

fn device_and_inode(path: &Path) -> Option<(u64, u64)> {
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.dev(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distinguishes_another_file_and_no_file_from_the_first() {
        let folder = tempfile::tempdir().unwrap();
        let (path, other) = (folder.path().join("db"), folder.path().join("other"));
        let identity = FileIdentity::of(path.clone());
        identity.remember();
        assert!(!identity.is_known(), "there is no file yet");
        fs::write(&path, "first").unwrap();
        identity.remember();
        assert_eq!(identity.change(), None);
        fs::write(&path, "written to").unwrap();
        assert_eq!(identity.change(), None);
        fs::write(&other, "written to").unwrap();
        fs::rename(&other, &path).unwrap();
        identity.remember();
        assert_eq!(identity.change(), Some("another file"));
        fs::remove_file(&path).unwrap();
        assert_eq!(identity.change(), Some("no file"));
    }
}
