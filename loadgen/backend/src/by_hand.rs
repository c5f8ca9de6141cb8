//! One step of the exchange at a time.

use std::collections::HashMap;
use std::convert::Infallible;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::Context as _;
use efgs_client::{
    Cursor, DiagnosisKey, Downloader, Journal, KeyOutcome, MemoryJournal, Pending, Read,
    Resolution, UPLOAD_KEYS_MAX, Uploader, canonical_texts, encode, signed_bytes,
};
use engine::output;

use crate::config::Config;
use crate::files::{PlacedKey, Sorted, keys_of, read_keys, write_whole};

/// How often one request is tried.
const ATTEMPTS_MAX: u32 = 10;

/// Print what is signed of a file of keys: their texts in signing order, one per line
///
/// Without line feeds they are the bytes that a signature covers.
#[derive(Debug, clap::Args)]
pub(crate) struct CanonicalArguments {
    /// File of keys
    file: PathBuf,
    /// Print the bytes themselves, to be signed or hashed
    #[arg(long)]
    bytes: bool,
}

pub(crate) fn canonical(arguments: &CanonicalArguments) -> anyhow::Result<ExitCode> {
    let body = encode(&keys_of(read_keys(&arguments.file)?));
    let out = match arguments.bytes {
        true => signed_bytes(&body)?,
        false => {
            let texts = canonical_texts(&body)?.into_iter();
            texts.flat_map(|text| (text + "\n").into_bytes()).collect()
        }
    };
    output::print_bytes(&out)?;
    Ok(ExitCode::SUCCESS)
}

/// Print the batch signature of a file of keys, as the header batchSignature carries it
#[derive(Debug, clap::Args)]
pub(crate) struct SignArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "efgs-backend.toml")]
    config: PathBuf,
    /// File of keys
    file: PathBuf,
}

pub(crate) fn sign(arguments: &SignArguments) -> anyhow::Result<ExitCode> {
    let signer = Config::read(&arguments.config)?.signer()?;
    let body = encode(&keys_of(read_keys(&arguments.file)?));
    let signature = signer.sign(&signed_bytes(&body)?)?;
    output::say(signature)?;
    Ok(ExitCode::SUCCESS)
}

/// Upload files of keys, once
///
/// What is stored already is no error. Ends with 1 if some keys are refused for good.
#[derive(Debug, clap::Args)]
pub(crate) struct UploadArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "efgs-backend.toml")]
    config: PathBuf,
    /// Files of keys
    #[arg(required = true)]
    files: Vec<PathBuf>,
}

pub(crate) async fn upload(arguments: &UploadArguments) -> anyhow::Result<ExitCode> {
    let config = Config::read(&arguments.config)?;
    let (mut keys, mut places) = (Vec::new(), Places::default());
    for file in &arguments.files {
        let read = read_keys(file)?;
        places.note(file, &read);
        keys.extend(read.into_iter().map(|placed| placed.key));
    }
    let mut journal = ShownJournal {
        memory: MemoryJournal {
            pending: Pending::split(&config.country, keys, UPLOAD_KEYS_MAX),
            ..MemoryJournal::default()
        },
        has_failed: false,
    };
    let (connection, signer) = (config.connection()?, config.signer()?);
    let mut uploader = Uploader::new(connection, signer, &config.country);
    uploader.drain(&mut journal, ATTEMPTS_MAX).await?;
    let outcome = Outcome::of(&journal, &places);
    output::print(&outcome.text)?;
    Ok(match outcome.refused {
        0 => ExitCode::SUCCESS,
        _ => ExitCode::FAILURE,
    })
}

/// Where keys stand: the first place of each.
#[derive(Default)]
struct Places(HashMap<DiagnosisKey, String>);

impl Places {
    fn note(&mut self, file: &Path, keys: &[PlacedKey]) {
        for PlacedKey { key, place } in keys {
            let place = || format!("{}: {place}", file.display());
            self.0.entry(key.clone()).or_insert_with(place);
        }
    }
}

/// What has become of the keys.
struct Outcome {
    text: String,
    refused: usize,
}

impl Outcome {
    fn of(journal: &ShownJournal, places: &Places) -> Self {
        let (mut stored, mut known, mut refusals) = (0, 0, Vec::new());
        for outcome in &journal.memory.outcomes {
            match outcome {
                KeyOutcome::Stored(_) => stored += 1,
                KeyOutcome::Known(_) => known += 1,
                KeyOutcome::Refused { key, reason } => {
                    let place = places.0.get(key).map_or("", String::as_str);
                    refusals.push(format!("refused: {place}: {reason}\n"));
                }
            }
        }
        let refused = refusals.len();
        let mut text = format!("{stored} keys stored, ");
        if known > 0 {
            // A gateway cannot tell an attempt whose answer was lost from an upload of long ago.
            let whose = match journal.has_failed {
                true => ", perhaps from an attempt that failed",
                false => "",
            };
            text += &format!("{known} were there already{whose}, ");
        }
        text += &format!("{refused} refused\n");
        text.extend(refusals);
        Self { text, refused }
    }
}

