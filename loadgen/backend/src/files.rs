//! Files of keys, and files that are there whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use efgs_client::{AuditedBatch, Auditor, DiagnosisKey, decode, encode};

/// Largest file of keys: about a million of them.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// The keys of a file, by its name: protobuf (`.pb`) or JSON lines (`.jsonl`).
pub(crate) fn read_keys(path: &Path) -> anyhow::Result<Vec<DiagnosisKey>> {
    let metadata = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?;
    if metadata.len() > FILE_BYTES_MAX {
        bail!("{} is larger than {FILE_BYTES_MAX} bytes", path.display());
    }
    let bytes = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    parse_keys(path, &bytes)
}

pub(crate) fn parse_keys(path: &Path, bytes: &[u8]) -> anyhow::Result<Vec<DiagnosisKey>> {
    match path.extension().and_then(OsStr::to_str) {
        Some("pb") => decode(bytes).map_err(Into::into),
        Some("jsonl") => parse_lines(std::str::from_utf8(bytes)?),
        _ => bail!("the name ends neither in .pb nor in .jsonl"),
    }
}

fn parse_lines(text: &str) -> anyhow::Result<Vec<DiagnosisKey>> {
    let lines = text.lines().enumerate();
    let lines = lines.filter(|(_, line)| !line.trim().is_empty());
    lines
        .map(|(index, line)| {
            serde_json::from_str(line).with_context(|| format!("line {}", index + 1))
        })
        .collect()
}

/// Keys as a file holds them.
pub(crate) fn write_keys(keys: &[DiagnosisKey], json: bool) -> Vec<u8> {
    if !json {
        return encode(keys);
    }
    let line = |key| serde_json::to_string(key).expect("a key has text members only") + "\n";
    keys.iter().map(line).collect::<String>().into_bytes()
}

/// Writes a file so that nobody sees a part of it, and a power cut leaves all of it or nothing.
pub(crate) fn write_whole(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let folder = path.parent().context("a file has a folder")?;
    let mut temporary = tempfile::Builder::new()
        .prefix(".writing-")
        .tempfile_in(folder)
        .with_context(cannot)?;
    temporary.write_all(content).with_context(cannot)?;
    temporary.as_file().sync_all().with_context(cannot)?;
    temporary.persist(path).with_context(cannot)?;
    sync_folder(folder)
}

/// Makes what was renamed in a folder durable.
pub(crate) fn sync_folder(folder: &Path) -> anyhow::Result<()> {
    let opened = File::open(folder).and_then(|folder| folder.sync_all());
    opened.with_context(|| format!("cannot sync {}", folder.display()))
}

/// Removes what a killed process was writing.
pub(crate) fn remove_unfinished(folder: &Path) -> anyhow::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_name().to_string_lossy().starts_with(".writing-") {
            fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}

/// What of a batch may be used, and what not.
#[derive(Debug)]
pub(crate) struct Sorted {
    pub(crate) proven: Vec<DiagnosisKey>,
    pub(crate) unproven: Vec<DiagnosisKey>,
    /// Why, one line per upload.
    pub(crate) reasons: String,
}

impl Sorted {
    /// By the audit; everything counts as proven where nothing is verified.
    pub(crate) fn new(
        keys: Vec<DiagnosisKey>,
        audit: Option<(&Auditor, &[u8])>,
    ) -> anyhow::Result<Self> {
        match audit {
            None => Ok(Self {
                proven: keys,
                unproven: Vec::new(),
                reasons: String::new(),
            }),
            Some((auditor, audit)) => Ok(Self::by(auditor.verify(&keys, audit)?)),
        }
    }

    fn by(audited: AuditedBatch) -> Self {
        let (mut proven, mut unproven, mut reasons) = (Vec::new(), Vec::new(), String::new());
        for upload in audited.uploads {
            match upload.proof {
                Ok(()) => proven.extend(upload.keys),
                Err(why) => {
                    reasons += &format!("{}: {} keys: {why}\n", upload.country, upload.keys.len());
                    unproven.extend(upload.keys);
                }
            }
        }
        if !audited.unaccounted.is_empty() {
            let count = audited.unaccounted.len();
            reasons += &format!("{count} keys that no entry of the audit accounts for\n");
            unproven.extend(audited.unaccounted);
        }
        Self {
            proven,
            unproven,
            reasons,
        }
    }

    /// Writes a batch: `TAG.pb`, and what is not proven as `TAG.unproven.pb` with `TAG.unproven.txt`.
    pub(crate) fn write(&self, folder: &Path, tag: &str, json: bool) -> anyhow::Result<()> {
        let ending = if json { "jsonl" } else { "pb" };
        if !self.reasons.is_empty() {
            let name = format!("{tag}.unproven");
            let keys = write_keys(&self.unproven, json);
            write_whole(&folder.join(format!("{name}.txt")), self.reasons.as_bytes())?;
            write_whole(&folder.join(format!("{name}.{ending}")), &keys)?;
        }
        let keys = write_keys(&self.proven, json);
        write_whole(&folder.join(format!("{tag}.{ending}")), &keys)
    }
}
