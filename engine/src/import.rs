//! Import: a reference database (release 1.1.3) becomes a fresh installation that serves the same
//! download batches under the same names.
//!
//! - *In*: its certificates, callback subscriptions, download batches and keys; the old password of
//!   its encrypted columns.
//! - *Out*: the certificate list; the callback subscriptions that the API would take; uploads in the log, sealed anew, in reference order; the download
//!   batches, so that a participant who is half through a day goes on with its next tag; uploads
//!   that wait for a download batch, behind them. Counts and [`Note`]s of what is different now.
//! - *Refuses*: a target that is in use, or that a gateway works on; a wrong password; names of
//!   download batches that are none.
//! - *Assumes*: the reference is stopped.
//! - *Runs on*: the thread of the command line. One download batch is in memory at a time.
//!
//! Keys belong to the same upload if country, upload tag and batch signature are the same. The
//! reference has merged uploads that raced under one tag (defect U-2): they are told apart by
//! their signatures here, and all but the first get another tag.

mod column;
mod error;
mod note;
mod subscriptions;
mod upload;

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, HashSet};
use std::fmt;

use column::Columns;
pub use error::ImportError;
pub use note::Note;
use upload::{ImportedUpload, import_upload};

use crate::admin::canonical_pem;
use crate::database::{Database, SqlError};
use crate::domain::{
    BatchTag, CertificateKind, Country, Day, Seq, Thumbprint, UnixMillis, UploadTag,
};
use crate::engine::agree_on_keys;
use crate::limits;
use crate::seal::Keys;
use crate::settings::DatabaseUrl;
use crate::store::{
    DownloadBatchRow, ImportState, Reference, ReferenceBatch, ReferenceCertificate, ReferenceKey,
    ReferenceUpload, Store, UploadRow, migrate,
};
use crate::trust::{CertificateRow, Trust, TrustAnchor};

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
}

/// Judges a callback URL as the API does: says why it is refused.
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
    /// What is different now, or deserves a look.
    pub notes: Vec<Note>,
}

