//! Import: a reference database (release 1.1.3) becomes a fresh installation that serves the same
//! download batches under the same names.
//!
//! - *In*: its certificates, callback subscriptions, download batches and keys; the old password of
//!   its encrypted columns.
//! - *Out*: the certificate list; the callback subscriptions that the API would take; uploads in
//!   the log, sealed again, in reference order; the download batches, so that a participant who is
//!   half through a day continues with its next tag; uploads that wait for a download batch, after
//!   them. Counts, how each country signs, and [`Note`]s of what is different now.
//! - *Refuses*: a target that is in use, or that a gateway works on; a wrong password; names of
//!   download batches that are none. Certificates that `efgs cert add` would refuse and uploads that
//!   the API would refuse (the age of their keys aside) are left out, and nothing is imported then
//!   unless the operator has said so.
//! - *Assumes*: the reference is stopped.
//! - *Runs on*: the thread of the command line. One upload of at most
//!   [`limits::UPLOAD_KEYS_MAX`] keys is in memory at a time, with the uploads that wait to be written.
//!
//! Keys belong to the same upload if country, upload tag and batch signature are the same. The
//! reference has merged uploads that raced under one tag (defect U-2): they are distinguished by
//! their signatures here, and all but the first get another tag.

mod certificates;
mod column;
mod error;
#[cfg(any(test, debug_assertions))]
mod fuzzing;
mod note;
mod subscriptions;
mod upload;
mod uploads;
mod write_buffer;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;

use column::Columns;
pub use error::ImportError;
pub use note::Note;
pub use upload::UploadFault;
use write_buffer::WriteBuffer;

#[cfg(any(test, debug_assertions))]
pub use fuzzing::columns as fuzzed_columns;

use crate::database::{Database, SqlError};
use crate::domain::{BatchTag, Country, Day, Seq, Thumbprint, UnixMillis, UploadTag};
use crate::key_ring::agree_on_keys;
use crate::limits;
use crate::log_chain::{BatchColumns, LinkDigest};
use crate::seal::Keys;
use crate::settings::DatabaseUrl;
use crate::statistics::{SignatureCounts, SignatureUse};
use crate::store::{
    DownloadBatchRow, ImportState, KeysOf, Reference, ReferenceBatch, Store, UploadName, migrate,
};
use crate::trust::{Trust, TrustAnchors};

/// What to import, and where to.
#[derive(Debug)]
pub struct ImportRequest<'a> {
    /// The reference's database, on a MySQL-compatible server.
    pub from: &'a DatabaseUrl,
    /// The password of its encrypted columns.
    pub password: &'a str,
    /// Our database; its schema is brought up to date.
    pub into: &'a DatabaseUrl,
    /// The keys of the new installation.
    pub keys: &'a Keys,
    /// PEM of the trust anchor's certificate.
    pub trust_anchor_pem: &'a str,
    /// Which callback URLs may be subscribed.
    pub callback_urls: UrlCheck<'a>,
    /// The time now.
    pub now: UnixMillis,
    /// Read and check everything, write nothing.
    pub dry_run: bool,
    /// Go on without the certificates and uploads that are refused.
    pub leave_out: bool,
}

/// Validates a callback URL as the API does; the error says why it is refused.
#[derive(Clone, Copy)]
pub struct UrlCheck<'a>(pub &'a dyn Fn(&str) -> Result<(), String>);

impl fmt::Debug for UrlCheck<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UrlCheck")
    }
}

/// What was imported (or would be).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Imported {
    /// Certificates, revoked ones included.
    pub certificates: u64,
    /// Revoked ones among them.
    pub revoked_certificates: u64,
    /// Callback subscriptions.
    pub subscriptions: u64,
    /// Download batches, those without keys included.
    pub download_batches: u64,
    /// Uploads in them.
    pub uploads: u64,
    /// Keys in them.
    pub keys: u64,
    /// Uploads that wait for a download batch.
    pub waiting_uploads: u64,
    /// Keys in them.
    pub waiting_keys: u64,
    /// Certificates that are refused.
    pub left_out_certificates: u64,
    /// Uploads that are refused.
    pub left_out_uploads: u64,
    /// Keys in them.
    pub left_out_keys: u64,
    /// How the imported uploads were signed, in the order of countries.
    pub signatures: Vec<SignatureUse>,
    /// The oldest download batch that has keys, and how many days back it lies.
    pub oldest: Option<(BatchTag, u32)>,
    /// What is different now, or deserves a look.
    pub notes: Vec<Note>,
    /// Whether it was imported: a dry run is not, nor one that would leave something out unasked.
    pub is_written: bool,
}