/// Says on standard error why nothing happens for a while.
struct ShownJournal {
    memory: MemoryJournal,
    /// Whether any attempt has failed.
    has_failed: bool,
}

impl Journal for ShownJournal {
    type Error = Infallible;

    fn oldest(&mut self) -> Result<Option<Pending>, Infallible> {
        self.memory.oldest()
    }

    fn resolve(&mut self, done: &Pending, resolution: Resolution) -> Result<(), Infallible> {
        self.memory.resolve(done, resolution)
    }

    fn note_failure(&mut self, attempts: u32, reason: &str, wait: Duration) {
        self.has_failed = true;
        let seconds = wait.as_secs_f32();
        output::note(format_args!(
            "efgs-backend: attempt {attempts} of {ATTEMPTS_MAX} failed: {reason}; again in {seconds:.1} s"
        ));
    }
}

/// Download all batches since a day, one file per batch, and continue there the next time
#[derive(Debug, clap::Args)]
pub(crate) struct DownloadArguments {
    /// Configuration file
    #[arg(long, value_name = "FILE", default_value = "efgs-backend.toml")]
    config: PathBuf,
    /// First day, yyyy-MM-dd in UTC
    #[arg(long, value_name = "DAY")]
    since: String,
    /// Folder for TAG.pb or TAG.jsonl; .cursor.json in it says how far it has come
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

pub(crate) async fn download(arguments: &DownloadArguments) -> anyhow::Result<ExitCode> {
    let config = Config::read(&arguments.config)?;
    let auditor = config.auditor()?;
    let out = &arguments.out;
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))?;
    let place = out.join(".cursor.json");
    let mut cursor = read_cursor(&place, &arguments.since)?;
    let mut downloader = Downloader::new(config.connection()?);
    loop {
        match downloader.read(&cursor).await? {
            Read::Batch(batch) => {
                let audit = match &auditor {
                    Some(auditor) => Some((auditor, downloader.audit(&batch.tag).await?)),
                    None => None,
                };
                let audit = audit
                    .as_ref()
                    .map(|(auditor, audit)| (*auditor, &audit[..]));
                let sorted = Sorted::new(batch.keys()?, audit)?;
                sorted.write(out, &batch.tag, config.json)?;
                let (proven, unproven) = (sorted.proven.len(), sorted.unproven.len());
                let line = match auditor {
                    Some(_) => format!("{}: {proven} keys, {unproven} not proven", batch.tag),
                    None => format!(
                        "{}: {proven} keys, NOT VERIFIED: the configuration names no trust_anchor",
                        batch.tag
                    ),
                };
                cursor = batch.cursor;
                write_whole(&place, &serde_json::to_vec(&cursor)?)?;
                output::say(line)?;
            }
            Read::Gap(later) => {
                output::note(format_args!(
                    "efgs-backend: the gateway keeps no batches from before {}: some may be missing",
                    later.since_day()
                ));
                cursor = later;
            }
            Read::UpToDate => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn read_cursor(place: &Path, since: &str) -> anyhow::Result<Cursor> {
    match std::fs::read(place) {
        Ok(text) => Ok(serde_json::from_slice(&text)?),
        Err(_) => Cursor::since(since).context("--since is no day: write yyyy-MM-dd"),
    }
}

/// Verify a downloaded batch against its audit
///
/// Ends with 1 if some keys are not proven.
#[derive(Debug, clap::Args)]
pub(crate) struct VerifyArguments {
    /// Configuration file, which names the trust anchor
    #[arg(long, value_name = "FILE", default_value = "efgs-backend.toml")]
    config: PathBuf,
    /// The batch in protobuf
    batch: PathBuf,
    /// Its audit in JSON
    audit: PathBuf,
}

pub(crate) fn verify(arguments: &VerifyArguments) -> anyhow::Result<ExitCode> {
    let auditor = Config::read(&arguments.config)?.auditor()?;
    let auditor = auditor.context("the configuration names no trust_anchor")?;
    let audit = std::fs::read(&arguments.audit);
    let audit = audit.with_context(|| format!("cannot read {}", arguments.audit.display()))?;
    let audited = auditor.verify(&keys_of(read_keys(&arguments.batch)?), &audit)?;
    let mut out = String::new();
    for upload in &audited.uploads {
        let verdict = match upload.proof {
            Ok(()) => "proven".to_owned(),
            Err(why) => format!("NOT PROVEN: {why}"),
        };
        out += &format!("{} {} keys {verdict}\n", upload.country, upload.keys.len());
    }
    if !audited.unaccounted.is_empty() {
        out += &format!("{} keys NOT ACCOUNTED for\n", audited.unaccounted.len());
    }
    output::print(out)?;
    Ok(match audited.is_proven() {
        true => ExitCode::SUCCESS,
        false => ExitCode::FAILURE,
    })
}
