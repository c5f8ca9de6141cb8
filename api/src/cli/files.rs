//! Writing files that must be whole and, some of them, secret.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _};
use std::path::Path;

use anyhow::anyhow;

/// Who may read a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Readable {
    /// Anybody.
    All,
    /// Its owner alone.
    Owner,
}

/// Writes a file, replacing what stood there.
pub(super) fn write(path: &Path, text: &str, readable: Readable) -> anyhow::Result<()> {
    replace(path, text, readable).map_err(|error| {
        anyhow!(
            "cannot write {}: {error}; check the folder's owner and space",
            path.display()
        )
    })
}

/// Makes a folder, with those that it lies in; for its owner alone, whatever the umask.
pub(super) fn make_folder(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|error| {
        anyhow!(
            "cannot make the folder {}: {error}; name another one",
            path.display()
        )
    })
}

/// Reads a file's text.
pub(super) fn read(path: &Path) -> anyhow::Result<String> {
    fs::read_to_string(path)
        .map_err(|error| anyhow!("cannot read {}: {error}; check its name", path.display()))
}

/// By way of a second file, so that a crash leaves the old text or the new one.
fn replace(path: &Path, text: &str, readable: Readable) -> io::Result<()> {
    let mode = match readable {
        Readable::All => 0o644,
        Readable::Owner => 0o600,
    };
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    match fs::remove_file(&beside) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&beside, path)?;
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => File::open(folder)?.sync_all(),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn keeps_secrets_from_others_even_when_it_replaces_a_file() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        fs::write(&path, "old").unwrap();
        write(&path, "new", Readable::Owner).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        let mode = fs::metadata(&path).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
    }
}
