//! Files of keys, and files that are there whole or not at all.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use anyhow::{Context as _, bail};
use efgs_client::{AuditedBatch, Auditor, DiagnosisKey, encode};
use testkit::protocol::{self, messages};

/// Largest file of keys: about a million of them.
const FILE_BYTES_MAX: u64 = 256 << 20;

/// A key and where it stands in its file.
#[derive(Debug)]
pub(crate) struct PlacedKey {
    pub(crate) key: DiagnosisKey,
    /// `line 3`, or in protobuf `key 3`; both are counted from 1.
    pub(crate) place: String,
}

/// The keys alone.
pub(crate) fn keys_of(placed: Vec<PlacedKey>) -> Vec<DiagnosisKey> {
    placed.into_iter().map(|placed| placed.key).collect()
}

/// The keys of a file, by its name: protobuf (`.pb`) or JSON lines (`.jsonl`). Errors name file and place.
pub(crate) fn read_keys(path: &Path) -> anyhow::Result<Vec<PlacedKey>> {
    let cannot = || format!("cannot read {}", path.display());
    let metadata = fs::metadata(path).with_context(cannot)?;
    if metadata.len() > FILE_BYTES_MAX {
        bail!("{} is larger than {FILE_BYTES_MAX} bytes", path.display());
    }
    let bytes = fs::read(path).with_context(cannot)?;
    parse_keys(path, &bytes).with_context(|| path.display().to_string())
}

pub(crate) fn parse_keys(path: &Path, bytes: &[u8]) -> anyhow::Result<Vec<PlacedKey>> {
    match path.extension().and_then(OsStr::to_str) {
        Some("pb") => parse_protobuf(bytes),
        Some("jsonl") => parse_lines(bytes),
        _ => bail!("the name ends neither in .pb nor in .jsonl"),
    }
}

fn parse_protobuf(bytes: &[u8]) -> anyhow::Result<Vec<PlacedKey>> {
    let keys = messages(bytes).zip(1_u32..).map(|(message, number)| {
        let key = message.and_then(protocol::DiagnosisKey::read);
        let place = format!("key {number}");
        let key = key.with_context(|| place.clone())?.into();
        Ok(PlacedKey { key, place })
    });
    keys.collect()
}

fn parse_lines(bytes: &[u8]) -> anyhow::Result<Vec<PlacedKey>> {
    let lines = bytes.split(|byte| *byte == b'\n').zip(1_u32..);
    let lines = lines.filter(|(line, _)| !line.trim_ascii().is_empty());
    lines
        .map(|(line, number)| {
            let place = format!("line {number}");
            let key = serde_json::from_slice(line).with_context(|| place.clone())?;
            Ok(PlacedKey { key, place })
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

/// Writes a program.
pub(crate) fn write_executable(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    let cannot = || format!("cannot write {}", path.display());
    let mut file = File::options()
        .write(true)
        .create_new(true)
        .mode(0o755)
        .open(path)
        .with_context(cannot)?;
    file.write_all(content).with_context(cannot)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn refusal(name: &str, content: &[u8]) -> String {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        fs::write(&path, content).unwrap();
        format!("{:#}", read_keys(&path).unwrap_err())
    }

    fn keys(count: u8) -> Vec<DiagnosisKey> {
        let key = |number| DiagnosisKey {
            key_data: vec![number; 16],
            origin: "DE".to_owned(),
            ..DiagnosisKey::default()
        };
        (0..count).map(key).collect()
    }

    #[test]
    fn names_file_and_place_of_what_cannot_be_read() {
        let lines = write_keys(&keys(3), true);
        let text = String::from_utf8(lines.clone()).unwrap();
        let broken = text
            .replacen('{', "\n{", 2)
            .replacen("\"origin\":\"DE\"", "\"origin\":7", 2);
        let said = refusal("a.jsonl", broken.as_bytes());
        assert!(said.contains("a.jsonl: line 2: "), "{said}");
        let mut lines = lines;
        lines.extend(b"{}\n");
        let said = refusal("b.jsonl", &lines);
        assert!(said.contains("b.jsonl: line 4: missing field"), "{said}");
        let said = refusal("c.jsonl", b"\xff\n");
        assert!(said.contains("c.jsonl: line 1: "), "{said}");
        let whole = encode(&keys(3));
        let said = refusal("d.pb", &whole[..whole.len() - 1]);
        assert!(
            said.ends_with("d.pb: key 3: not a batch of diagnosis keys in protobuf"),
            "{said}"
        );
        let said = refusal("e.txt", b"");
        assert!(said.contains("e.txt: the name ends neither"), "{said}");
        let missing = format!("{:#}", read_keys(Path::new("/nowhere/f.pb")).unwrap_err());
        assert_eq!(missing.matches("No such file").count(), 1, "{missing}");
    }

    #[test]
    fn reads_what_it_writes() {
        for (name, json) in [("a.pb", false), ("a.jsonl", true)] {
            let read = parse_keys(Path::new(name), &write_keys(&keys(3), json)).unwrap();
            let places: Vec<_> = read.iter().map(|key| key.place.clone()).collect();
            assert_eq!(places.len(), 3);
            assert!(places[2].ends_with(" 3"), "{places:?}");
            assert_eq!(keys_of(read), keys(3));
        }
    }
}
