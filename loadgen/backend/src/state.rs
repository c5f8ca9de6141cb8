//! What is on its way, on disk: `state.sqlite`. Every step of the exchange is one transaction, synced
//! before the next step, so that the process may be killed between any two instructions.

use std::path::Path;

use anyhow::Context as _;
use efgs_client::{Cursor, DiagnosisKey, Journal, KeyOutcome, Pending, Resolution, decode, encode};
use rusqlite::{Connection, OptionalExtension as _, Transaction, params};
use testkit::digest::sha256;

const SCHEMA: &str = "
CREATE TABLE IF NOT EXISTS file (
    id INTEGER PRIMARY KEY,
    name TEXT NOT NULL UNIQUE, -- while it is in the outbox
    digest BLOB NOT NULL,
    keys INTEGER NOT NULL,
    fault TEXT -- why it cannot be read
);
CREATE TABLE IF NOT EXISTS pending (
    id INTEGER PRIMARY KEY AUTOINCREMENT, -- in the order in which they are sent
    file INTEGER NOT NULL REFERENCES file,
    tag TEXT NOT NULL UNIQUE,
    body BLOB NOT NULL,
    failures INTEGER NOT NULL
);
CREATE TABLE IF NOT EXISTS refused (
    file INTEGER NOT NULL REFERENCES file,
    body BLOB NOT NULL,
    reason TEXT NOT NULL
);
CREATE TABLE IF NOT EXISTS cursor (id INTEGER PRIMARY KEY CHECK (id = 1), text TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS counter (name TEXT PRIMARY KEY, value INTEGER NOT NULL);
";

/// The state of an exchange.
#[derive(Debug)]
pub(crate) struct State(Connection);

/// A file of the outbox whose keys all have an outcome.
#[derive(Debug)]
pub(crate) struct FinishedFile {
    pub(crate) id: i64,
    pub(crate) name: String,
    pub(crate) digest: [u8; 32],
    /// Why it cannot be read.
    pub(crate) fault: Option<String>,
    pub(crate) refused: Vec<(DiagnosisKey, String)>,
}

/// Counts over all starts, for `/metrics`.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Counter {
    KeysStored,
    KeysRefused,
    FilesSent,
    FilesRefused,
    BatchesDownloaded,
    KeysDownloaded,
    KeysUnproven,
    Gaps,
}

impl Counter {
    const fn name(self) -> &'static str {
        match self {
            Self::KeysStored => "keys_stored",
            Self::KeysRefused => "keys_refused",
            Self::FilesSent => "files_sent",
            Self::FilesRefused => "files_refused",
            Self::BatchesDownloaded => "batches_downloaded",
            Self::KeysDownloaded => "keys_downloaded",
            Self::KeysUnproven => "keys_unproven",
            Self::Gaps => "gaps",
        }
    }
}

impl State {
    /// Opens or creates it; another process that works on it is an error.
    pub(crate) fn open(path: &Path) -> anyhow::Result<Self> {
        let cannot = || format!("cannot open {}", path.display());
        let connection = Connection::open(path).with_context(cannot)?;
        let busy = "is another efgs-backend running on this folder?";
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        let mode: String = connection
            .pragma_update_and_check(None, "journal_mode", "WAL", |row| row.get(0))
            .context(busy)
            .with_context(cannot)?;
        anyhow::ensure!(mode == "wal", "{} has no WAL", path.display());
        connection.pragma_update(None, "synchronous", "FULL")?;
        // Takes the lock that is then kept.
        connection
            .execute_batch(&format!("BEGIN EXCLUSIVE;{SCHEMA}COMMIT;"))
            .context(busy)
            .with_context(cannot)?;
        Ok(Self(connection))
    }

    /// Whether a file of the outbox is known already.
    pub(crate) fn knows(&self, name: &str) -> anyhow::Result<bool> {
        let found = self
            .0
            .query_row("SELECT 1 FROM file WHERE name = ?", [name], |_| Ok(()));
        Ok(found.optional()?.is_some())
    }

    /// Takes a file in, with its keys cut into uploads; or with what is wrong with it.
    pub(crate) fn take(
        &mut self,
        name: &str,
        content: &[u8],
        uploads: &anyhow::Result<Vec<Pending>>,
    ) -> anyhow::Result<()> {
        let transaction = self.0.transaction()?;
        let (uploads, fault) = match uploads {
            Ok(uploads) => (uploads.as_slice(), None),
            Err(error) => (&[][..], Some(format!("{error:#}"))),
        };
        let keys: usize = uploads.iter().map(|upload| upload.keys.len()).sum();
        transaction.execute(
            "INSERT INTO file (name, digest, keys, fault) VALUES (?, ?, ?, ?)",
            params![name, sha256(content), i64::try_from(keys)?, fault],
        )?;
        let file = transaction.last_insert_rowid();
        add(&transaction, file, uploads)?;
        Ok(transaction.commit()?)
    }

