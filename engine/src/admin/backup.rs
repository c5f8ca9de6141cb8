//! A backup of an SQLite database while gateways work on it.

use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use crate::database::{Database, SqlError, sqlite_backup};
use crate::failure::{DatabaseError, StartError};
use crate::settings::DatabaseUrl;
use crate::store::Store;

/// A backup that was made, and read again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BackedUp {
    /// The position of the newest upload in it; 0 without any.
    pub position: u64,
    /// Its schema version.
    pub schema_version: u32,
    /// Size of the file.
    pub bytes: u64,
}

/// Why there is no backup.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A server has tools of its own.
    #[error(
        "only an SQLite file can be backed up by this command: for a server use mariadb-dump, \
         mariadb-backup or mysqldump, as docs/operate/backup.md says"
    )]
    Server,
    /// Nothing is overwritten.
    #[error("{} is there already, and backups overwrite nothing: name another file", .0.display())]
    Exists(PathBuf),
    /// Another backup runs, or was broken off.
    #[error(
        "{} is there: another backup is being made, or was broken off; then remove it", .0.display()
    )]
    Unfinished(PathBuf),
    /// The file cannot be written.
    #[error("cannot write the backup {}", file.display())]
    Io {
        /// The file.
        file: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The database cannot be read, or the copy not be written.
    #[error(transparent)]
    Copy(#[from] DatabaseError),
    /// There is nothing to back up.
    #[error("the database was never set up: there is nothing to back up")]
    Empty,
    /// The copy cannot be opened as a gateway's database.
    #[error("the copy is no gateway's database")]
    Unusable(#[source] StartError),
}

/// Copies an SQLite database into a new file that its owner alone can read, while gateways work on it:
/// everything that was acknowledged before is in it. The file gets its name once it is complete,
/// checked and on the disk.
///
/// # Errors
/// [`BackupError`]: then there is no file of that name.
pub fn back_up(database: &DatabaseUrl, file: &Path) -> Result<BackedUp, BackupError> {
    let DatabaseUrl::Sqlite(source) = database else {
        return Err(BackupError::Server);
    };
    if file.symlink_metadata().is_ok() {
        return Err(BackupError::Exists(file.to_owned()));
    }
    let part = Part::create(file)?;
    copy(sqlite_backup::copy(source, &part.0), "copying the database")?;
    let (position, schema_version) = look_into(&part.0)?;
    copy(sqlite_backup::check(&part.0), "checking the copy")?;
    let bytes = part.publish(file)?;
    Ok(BackedUp {
        position,
        schema_version,
        bytes,
    })
}

fn copy(done: Result<(), SqlError>, doing: &'static str) -> Result<(), BackupError> {
    done.map_err(|error| BackupError::Copy(error.doing(doing)))
}

/// The newest position and the schema version of a copy.
fn look_into(copy: &Path) -> Result<(u64, u32), BackupError> {
    let database = Database::new(DatabaseUrl::Sqlite(copy.to_owned()));
    let unusable = |error| BackupError::Unusable(database.unreachable(error));
    let mut store = Store::open_for_long_statements(&database).map_err(unusable)?;
    let schema_version = store.schema_version().map_err(unusable)?;
    if schema_version == 0 {
        return Err(BackupError::Empty);
    }
    let end = store.log_end().map_err(unusable)?;
    Ok((end.0, schema_version))
}

/// A backup that is not complete yet, which is removed when the value is dropped.
struct Part(PathBuf);

impl Part {
    /// `FILE.part`, private to its owner.
    fn create(file: &Path) -> Result<Self, BackupError> {
        let mut path = file.as_os_str().to_owned();
        path.push(".part");
        let path = PathBuf::from(path);
        let mut options = OpenOptions::new();
        match options.write(true).create_new(true).mode(0o600).open(&path) {
            Ok(_) => Ok(Self(path)),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {
                Err(BackupError::Unfinished(path))
            }
            Err(source) => Err(BackupError::Io { file: path, source }),
        }
    }

    /// Gives it its name, unless somebody else has taken that meanwhile; returns its size.
    fn publish(self, file: &Path) -> Result<u64, BackupError> {
        let failed = |source: io::Error| match source.kind() {
            io::ErrorKind::AlreadyExists => BackupError::Exists(file.to_owned()),
            _ => BackupError::Io {
                file: file.to_owned(),
                source,
            },
        };
        let written = File::open(&self.0).map_err(failed)?;
        written.sync_all().map_err(failed)?;
        // A rename would replace what is there.
        fs::hard_link(&self.0, file).map_err(failed)?;
        let folder = file
            .parent()
            .filter(|folder| !folder.as_os_str().is_empty());
        let folder = File::open(folder.unwrap_or_else(|| Path::new("."))).map_err(failed)?;
        folder.sync_all().map_err(failed)?;
        Ok(written.metadata().map_err(failed)?.len())
    }
}

impl Drop for Part {
    fn drop(&mut self) {
        for end in ["", "-wal", "-shm", "-journal"] {
            let mut path = self.0.clone().into_os_string();
            path.push(end);
            // Most of these are not there.
            drop(fs::remove_file(path));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;
    use crate::database::Database;
    use crate::store::migrate;

    #[test]
    fn copies_into_a_new_private_file_only() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let database = DatabaseUrl::Sqlite(path("db"));
        let (first, second) = (path("first"), path("second"));
        let error = back_up(&database, &first).unwrap_err();
        assert!(matches!(error, BackupError::Copy(_)), "{error:?}");
        assert!(!first.exists() && !path("db").exists());

        migrate(&Database::new(database.clone())).unwrap();
        let made = back_up(&database, &first).unwrap();
        assert_eq!(made.position, 0);
        let metadata = fs::metadata(&first).unwrap();
        assert_eq!((metadata.mode(), metadata.len()), (0o600, made.bytes));
        let known = crate::store::known_version();
        assert_eq!(made.schema_version, known);
        let whole = fs::read(&first).unwrap();

        let error = back_up(&database, &first).unwrap_err();
        assert!(matches!(error, BackupError::Exists(_)), "{error:?}");
        std::os::unix::fs::symlink("nowhere", &second).unwrap();
        let error = back_up(&database, &second).unwrap_err();
        assert!(matches!(error, BackupError::Exists(_)), "{error:?}");
        fs::write(path("third.part"), "").unwrap();
        let error = back_up(&database, &path("third")).unwrap_err();
        assert!(matches!(error, BackupError::Unfinished(_)), "{error:?}");
        fs::write(
            path("other"),
            "not a database, and longer than a head".repeat(40),
        )
        .unwrap();
        let error = back_up(&DatabaseUrl::Sqlite(path("other")), &path("fourth")).unwrap_err();
        assert!(matches!(error, BackupError::Copy(_)), "{error:?}");
        assert_eq!(fs::read(&first).unwrap(), whole);
        let names = fs::read_dir(folder.path()).unwrap();
        let names = names.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let left = names
            .filter(|name| name.contains(".part"))
            .collect::<Vec<_>>();
        assert_eq!(left, ["third.part"], "nothing is left behind");
        let server = "mysql://u@h/n".parse().unwrap();
        let error = back_up(&server, &path("fifth")).unwrap_err();
        assert!(matches!(error, BackupError::Server), "{error:?}");
    }

    trait Mode {
        fn mode(&self) -> u32;
    }

    impl Mode for fs::Metadata {
        fn mode(&self) -> u32 {
            self.permissions().mode() & 0o777
        }
    }
}
