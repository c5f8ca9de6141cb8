//! Files on their way through the folders: outbox, then sent or refused.
//!
//! A file is taken in before its first key is sent, and moved after its last one has an outcome and before it
//! is forgotten: whichever of these steps a crash interrupts is done again, and can be.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use efgs_client::{Pending, UPLOAD_KEYS_MAX};
use engine::output;
use testkit::digest::sha256;

use crate::files::{keys_of, parse_keys, remove_unfinished, sync_folder, write_keys, write_whole};
use crate::state::{Counter, FinishedFile, State};

/// The folders of an exchange.
#[derive(Debug)]
pub(crate) struct Folders {
    outbox: PathBuf,
    sent: PathBuf,
    refused: PathBuf,
    pub(crate) inbox: PathBuf,
}

impl Folders {
    /// Creates those that are missing.
    pub(crate) fn open(folder: &Path) -> anyhow::Result<Self> {
        let folders = Self {
            outbox: folder.join("outbox"),
            sent: folder.join("sent"),
            refused: folder.join("refused"),
            inbox: folder.join("inbox"),
        };
        for path in [
            &folders.outbox,
            &folders.sent,
            &folders.refused,
            &folders.inbox,
        ] {
            fs::create_dir_all(path)
                .with_context(|| format!("cannot create {}", path.display()))?;
        }
        for path in [&folders.refused, &folders.inbox] {
            remove_unfinished(path)?;
        }
        Ok(folders)
    }

    /// Takes in files that are new in the outbox, oldest name first. Names that begin with a dot are still
    /// being written.
    pub(crate) fn take_in(&self, state: &mut State, country: &str) -> anyhow::Result<()> {
        for path in self.waiting()? {
            let Some(name) = path.file_name().and_then(OsStr::to_str) else {
                output::note(format_args!(
                    "efgs-backend: {} is left: its name is not UTF-8",
                    path.display()
                ));
                continue;
            };
            if state.knows(name)? {
                continue;
            }
            let content = match fs::read(&path) {
                Ok(content) => content,
                Err(error) => {
                    output::note(format_args!(
                        "efgs-backend: {} is left: {error}",
                        path.display()
                    ));
                    continue;
                }
            };
            let keys = parse_keys(&path, &content);
            let uploads = keys.map(|keys| Pending::split(country, keys_of(keys), UPLOAD_KEYS_MAX));
            state.take(name, &content, &uploads)?;
        }
        Ok(())
    }

    /// How many files are in the outbox.
    pub(crate) fn waiting(&self) -> anyhow::Result<Vec<PathBuf>> {
        let listed = fs::read_dir(&self.outbox);
        let listed = listed.with_context(|| format!("cannot list {}", self.outbox.display()))?;
        let mut found = Vec::new();
        for entry in listed {
            let entry = entry?;
            let is_hidden = entry.file_name().as_encoded_bytes().starts_with(b".");
            if !is_hidden && entry.file_type()?.is_file() {
                found.push(entry.path());
            }
        }
        found.sort();
        Ok(found)
    }

    /// Moves files whose keys all have an outcome.
    pub(crate) fn move_finished(&self, state: &mut State) -> anyhow::Result<()> {
        for file in state.finished()? {
            let counter = match &file.fault {
                None => self.send(&file)?,
                Some(fault) => self.refuse(&file, fault)?,
            };
            state.forget(&file, counter)?;
        }
        Ok(())
    }

    /// To `sent`; keys that were refused to `refused/NAME.keys.jsonl`, with their reasons.
    fn send(&self, file: &FinishedFile) -> anyhow::Result<Counter> {
        if !file.refused.is_empty() {
            let lines = file.refused.iter().enumerate();
            let reasons: String = lines
                .map(|(index, (_, reason))| format!("line {}: {reason}\n", index + 1))
                .collect();
            let keys: Vec<_> = file.refused.iter().map(|(key, _)| key.clone()).collect();
            let path = |ending: &str| self.refused.join(format!("{}.keys.{ending}", file.name));
            write_whole(&path("txt"), reasons.as_bytes())?;
            write_whole(&path("jsonl"), &write_keys(&keys, true))?;
        }
        self.rename(file, &self.sent)?;
        Ok(Counter::FilesSent)
    }

    fn refuse(&self, file: &FinishedFile, fault: &str) -> anyhow::Result<Counter> {
        let reason = self.refused.join(format!("{}.txt", file.name));
        write_whole(&reason, format!("{fault}\n").as_bytes())?;
        self.rename(file, &self.refused)?;
        Ok(Counter::FilesRefused)
    }

    /// Unless it was moved before. A file of that name with other content is a later one, which stays.
    fn rename(&self, file: &FinishedFile, to: &Path) -> anyhow::Result<()> {
        let path = self.outbox.join(&file.name);
        let Ok(content) = fs::read(&path) else {
            return Ok(());
        };
        if sha256(&content) != file.digest {
            return Ok(());
        }
        let cannot = || format!("cannot move {} to {}", path.display(), to.display());
        fs::rename(&path, free_name(to, &file.name)).with_context(cannot)?;
        sync_folder(to)?;
        sync_folder(&self.outbox)
    }
}

/// A name that no earlier file has.
fn free_name(folder: &Path, name: &str) -> PathBuf {
    let numbered = (1_u32..).map(|number| folder.join(format!("{name}.{number}")));
    let mut names = std::iter::once(folder.join(name)).chain(numbered);
    names
        .find(|path| path.symlink_metadata().is_err())
        .expect("there are free names")
}