    /// Files whose keys all have an outcome and that are not moved yet.
    pub(crate) fn finished(&self) -> anyhow::Result<Vec<FinishedFile>> {
        let mut files = self.0.prepare_cached(
            "SELECT id, name, digest, fault FROM file
             WHERE NOT EXISTS (SELECT 1 FROM pending WHERE pending.file = file.id)",
        )?;
        let files = files.query_map([], |row| {
            Ok(FinishedFile {
                id: row.get(0)?,
                name: row.get(1)?,
                digest: row.get(2)?,
                fault: row.get(3)?,
                refused: Vec::new(),
            })
        })?;
        let mut finished = files.collect::<Result<Vec<_>, _>>()?;
        for file in &mut finished {
            file.refused = self.refused(file.id)?;
        }
        Ok(finished)
    }

    fn refused(&self, file: i64) -> anyhow::Result<Vec<(DiagnosisKey, String)>> {
        let mut refused = self
            .0
            .prepare_cached("SELECT body, reason FROM refused WHERE file = ? ORDER BY rowid")?;
        let rows = refused.query_map([file], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, String>(1)?))
        })?;
        let mut found = Vec::new();
        for row in rows {
            let (body, reason) = row?;
            found.extend(decode(&body)?.into_iter().map(|key| (key, reason.clone())));
        }
        Ok(found)
    }

    /// Forgets a file that is no longer in the outbox.
    pub(crate) fn forget(&mut self, file: &FinishedFile, counter: Counter) -> anyhow::Result<()> {
        let transaction = self.0.transaction()?;
        transaction.execute("DELETE FROM refused WHERE file = ?", [file.id])?;
        transaction.execute("DELETE FROM file WHERE id = ?", [file.id])?;
        count(&transaction, counter, 1)?;
        Ok(transaction.commit()?)
    }

    pub(crate) fn cursor(&self) -> anyhow::Result<Option<Cursor>> {
        let text = self
            .0
            .query_row("SELECT text FROM cursor", [], |row| row.get::<_, String>(0));
        let text = text.optional()?;
        Ok(text.map(|text| serde_json::from_str(&text)).transpose()?)
    }

    /// Moves the cursor on, and counts what it has passed.
    pub(crate) fn advance(
        &mut self,
        cursor: &Cursor,
        counts: &[(Counter, usize)],
    ) -> anyhow::Result<()> {
        let transaction = self.0.transaction()?;
        let text = serde_json::to_string(cursor)?;
        transaction.execute(
            "INSERT OR REPLACE INTO cursor (id, text) VALUES (1, ?)",
            [text],
        )?;
        for (counter, value) in counts {
            count(&transaction, *counter, *value)?;
        }
        Ok(transaction.commit()?)
    }

    /// All counters, and how many uploads are pending.
    pub(crate) fn counts(&self) -> anyhow::Result<Vec<(String, i64)>> {
        let mut counters = self
            .0
            .prepare_cached("SELECT name, value FROM counter ORDER BY name")?;
        let rows = counters.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    pub(crate) fn pending(&self) -> anyhow::Result<i64> {
        Ok(self
            .0
            .query_row("SELECT count(*) FROM pending", [], |row| row.get(0))?)
    }
}

impl Journal for State {
    type Error = anyhow::Error;

    fn oldest(&mut self) -> anyhow::Result<Option<Pending>> {
        let found = self
            .0
            .query_row(
                "SELECT tag, body, failures FROM pending ORDER BY id LIMIT 1",
                [],
                |row| Ok((row.get(0)?, row.get::<_, Vec<u8>>(1)?, row.get(2)?)),
            )
            .optional()?;
        found
            .map(|(tag, body, failures)| {
                Ok(Pending {
                    tag,
                    keys: decode(&body)?,
                    failures,
                })
            })
            .transpose()
    }

    fn resolve(&mut self, done: &Pending, resolution: Resolution) -> anyhow::Result<()> {
        let transaction = self.0.transaction()?;
        let file: i64 = transaction.query_row(
            "SELECT file FROM pending WHERE tag = ?",
            [&done.tag],
            |row| row.get(0),
        )?;
        transaction.execute("DELETE FROM pending WHERE tag = ?", [&done.tag])?;
        add(&transaction, file, &resolution.next)?;
        let mut stored = 0;
        for outcome in &resolution.outcomes {
            match outcome {
                KeyOutcome::Stored(_) | KeyOutcome::Known(_) => stored += 1,
                KeyOutcome::Refused { key, reason } => {
                    let body = encode(std::slice::from_ref(key));
                    transaction.execute(
                        "INSERT INTO refused (file, body, reason) VALUES (?, ?, ?)",
                        params![file, body, reason],
                    )?;
                }
            }
        }
        count(&transaction, Counter::KeysStored, stored)?;
        let refused = resolution.outcomes.len() - stored;
        count(&transaction, Counter::KeysRefused, refused)?;
        Ok(transaction.commit()?)
    }
}

fn add(transaction: &Transaction<'_>, file: i64, uploads: &[Pending]) -> anyhow::Result<()> {
    for upload in uploads {
        transaction.execute(
            "INSERT INTO pending (file, tag, body, failures) VALUES (?, ?, ?, ?)",
            params![file, upload.tag, encode(&upload.keys), upload.failures],
        )?;
    }
    Ok(())
}

fn count(transaction: &Transaction<'_>, counter: Counter, value: usize) -> anyhow::Result<()> {
    transaction.execute(
        "INSERT INTO counter (name, value) VALUES (?1, ?2)
         ON CONFLICT (name) DO UPDATE SET value = value + ?2",
        params![counter.name(), i64::try_from(value)?],
    )?;
    Ok(())
}