impl Imported {
    /// Whether something is left out that may not be.
    #[must_use]
    pub const fn leaves_out(&self) -> bool {
        self.left_out_certificates > 0 || self.left_out_uploads > 0
    }
}

/// Imports a reference database. Nothing is served from the target before all is there; after a
/// failure, an import starts from scratch.
///
/// # Errors
/// [`ImportError`].
pub fn import(request: &ImportRequest<'_>) -> Result<Imported, ImportError> {
    if !matches!(request.from, DatabaseUrl::Mysql(_)) {
        return Err(ImportError::NotAServer);
    }
    let columns = Columns::new(request.password).ok_or(ImportError::PasswordLength)?;
    let anchors = TrustAnchors::from_pem(request.trust_anchor_pem)?;
    let reference = Reference::open(&Database::new(request.from.clone()));
    let mut run = Run {
        reference: reference.map_err(reading)?,
        target: open_target(request)?,
        columns,
        keys: request.keys,
        trust: Trust::default(),
        tags: HashSet::new(),
        parts: HashMap::new(),
        opened_one: false,
        next: Seq(1),
        last_link: None,
        buffer: WriteBuffer::default(),
        signatures: SignatureCounts::default(),
        today: request.now.day(),
        leave_out: request.leave_out,
        imported: Imported::default(),
    };
    // What can be refused is looked at before anything is written.
    let certificates = run.read_certificates(request.now, &anchors)?;
    let chain = run.read_chain()?;
    let subscriptions = run.read_subscriptions(&chain, request.callback_urls)?;
    run.stop_writing_if_refused();
    if let Some(target) = &mut run.target {
        target.begin_import().map_err(writing)?;
    }
    run.import_batches(&chain)?;
    run.import_waiting()?;
    if let Some(target) = &mut run.target {
        let list_key = request.keys.certificate_list_key();
        let finished = target.finish_import(list_key, &certificates, &subscriptions, request.now);
        finished.map_err(writing)?;
    }
    Ok(run.finish())
}

/// The database to write to; nothing in a dry run.
fn open_target(request: &ImportRequest<'_>) -> Result<Option<Store>, ImportError> {
    let database = Database::new(request.into.clone());
    let unreachable = |error| ImportError::Target(database.unreachable(error));
    if request.dry_run {
        let mut store = Store::open_for_long_statements(&database).map_err(unreachable)?;
        if store.schema_version().map_err(unreachable)? > 0 {
            check_target(&mut store, request.into)?;
        }
        return Ok(None);
    }
    migrate(&database)?;
    let mut store = Store::open_for_long_statements(&database).map_err(unreachable)?;
    check_target(&mut store, request.into)?;
    agree_on_keys(request.keys, &mut store, &database)?;
    Ok(Some(store))
}

fn check_target(store: &mut Store, url: &DatabaseUrl) -> Result<(), ImportError> {
    if store.import_state().map_err(writing)? == ImportState::InUse {
        return Err(ImportError::InUse(url.to_string()));
    }
    if store.is_served().map_err(writing)? {
        return Err(ImportError::Served(url.to_string()));
    }
    Ok(())
}

fn reading(error: SqlError) -> ImportError {
    ImportError::Source(error.doing("reading it"))
}

fn writing(error: SqlError) -> ImportError {
    ImportError::Write(error.doing("writing what is imported"))
}

/// An import under way.
struct Run<'a> {
    reference: Reference,
    /// Nothing if nothing is to be written.
    target: Option<Store>,
    columns: Columns,
    keys: &'a Keys,
    /// The certificate list that uploads are verified against.
    trust: Trust,
    /// Tags in use.
    tags: HashSet<(Country, UploadTag)>,
    /// Uploads that lie in several download batches, and who signed each as a whole, if somebody
    /// did.
    parts: HashMap<UploadName, Result<Thumbprint, UploadFault>>,
    /// Whether the password has opened a key.
    opened_one: bool,
    /// The next free position of the log.
    next: Seq,
    /// The link of the last upload.
    last_link: Option<LinkDigest>,
    /// To be written.
    buffer: WriteBuffer,
    signatures: SignatureCounts,
    today: Day,
    leave_out: bool,
    imported: Imported,
}

/// A download batch to be imported.
struct ChainBatch {
    tag: BatchTag,
    created_at: UnixMillis,
    link: String,
}

