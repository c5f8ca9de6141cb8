//! Writing files that must be whole and, some of them, secret.

use std::fmt;
use std::fs::{self, DirBuilder, File, Metadata, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _, fchown};
use std::path::{Path, PathBuf};

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

/// By way of a second file, so that a crash leaves the old text or the new one. A symbolic link that
/// stood there is replaced, not followed.
fn replace(path: &Path, text: &str, readable: Readable) -> io::Result<()> {
    let mode = match readable {
        Readable::All => 0o644,
        Readable::Owner => 0o600,
    };
    replace_by(path, text, mode, |_| Ok(()))
}

/// `prepare` gets the second file before it has any text.
fn replace_by(
    path: &Path,
    text: &str,
    mode: u32,
    prepare: impl FnOnce(&File) -> io::Result<()>,
) -> io::Result<()> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let beside = path.with_file_name(name);
    remove(&beside)?;
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(&beside)?;
    let written = prepare(&file)
        .and_then(|()| file.write_all(text.as_bytes()))
        .and_then(|()| file.sync_all())
        .and_then(|()| fs::rename(&beside, path));
    if let Err(error) = written {
        remove(&beside)?;
        return Err(error);
    }
    File::open(folder_of(path))?.sync_all()
}

/// Removes a file, if there is one.
fn remove(path: &Path) -> io::Result<()> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn folder_of(path: &Path) -> &Path {
    match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder,
        _ => Path::new("."),
    }
}

/// A file that nobody else rewrites meanwhile.
#[derive(Debug)]
pub(super) struct LockedFile {
    /// The file itself, where the name given is a symbolic link.
    path: PathBuf,
    /// Its owner, group and mode.
    metadata: Metadata,
    text: String,
    /// The folder, locked until this is dropped: a lock on the file would be lost with its replacement.
    _lock: File,
}

impl LockedFile {
    /// Locks and reads a file; waits while another process rewrites it.
    pub(super) fn open(name: &Path) -> anyhow::Result<Self> {
        Self::lock(name)
            .map_err(|error| anyhow!("cannot lock and read {}: {error}", name.display()))
    }

    fn lock(name: &Path) -> io::Result<Self> {
        let path = name.canonicalize()?;
        let lock = File::open(folder_of(&path))?;
        lock.lock()?;
        Ok(Self {
            metadata: fs::metadata(&path)?,
            text: fs::read_to_string(&path)?,
            path,
            _lock: lock,
        })
    }

    pub(super) fn text(&self) -> &str {
        &self.text
    }

    /// Replaces the text; owner, group and mode stay. Reads it back, as a gateway will.
    pub(super) fn rewrite(&self, text: &str) -> anyhow::Result<()> {
        let cannot = |why: &dyn fmt::Display| {
            let path = self.path.display();
            anyhow!("cannot rewrite {path}: {why}; run this as the owner of the file")
        };
        let (user, group) = (self.metadata.uid(), self.metadata.gid());
        let prepare = |file: &File| {
            let made = file.metadata()?;
            if (made.uid(), made.gid()) != (user, group) {
                fchown(file, Some(user), Some(group))?;
            }
            file.set_permissions(self.metadata.permissions())
        };
        replace_by(&self.path, text, 0o600, prepare).map_err(|error| cannot(&error))?;
        match fs::read_to_string(&self.path) {
            Ok(found) if found == text => Ok(()),
            Ok(_) => Err(cannot(&"something else was read back")),
            Err(error) => Err(cannot(&error)),
        }
    }
}

/// Refuses what another user may have put in the place of something that will be written: a symbolic
/// link, or what another user owns. Nothing may be there.
pub(super) fn check_place(path: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = fs::symlink_metadata(path) else {
        return Ok(());
    };
    let refused = |why: &str| {
        let path = path.display();
        Err(anyhow!("{path} {why}: remove it, or name another folder"))
    };
    if metadata.is_symlink() {
        return refused("is a symbolic link");
    }
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return refused("belongs to another user");
    }
    Ok(())
}

/// Refuses a folder in which others can put files.
pub(super) fn check_folder(path: &Path) -> anyhow::Result<()> {
    let Ok(metadata) = fs::metadata(path) else {
        return Ok(());
    };
    let user = rustix::process::geteuid().as_raw();
    if metadata.uid() != user {
        return Err(anyhow!(
            "the folder {} belongs to another user: run this as its owner, or name another one",
            path.display()
        ));
    }
    if metadata.mode() & 0o002 != 0 {
        return Err(anyhow!(
            "everybody can write in the folder {0}: chmod o-w {0}, or name another one",
            path.display()
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;
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

    /// Links that point to a file with odd mode and, where that is possible, another owner.
    #[test]
    fn rewrites_the_file_behind_a_link_and_keeps_its_owner_and_mode() {
        let folder = tempfile::tempdir().unwrap();
        let (target, link) = (folder.path().join("ring"), folder.path().join("keys"));
        fs::write(&target, "old").unwrap();
        fs::set_permissions(&target, Permissions::from_mode(0o640)).unwrap();
        let is_root = rustix::process::geteuid().is_root();
        let owner = if is_root {
            12_345
        } else {
            fs::metadata(&target).unwrap().uid()
        };
        if is_root {
            std::os::unix::fs::chown(&target, Some(owner), Some(owner)).unwrap();
        }
        std::os::unix::fs::symlink("ring", &link).unwrap();
        let file = LockedFile::open(&link).unwrap();
        assert_eq!(file.text(), "old");
        file.rewrite("new").unwrap();
        assert!(fs::symlink_metadata(&link).unwrap().is_symlink());
        assert_eq!(fs::read_to_string(&target).unwrap(), "new");
        let metadata = fs::metadata(&target).unwrap();
        assert_eq!((metadata.mode() & 0o7777, metadata.uid()), (0o640, owner));
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 2);
    }

    #[test]
    fn refuses_links_and_what_belongs_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("efgs.sqlite");
        check_place(&path).unwrap();
        std::os::unix::fs::symlink("elsewhere", &path).unwrap();
        let refused = check_place(&path).unwrap_err().to_string();
        assert!(refused.contains("is a symbolic link"), "{refused}");
        fs::remove_file(&path).unwrap();
        fs::write(&path, "").unwrap();
        check_place(&path).unwrap();
        check_folder(folder.path()).unwrap();
        fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
        let refused = check_folder(folder.path()).unwrap_err().to_string();
        assert!(refused.contains("everybody can write"), "{refused}");
        if rustix::process::geteuid().is_root() {
            for path in [&path, folder.path()] {
                std::os::unix::fs::chown(path, Some(12_345), None).unwrap();
            }
            for refused in [check_place(&path), check_folder(folder.path())] {
                let refused = refused.unwrap_err().to_string();
                assert!(refused.contains("belongs to another user"), "{refused}");
            }
        }
    }
}