/// Imports a reference database. Nothing is served from the target before all is there; after a
/// failure, an import begins anew.
///
/// # Errors
/// [`ImportError`].
pub fn import(request: &ImportRequest<'_>) -> Result<Imported, ImportError> {
    if !matches!(request.from, DatabaseUrl::Mysql(_)) {
        return Err(ImportError::NotAServer);
    }
    let columns = Columns::new(request.password).ok_or(ImportError::PasswordLength)?;
    let anchor = TrustAnchor::from_pem(request.trust_anchor_pem)?;
    let reference = Reference::open(&Database::new(request.from.clone()));
    let mut run = Run {
        reference: reference.map_err(reading)?,
        target: open_target(request)?,
        columns,
        keys: request.keys,
        tags: HashSet::new(),
        next: Seq(1),
        altered_keys: 0,
        imported: Imported::default(),
    };
    // What can be refused is looked at before anything is written.
    let certificates = run.read_certificates(request.now, &anchor)?;
    let chain = run.read_chain(request.now.day())?;
    let subscriptions = run.read_subscriptions(&chain, request.callback_urls)?;
    if let Some(target) = &mut run.target {
        target.begin_import().map_err(writing)?;
    }
    run.import_batches(&chain)?;
    run.import_waiting()?;
    if let Some(target) = &mut run.target {
        let finished = target.finish_import(&certificates, &subscriptions, request.now);
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
    target: Option<Store>,
    columns: Columns,
    keys: &'a Keys,
    /// Tags in use.
    tags: HashSet<(Country, UploadTag)>,
    /// The next free position of the log.
    next: Seq,
    altered_keys: u64,
    imported: Imported,
}

/// A download batch to be imported.
struct ChainBatch {
    tag: BatchTag,
    created_at: UnixMillis,
    link: String,
}

impl Run<'_> {
    fn read_certificates(
        &mut self,
        now: UnixMillis,
        anchor: &TrustAnchor,
    ) -> Result<Vec<CertificateRow>, ImportError> {
        let mut rows = Vec::new();
        for found in self.reference.certificates().map_err(reading)? {
            match certificate(&found, now) {
                Some(row) => rows.push(row),
                None => self.note(Note::CertificateSkipped {
                    thumbprint: found.thumbprint,
                }),
            }
        }
        let trust = Trust::load(rows.clone(), anchor, None);
        for row in &rows {
            let listed = trust.find(&row.thumbprint, row.kind);
            if !listed.is_some_and(|listed| listed.is_intact()) {
                self.note(Note::CertificateNotVouchedFor(row.thumbprint));
            } else if row.kind == CertificateKind::Signing && !is_canonical(&row.pem) {
                // Served as it is: that is what the signature is over.
                self.note(Note::CertificateNotCanonical(row.thumbprint));
            }
        }
        let revoked = rows.iter().filter(|row| row.revoked_at.is_some());
        self.imported.revoked_certificates = revoked.count() as u64;
        self.imported.certificates = rows.len() as u64;
        Ok(rows)
    }

    /// The download batches to import, in the order of their names: from the first that has keys,
    /// or that is younger than what identities are kept for; the newest one in any case, so that
    /// the numbering goes on.
    fn read_chain(&mut self, today: Day) -> Result<Vec<ChainBatch>, ImportError> {
        let mut chain = BTreeMap::new();
        for row in self.reference.batches().map_err(reading)? {
            let batch = chain_batch(row)?;
            if let Some(twin) = chain.insert(batch.tag, batch) {
                self.note(Note::BatchNameTwice(twin.tag));
            }
        }
        let mut oldest = today.minus_days(limits::IDENTITY_AGE_DAYS);
        for name in self.reference.batches_with_keys().map_err(reading)? {
            let tag = batch_tag(&name)?;
            oldest = oldest.min(tag.day);
            if let Entry::Vacant(place) = chain.entry(tag) {
                place.insert(ChainBatch {
                    tag,
                    created_at: UnixMillis(tag.day.start_unix_seconds() * 1000),
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
            let name = batch.tag.to_string();
            let rows = self.reference.keys_of_batch(&name).map_err(reading)?;
            let (uploads, interleaved) = group(rows)?;
            if interleaved {
                self.note(Note::Interleaved(batch.tag));
            }
            let first = self.next;
            let (uploads, keys) = self.write(Some((ordinal, batch)), uploads, first)?;
            self.imported.download_batches += 1;
            self.imported.uploads += uploads;
            self.imported.keys += keys;
        }
        Ok(())
    }

    /// Uploads without download batch: the gateway cuts them when it starts.
    fn import_waiting(&mut self) -> Result<(), ImportError> {
        for tag in self.reference.waiting_tags().map_err(reading)? {
            let rows = self.reference.waiting_keys(&tag).map_err(reading)?;
            let (uploads, _) = group(rows)?;
            let first = self.next;
            let (uploads, keys) = self.write(None, uploads, first)?;
            self.imported.waiting_uploads += uploads;
            self.imported.waiting_keys += keys;
        }
        Ok(())
    }

    /// Writes uploads from a position on; gives their number and that of their keys.
    fn write(
        &mut self,
        batch: Option<(u64, &ChainBatch)>,
        uploads: Vec<UploadRows>,
        first: Seq,
    ) -> Result<(u64, u64), ImportError> {
        let mut written = Vec::with_capacity(uploads.len());
        for upload in uploads {
            written.push(self.import_one(&upload)?);
        }
        // A batch without keys takes a position that no upload has.
        let positions = (written.len() as u64).max(u64::from(batch.is_some()));
        self.next = Seq(first.0 + positions);
        let row = batch.map(|(ordinal, batch)| {
            let seqs = first.0..=self.next.0 - 1;
            let tag = batch.tag;
            (DownloadBatchRow { ordinal, tag, seqs }, batch.created_at)
        });
        let rows: Vec<_> = (first.0..).zip(&written).map(log_row).collect();
        if let Some(target) = &mut self.target {
            let batch = row.as_ref().map(|(row, created_at)| (row, *created_at));
            target.import_uploads(batch, &rows).map_err(writing)?;
        }
        let keys = rows.iter().map(|row| u64::from(row.key_count)).sum();
        Ok((rows.len() as u64, keys))
    }

    fn import_one(&mut self, upload: &UploadRows) -> Result<SharedUpload, ImportError> {
        let (country, first) = (upload.country, &upload.keys[0]);
        let shared = self.reference.upload_of_key(first.id).map_err(reading)?;
        let shared = shared.ok_or(ImportError::Country { id: first.id })?;
        let tag = self.free_tag(country, &first.upload_tag);
        let imported = import_upload(country, tag, &upload.keys, &self.columns, self.keys)?;
        self.altered_keys += imported.altered_keys;
        let [uploader, signer] = [&shared.uploader, &shared.signer].map(|text| thumbprint(text));
        if uploader.is_none() || signer.is_none() {
            let tag = imported.tag.clone();
            self.note(Note::ThumbprintLost { country, tag });
        }
        let unknown = Thumbprint([0; 32]);
        Ok(SharedUpload {
            imported,
            uploader: uploader.unwrap_or(unknown),
            signer: signer.unwrap_or(unknown),
            shared,
        })
    }

    /// The tag itself, or the first free one after it.
    fn free_tag(&mut self, country: Country, text: &str) -> UploadTag {
        let mut attempts = (1..).map(|attempt| tag_attempt(text, attempt));
        let mut is_free = |tag: &UploadTag| self.tags.insert((country, tag.clone()));
        let tag = attempts.find(&mut is_free).expect("numbers do not end");
        if tag.as_str() != text {
            self.note(Note::TagChanged {
                country,
                from: text.to_owned(),
                to: tag.clone(),
            });
        }
        tag
    }

    fn note(&mut self, note: Note) {
        self.imported.notes.push(note);
    }

    fn finish(mut self) -> Imported {
        if self.altered_keys > 0 {
            self.note(Note::KeysAltered(self.altered_keys));
        }
        self.imported
    }
}

/// The keys of one upload, in order; not empty.
struct UploadRows {
    country: Country,
    keys: Vec<ReferenceKey>,
}

/// An upload with what its keys share.
struct SharedUpload {
    imported: ImportedUpload,
    shared: ReferenceUpload,
    uploader: Thumbprint,
    signer: Thumbprint,
}

/// Keys by upload, in the order of each upload's first key; and whether one upload's keys lay
/// between those of another.
fn group(rows: Vec<ReferenceKey>) -> Result<(Vec<UploadRows>, bool), ImportError> {
    let mut uploads: Vec<UploadRows> = Vec::new();
    let mut positions = BTreeMap::new();
    let (mut current, mut interleaved) = (usize::MAX, false);
    for row in rows {
        let id = row.id;
        let country = Country::parse(&row.country).map_err(|_| ImportError::Country { id })?;
        let name = (
            country,
            row.upload_tag.clone(),
            row.signature_digest.clone(),
        );
        let next = uploads.len();
        let at = *positions.entry(name).or_insert(next);
        interleaved |= at != current && at != next;
        current = at;
        if at == next {
            let keys = Vec::new();
            uploads.push(UploadRows { country, keys });
        }
        uploads[at].keys.push(row);
    }
    Ok((uploads, interleaved))
}

fn log_row((seq, upload): (u64, &SharedUpload)) -> UploadRow<'_> {
    let SharedUpload {
        imported, shared, ..
    } = upload;
    UploadRow {
        seq: Seq(seq),
        created_at: imported.created_at,
        country: imported.country,
        tag: &imported.tag,
        key_count: imported.key_count,
        format_version: shared.format_major * 256 + shared.format_minor,
        uploader: &upload.uploader,
        signer: &upload.signer,
        content: &imported.content,
        batch_signature: &shared.batch_signature,
        identities: &imported.identities,
        sealed: &imported.sealed,
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

fn is_canonical(pem: &str) -> bool {
    canonical_pem(pem).is_ok_and(|canonical| canonical == pem)
}

fn certificate(found: &ReferenceCertificate, now: UnixMillis) -> Option<CertificateRow> {
    if found.pem.is_empty() || found.signature.is_empty() {
        return None;
    }
    Some(CertificateRow {
        thumbprint: thumbprint(&found.thumbprint)?,
        country: Country::parse(&found.country).ok()?,
        kind: CertificateKind::from_name(&found.kind)?,
        pem: found.pem.as_str().into(),
        operator_signature: found.signature.as_str().into(),
        // The reference does not know since when.
        revoked_at: found.revoked.then_some(now),
    })
}

/// A thumbprint as the reference writes it: zeros in front may be missing (defect A-1).
fn thumbprint(text: &str) -> Option<Thumbprint> {
    if text.is_empty() {
        return None;
    }
    Thumbprint::parse_hex(&format!("{text:0>64}")).ok()
}

/// The tag for an attempt to find a free one: what is not allowed replaced, from the second
/// attempt on with its number at the end.
fn tag_attempt(text: &str, attempt: u32) -> UploadTag {
    let visible = |c: char| if c.is_ascii_graphic() { c } else { '_' };
    let number = match attempt {
        1 => String::new(),
        _ => format!("~{attempt}"),
    };
    let room = UploadTag::CHARACTERS_MAX - number.len();
    let mut tag: String = text.chars().map(visible).take(room).collect();
    tag.push_str(&number);
    let tag = if tag.is_empty() { "_" } else { &tag };
    UploadTag::parse(tag).expect("visible ASCII of the right length")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(id: u64, country: &str, upload_tag: &str, signature: &str) -> ReferenceKey {
        ReferenceKey {
            id,
            created_at: UnixMillis(id),
            country: country.to_owned(),
            upload_tag: upload_tag.to_owned(),
            signature_digest: signature.to_owned(),
            payload_hash: String::new(),
            payload: Default::default(),
        }
    }

    fn grouped(rows: &[(&str, &str, &str)]) -> (Vec<Vec<u64>>, bool) {
        let keys = (1..)
            .zip(rows)
            .map(|(id, (country, tag, signature))| key(id, country, tag, signature));
        let (uploads, interleaved) = group(keys.collect()).unwrap();
        let ids = |upload: UploadRows| upload.keys.iter().map(|key| key.id).collect();
        (uploads.into_iter().map(ids).collect(), interleaved)
    }

    #[test]
    fn groups_keys_by_country_tag_and_signature_in_order_of_the_first() {
        let rows = [
            ("DE", "a", "1"),
            ("de", "a", "1"),
            ("IT", "a", "1"),
            ("IT", "a", "2"),
        ];
        assert_eq!(grouped(&rows), (vec![vec![1, 2], vec![3], vec![4]], false));
        let rows = [
            ("DE", "a", "1"),
            ("IT", "b", "2"),
            ("DE", "a", "1"),
            ("DE", "A", "1"),
        ];
        assert_eq!(grouped(&rows), (vec![vec![1, 3], vec![2], vec![4]], true));
        assert!(matches!(
            group(vec![key(7, "", "a", "1")]),
            Err(ImportError::Country { id: 7 })
        ));
    }

    #[test]
    fn makes_other_tags_in_a_fixed_order() {
        let long = "x".repeat(64);
        let check = |text: &str, attempt, expected: &str| {
            assert_eq!(tag_attempt(text, attempt).as_str(), expected);
        };
        check("a b", 1, "a_b");
        check("a", 2, "a~2");
        check("", 1, "_");
        check(&long, 1, &long);
        check(&long, 11, &format!("{}~11", "x".repeat(61)));
    }

    #[test]
    fn reads_thumbprints_without_their_zeros_in_front() {
        let full = format!("00{}", "ab".repeat(31));
        assert_eq!(thumbprint(&full[2..]), Thumbprint::parse_hex(&full).ok());
        assert_eq!(thumbprint(""), None);
        assert_eq!(thumbprint("xyz"), None);
    }
}