impl Run<'_> {
    /// An import that would leave something out unasked continues to find the rest, and writes
    /// nothing more. No gateway starts on what it has written.
    fn stop_writing_if_refused(&mut self) {
        if self.imported.leaves_out() && !self.leave_out {
            self.target = None;
        }
    }

    /// The download batches to import, in the order of their names: from the first that has keys,
    /// or that is younger than what identities are kept for; the newest one in any case, so that
    /// the numbering continues.
    fn read_chain(&mut self) -> Result<Vec<ChainBatch>, ImportError> {
        let mut chain = BTreeMap::new();
        for row in self.reference.batches().map_err(reading)? {
            let batch = chain_batch(row)?;
            if let Some(twin) = chain.insert(batch.tag, batch) {
                self.note(Note::BatchNameTwice(twin.tag));
            }
        }
        let mut oldest = self.today.minus_days(limits::IDENTITY_AGE_DAYS);
        for name in self.reference.batches_with_keys().map_err(reading)? {
            let tag = batch_tag(&name)?;
            oldest = oldest.min(tag.day);
            if let Entry::Vacant(place) = chain.entry(tag) {
                place.insert(ChainBatch {
                    tag,
                    created_at: tag.day.start(),
                    link: String::new(),
                });
                self.note(Note::BatchUnlisted(tag));
            }
        }
        let newest = chain.keys().next_back().copied();
        chain.retain(|tag, _| tag.day >= oldest || Some(*tag) == newest);
        let chain: Vec<_> = chain.into_values().collect();
        for pair in chain.windows(2) {
            let (batch, next) = (&pair[0], pair[1].tag);
            if batch.link != next.to_string() {
                self.note(Note::LinkDiffers {
                    batch: batch.tag,
                    next,
                });
            }
        }
        Ok(chain)
    }

    fn import_batches(&mut self, chain: &[ChainBatch]) -> Result<(), ImportError> {
        for (ordinal, batch) in (1..).zip(chain) {
            let first = self.next;
            let name = batch.tag.to_string();
            let written = self.import_uploads(KeysOf::Batch(&name))?;
            if written.interleaved {
                self.note(Note::Interleaved(batch.tag));
            }
            // A batch without keys takes a position that no upload has.
            self.next = self.next.max(Seq(first.0 + 1));
            let seqs = first.0..=self.next.0 - 1;
            let columns = BatchColumns {
                ordinal,
                tag: batch.tag,
                seqs,
                key_count: written.keys,
            };
            let last = self.last_link.filter(|_| written.uploads > 0);
            let row = DownloadBatchRow {
                digest: Some(self.keys.chain().batch(&columns, last)),
                columns,
            };
            let tag = batch.tag;
            if let Some(target) = &mut self.target {
                let inserted = target.import_download_batch(&row, batch.created_at);
                inserted.map_err(writing)?;
            }
            if written.keys > 0 && self.imported.oldest.is_none() {
                self.imported.oldest = Some((tag, tag.day.days_until(self.today)));
            }
            self.imported.download_batches += 1;
            self.imported.uploads += written.uploads;
            self.imported.keys += written.keys;
        }
        Ok(())
    }

    /// Uploads without download batch: the gateway cuts them when it starts.
    fn import_waiting(&mut self) -> Result<(), ImportError> {
        let written = self.import_uploads(KeysOf::Waiting)?;
        self.imported.waiting_uploads = written.uploads;
        self.imported.waiting_keys = written.keys;
        Ok(())
    }

    fn note(&mut self, note: Note) {
        self.imported.notes.push(note);
    }

    fn finish(self) -> Imported {
        Imported {
            is_written: self.target.is_some(),
            signatures: self.signatures.into_uses(),
            ..self.imported
        }
    }
}

fn chain_batch(row: ReferenceBatch) -> Result<ChainBatch, ImportError> {
    Ok(ChainBatch {
        tag: batch_tag(&row.name)?,
        created_at: row.created_at,
        link: row.link,
    })
}

fn batch_tag(name: &str) -> Result<BatchTag, ImportError> {
    BatchTag::parse(name).map_err(|_| ImportError::BatchName(name.to_owned()))
}

/// A thumbprint as the reference writes it: zeros in front may be missing (defect A-1).
fn thumbprint(text: &str) -> Option<Thumbprint> {
    if text.is_empty() {
        return None;
    }
    Thumbprint::parse_hex(&format!("{text:0>64}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_thumbprints_without_their_zeros_in_front() {
        let full = format!("00{}", "ab".repeat(31));
        assert_eq!(thumbprint(&full[2..]), Thumbprint::parse_hex(&full).ok());
        assert_eq!(thumbprint(""), None);
        assert_eq!(thumbprint("xyz"), None);
    }
}
