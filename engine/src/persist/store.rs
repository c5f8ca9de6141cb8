//! What the gateway asks of its database, in the SQL that both databases share.

use std::ops::RangeInclusive;

use super::connection::{Connection, Param, Row, SqlError};
use crate::bundle::AuditEntry;
use crate::domain::{
    BatchTag, CertificateKind, ContentDigest, Country, Day, KeyIdentity, Seq, Thumbprint,
    UnixMillis, UploadTag,
};
use crate::trust::CertificateRow;
use crate::upload::SealedBatch;

/// The only version of both formats (wire behaviour §5: 1.0), as major * 256 + minor.
const FORMAT_VERSION: u64 = 0x100;

/// An open connection with the statements of the product.
#[derive(Debug)]
pub(crate) struct Store(pub(super) Box<dyn Connection>);

/// A row of the log, as far as it decides about later uploads.
#[derive(Debug)]
pub(crate) struct LogEntry {
    pub(crate) seq: Seq,
    pub(crate) country: Country,
    pub(crate) tag: UploadTag,
    pub(crate) content: ContentDigest,
    pub(crate) identities: Vec<KeyIdentity>,
    pub(crate) created_at: UnixMillis,
}

/// A row of the log, as far as it decides about download batches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct UploadMeta {
    pub(crate) seq: Seq,
    pub(crate) country: Country,
    pub(crate) key_count: u32,
    pub(crate) created_at: UnixMillis,
}

/// A row of the log, as far as its keys are needed.
#[derive(Debug)]
pub(crate) struct SealedUpload {
    pub(crate) seq: Seq,
    pub(crate) country: Country,
    pub(crate) tag: UploadTag,
    pub(crate) sealed: Vec<u8>,
}

/// A download batch that is about to be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NewDownloadBatch {
    pub(crate) tag: BatchTag,
    pub(crate) seqs: RangeInclusive<u64>,
    pub(crate) key_count: u64,
}

/// A download batch that is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct DownloadBatchRow {
    pub(crate) ordinal: u64,
    pub(crate) tag: BatchTag,
    pub(crate) seqs: RangeInclusive<u64>,
}

const INSERT_UPLOAD: &str = "INSERT INTO upload_log (seq, created_at_ms, country, upload_tag, \
     key_count, format_version, uploader_thumbprint, signer_thumbprint, content_digest, \
     batch_signature, identities, sealed) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)";

const READ_LOG: &str = "SELECT seq, country, upload_tag, content_digest, identities, \
     created_at_ms FROM upload_log WHERE seq > ? ORDER BY seq LIMIT ?";

impl Store {
    pub(super) fn new(connection: Box<dyn Connection>) -> Self {
        Self(connection)
    }

    /// The schema version.
    pub(crate) fn schema_version(&mut self) -> Result<u32, SqlError> {
        super::migrate::version(&mut *self.0)
    }

    /// What about the server does not suit us, if anything.
    pub(crate) fn check_server(&mut self, packet_bytes: usize) -> Result<Option<String>, SqlError> {
        self.0.check_server(packet_bytes)
    }

    // The log.

    /// Appends uploads at `first` and the positions after it: all of them or none, durable when
    /// it returns.
    pub(crate) fn append(&mut self, first: Seq, batches: &[&SealedBatch]) -> Result<(), SqlError> {
        let mut rows = (first.0..).zip(batches);
        if let [_] = batches {
            // One statement is a transaction of its own: a round trip less.
            return rows.try_for_each(|(seq, batch)| insert_upload(&mut *self.0, seq, batch));
        }
        self.0
            .transaction(|c| rows.try_for_each(|(seq, batch)| insert_upload(c, seq, batch)))
    }

    /// Begins a transaction in which, once [`Self::read_claimed_log`] has come to the end, nobody
    /// else appends. [`Self::append_claimed`] or [`Self::release_log`] ends it.
    pub(crate) fn claim_log(&mut self) -> Result<(), SqlError> {
        self.0.begin_locking()
    }

    /// [`Self::read_log`], claiming what it reads.
    pub(crate) fn read_claimed_log(
        &mut self,
        after: Seq,
        rows_max: u64,
    ) -> Result<Vec<LogEntry>, SqlError> {
        let sql = format!("{READ_LOG}{}", self.0.dialect().and_lock);
        self.0
            .rows(&sql, &[after.0.into(), rows_max.into()], log_entry)
    }

    /// [`Self::append`] at the end of the claimed log.
    pub(crate) fn append_claimed(
        &mut self,
        first: Seq,
        batches: &[&SealedBatch],
    ) -> Result<(), SqlError> {
        let mut rows = (first.0..).zip(batches);
        self.0
            .complete(|c| rows.try_for_each(|(seq, batch)| insert_upload(c, seq, batch)))
    }

    /// Gives the log back as it is.
    pub(crate) fn release_log(&mut self) -> Result<(), SqlError> {
        self.0.script("ROLLBACK")
    }

    /// The first and last position of the log that matter: rows, and what download batches
    /// remember of rows that are gone.
    pub(crate) fn log_end(&mut self) -> Result<Seq, SqlError> {
        let sql = "SELECT COALESCE(MAX(seq), 0), \
             (SELECT COALESCE(MAX(last_seq), 0) FROM download_batch) FROM upload_log";
        let row = self.0.first(sql, &[])?;
        Ok(Seq(row.map_or(0, |row| row.number(0).max(row.number(1)))))
    }

    /// Rows behind a position, in order, for the set and the tags.
    pub(crate) fn read_log(
        &mut self,
        after: Seq,
        rows_max: u64,
    ) -> Result<Vec<LogEntry>, SqlError> {
        self.0
            .rows(READ_LOG, &[after.0.into(), rows_max.into()], log_entry)
    }

    /// Rows created since an instant, in order, for the rebuild at start. `on_entry` gets each as
    /// it arrives.
    pub(crate) fn read_log_since(
        &mut self,
        since: UnixMillis,
        through: Seq,
        on_entry: &mut dyn FnMut(LogEntry),
    ) -> Result<(), SqlError> {
        let sql = "SELECT seq, country, upload_tag, content_digest, identities, created_at_ms FROM upload_log \
             WHERE seq <= ? AND created_at_ms >= ? ORDER BY seq";
        let params = [through.0.into(), since.0.into()];
        self.0
            .query(sql, &params, &mut |row| on_entry(log_entry(row)))
    }

    /// How many keys the rows have that [`Self::read_log_since`] reads.
    pub(crate) fn count_keys_since(
        &mut self,
        since: UnixMillis,
        through: Seq,
    ) -> Result<usize, SqlError> {
        let sql = "SELECT CAST(COALESCE(SUM(key_count), 0) AS UNSIGNED) FROM upload_log \
             WHERE seq <= ? AND created_at_ms >= ?";
        let row = self.0.first(sql, &[through.0.into(), since.0.into()])?;
        Ok(row.map_or(0, |row| usize::try_from(row.number(0)).unwrap_or(0)))
    }

    /// Metadata of rows behind a position, in order.
    pub(crate) fn read_uploads(
        &mut self,
        after: Seq,
        rows_max: u64,
    ) -> Result<Vec<UploadMeta>, SqlError> {
        let sql = "SELECT seq, country, key_count, created_at_ms FROM upload_log \
             WHERE seq > ? ORDER BY seq LIMIT ?";
        self.0
            .rows(sql, &[after.0.into(), rows_max.into()], upload_meta)
    }

    /// Metadata of a range of rows, in order.
    pub(crate) fn read_upload_range(
        &mut self,
        seqs: &RangeInclusive<u64>,
    ) -> Result<Vec<UploadMeta>, SqlError> {
        let sql = "SELECT seq, country, key_count, created_at_ms FROM upload_log \
             WHERE seq BETWEEN ? AND ? ORDER BY seq";
        self.0.rows(
            sql,
            &[(*seqs.start()).into(), (*seqs.end()).into()],
            upload_meta,
        )
    }

    /// Sealed keys of a range of rows, in order.
    pub(crate) fn read_sealed(
        &mut self,
        seqs: &RangeInclusive<u64>,
    ) -> Result<Vec<SealedUpload>, SqlError> {
        let sql = "SELECT seq, country, upload_tag, sealed FROM upload_log \
             WHERE seq BETWEEN ? AND ? ORDER BY seq";
        self.0.rows(
            sql,
            &[(*seqs.start()).into(), (*seqs.end()).into()],
            |mut row| SealedUpload {
                seq: Seq(row.number(0)),
                country: country(&mut row, 1),
                tag: upload_tag(&mut row, 2),
                sealed: row.take_bytes(3),
            },
        )
    }

    /// What the audit shows of a range of rows, in order, those without keys left out.
    pub(crate) fn read_audit(
        &mut self,
        seqs: &RangeInclusive<u64>,
    ) -> Result<Vec<AuditEntry>, SqlError> {
        let sql = "SELECT country, created_at_ms, uploader_thumbprint, signer_thumbprint, \
             key_count, batch_signature FROM upload_log \
             WHERE seq BETWEEN ? AND ? AND key_count > 0 ORDER BY seq";
        self.0.rows(
            sql,
            &[(*seqs.start()).into(), (*seqs.end()).into()],
            |mut row| AuditEntry {
                country: country(&mut row, 0),
                uploaded_at: UnixMillis(row.number(1)),
                uploader: Thumbprint(row.take_array(2)),
                signer: Thumbprint(row.take_array(3)),
                key_count: number_32(row.number(4)),
                batch_signature: row.take_text(5).into(),
            },
        )
    }

    /// Makes sure that what was just read can be relied on: that the commits of others which it
    /// shows are durable. Redo is written in order, so a commit of our own behind them is enough.
    pub(crate) fn settle_what_was_read(&mut self) -> Result<(), SqlError> {
        if self.0.shows_durable_only() {
            return Ok(());
        }
        let touch = "UPDATE lease SET fence = fence + 1 WHERE name = 'settle'";
        if self.0.execute(touch, &[])? == 1 {
            return Ok(());
        }
        let create = "INSERT INTO lease (name, holder, token, fence, expires_at_ms) \
             VALUES ('settle', '', 0, 0, 0)";
        match self.0.execute(create, &[]) {
            Err(SqlError::Duplicate(_)) => self.0.execute(touch, &[]).map(|_| ()),
            created => created.map(|_| ()),
        }
    }

    /// The content that a tag stands for, and since when.
    pub(crate) fn find_content(
        &mut self,
        country: Country,
        tag: &UploadTag,
    ) -> Result<Option<(ContentDigest, UnixMillis)>, SqlError> {
        let sql = "SELECT content_digest, created_at_ms FROM upload_log \
             WHERE country = ? AND upload_tag = ?";
        let row = self
            .0
            .first(sql, &[country.as_str().into(), tag.as_str().into()])?;
        Ok(row.map(|mut row| (ContentDigest(row.take_array(0)), UnixMillis(row.number(1)))))
    }

    // Download batches.

    /// The newest download batch.
    pub(crate) fn newest_download_batch(&mut self) -> Result<Option<DownloadBatchRow>, SqlError> {
        let sql = "SELECT ordinal, day, number, first_seq, last_seq FROM download_batch \
             ORDER BY ordinal DESC LIMIT 1";
        Ok(self.0.first(sql, &[])?.map(|row| download_batch(&row)))
    }

    /// Download batches behind an ordinal, cut on a day or later, in order.
    pub(crate) fn read_download_batches(
        &mut self,
        after_ordinal: u64,
        from: Day,
    ) -> Result<Vec<DownloadBatchRow>, SqlError> {
        let sql = "SELECT ordinal, day, number, first_seq, last_seq FROM download_batch \
             WHERE ordinal > ? AND day >= ? ORDER BY ordinal";
        let params = [
            after_ordinal.into(),
            u64::from(from.compact_number()).into(),
        ];
        self.0.rows(sql, &params, |row| download_batch(&row))
    }

    /// Adds download batches behind `after_ordinal`, if the lease still has this token. False if it
    /// has not, or if another gateway was faster: nothing was done.
    pub(crate) fn cut(
        &mut self,
        token: u64,
        after_ordinal: u64,
        batches: &[NewDownloadBatch],
        now: UnixMillis,
    ) -> Result<bool, SqlError> {
        let cut = self.0.transaction(|c| {
            if !fence(c, Lease::Bundle, token)? {
                return Ok(false);
            }
            let numbered = (after_ordinal + 1..).zip(batches);
            for (ordinal, batch) in numbered {
                insert_download_batch(c, ordinal, batch, now)?;
            }
            Ok(true)
        });
        match cut {
            Err(SqlError::Duplicate(_)) => Ok(false),
            other => other,
        }
    }

    /// Takes or renews a lease; gives its token, or nothing while another gateway holds it. Time is
    /// the database's own.
    pub(crate) fn hold_lease(
        &mut self,
        lease: Lease,
        holder: &str,
        ttl_ms: u64,
    ) -> Result<Option<u64>, SqlError> {
        let now_ms = self.0.dialect().now_ms;
        let own = [lease.name().into(), holder.into()];
        let renew = format!(
            "UPDATE lease SET expires_at_ms = {now_ms} + ?, fence = fence + 1 \
             WHERE name = ? AND holder = ?"
        );
        let renewed = self.0.execute(&renew, &[ttl_ms.into(), own[0], own[1]])?;
        if renewed != 1 && !self.take_lease(lease, holder, ttl_ms, now_ms)? {
            return Ok(None);
        }
        let token = "SELECT token FROM lease WHERE name = ? AND holder = ?";
        Ok(self.0.first(token, &own)?.map(|row| row.number(0)))
    }

    /// An expired lease is free, and so is one that expires impossibly late: the database's clock
    /// was set back.
    fn take_lease(
        &mut self,
        lease: Lease,
        holder: &str,
        ttl_ms: u64,
        now_ms: &str,
    ) -> Result<bool, SqlError> {
        let name = Param::from(lease.name());
        let take = format!(
            "UPDATE lease SET holder = ?, token = token + 1, fence = fence + 1, \
             expires_at_ms = {now_ms} + ? WHERE name = ? \
             AND (expires_at_ms < {now_ms} OR expires_at_ms > {now_ms} + ?)"
        );
        let params = [
            holder.into(),
            ttl_ms.into(),
            name,
            Param::Number(ttl_ms * 2),
        ];
        if self.0.execute(&take, &params)? == 1 {
            return Ok(true);
        }
        let find = "SELECT token FROM lease WHERE name = ?";
        if self.0.first(find, &[name])?.is_some() {
            return Ok(false);
        }
        let create = format!(
            "INSERT INTO lease (name, holder, token, fence, expires_at_ms) \
             VALUES (?, ?, 1, 0, {now_ms} + ?)"
        );
        match self
            .0
            .execute(&create, &[name, holder.into(), ttl_ms.into()])
        {
            Ok(_) => Ok(true),
            Err(SqlError::Duplicate(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Gives a lease back, so that another gateway need not wait for it to expire.
    pub(crate) fn release_lease(&mut self, lease: Lease, holder: &str) -> Result<(), SqlError> {
        let release = "UPDATE lease SET expires_at_ms = 0, holder = '', token = token + 1 \
             WHERE name = ? AND holder = ?";
        self.0
            .execute(release, &[lease.name().into(), holder.into()])
            .map(|_| ())
    }

    // Certificates.

    /// A number that changes with the certificate list.
    pub(crate) fn certificate_revision(&mut self) -> Result<u64, SqlError> {
        let value = self.installation_value(CERTIFICATE_REVISION)?;
        let text = value.and_then(|bytes| String::from_utf8(bytes).ok());
        Ok(text.and_then(|text| text.parse().ok()).unwrap_or(0))
    }

    /// All rows of the certificate list.
    pub(crate) fn certificates(&mut self) -> Result<Vec<CertificateRow>, SqlError> {
        let sql = "SELECT thumbprint, country, kind, pem, operator_signature, revoked_at_ms \
             FROM certificate ORDER BY country, kind, created_at_ms";
        let rows = self.0.rows(sql, &[], |mut row| {
            Some(CertificateRow {
                thumbprint: Thumbprint(row.take_array(0)),
                country: Country::parse(&row.take_text(1)).ok()?,
                kind: CertificateKind::from_name(&row.take_text(2))?,
                pem: row.take_text(3).into(),
                operator_signature: row.take_text(4).into(),
                revoked_at: row.optional_number(5).map(UnixMillis),
            })
        })?;
        Ok(rows.into_iter().flatten().collect())
    }

    /// Lists a certificate; false if its thumbprint is listed for that kind already.
    pub(crate) fn insert_certificate(
        &mut self,
        row: &CertificateRow,
        now: UnixMillis,
    ) -> Result<bool, SqlError> {
        let inserted = self.0.transaction(|c| {
            insert_certificate(c, row, now)?;
            bump_certificate_revision(c)
        });
        match inserted {
            Ok(()) => Ok(true),
            Err(SqlError::Duplicate(_)) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Revokes the rows with a thumbprint; gives how many there are, revoked before or now.
    pub(crate) fn revoke_certificate(
        &mut self,
        thumbprint: &Thumbprint,
        now: UnixMillis,
    ) -> Result<u64, SqlError> {
        self.0.transaction(|c| {
            let count = "SELECT COUNT(*) FROM certificate WHERE thumbprint = ?";
            let found = c.first(count, &[thumbprint.0.as_slice().into()])?;
            let sql = "UPDATE certificate SET revoked_at_ms = ? \
                 WHERE thumbprint = ? AND revoked_at_ms IS NULL";
            c.execute(sql, &[now.0.into(), thumbprint.0.as_slice().into()])?;
            bump_certificate_revision(c)?;
            Ok(found.map_or(0, |row| row.number(0)))
        })
    }

    // The installation.

    /// A value that all gateways agree on.
    pub(crate) fn installation_value(&mut self, name: &str) -> Result<Option<Vec<u8>>, SqlError> {
        let sql = "SELECT value FROM installation WHERE name = ?";
        Ok(self
            .0
            .first(sql, &[name.into()])?
            .map(|mut row| row.take_bytes(0)))
    }

    /// Sets a value that no gateway has set yet; gives the value that holds now.
    pub(crate) fn agree_on(&mut self, name: &str, value: &[u8]) -> Result<Vec<u8>, SqlError> {
        let sql = "INSERT INTO installation (name, value) VALUES (?, ?)";
        match self.0.execute(sql, &[name.into(), value.into()]) {
            Ok(_) => Ok(value.to_vec()),
            Err(SqlError::Duplicate(_)) => Ok(self.installation_value(name)?.unwrap_or_default()),
            Err(error) => Err(error),
        }
    }
}

/// What only one gateway does at a time.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Lease {
    /// Cuts download batches.
    Bundle,
    /// Deletes what is too old.
    Retention,
}

impl Lease {
    const fn name(self) -> &'static str {
        match self {
            Self::Bundle => "bundle",
            Self::Retention => "retention",
        }
    }
}

/// Begins a guarded transaction: true if the lease still has this token. Another gateway that
/// takes the lease waits for the transaction, or the transaction fails behind it.
pub(super) fn fence(c: &mut dyn Connection, lease: Lease, token: u64) -> Result<bool, SqlError> {
    let sql = "UPDATE lease SET fence = fence + 1 WHERE name = ? AND token = ?";
    Ok(c.execute(sql, &[lease.name().into(), token.into()])? == 1)
}

const CERTIFICATE_REVISION: &str = "certificate_revision";

/// A row of the log, as it is written.
#[derive(Debug)]
pub(crate) struct UploadRow<'a> {
    pub(crate) seq: Seq,
    pub(crate) created_at: UnixMillis,
    pub(crate) country: Country,
    pub(crate) tag: &'a UploadTag,
    pub(crate) key_count: u32,
    pub(crate) format_version: u64,
    pub(crate) uploader: &'a Thumbprint,
    pub(crate) signer: &'a Thumbprint,
    pub(crate) content: &'a ContentDigest,
    pub(crate) batch_signature: &'a str,
    pub(crate) identities: &'a [KeyIdentity],
    pub(crate) sealed: &'a [u8],
}

fn insert_upload(c: &mut dyn Connection, seq: u64, batch: &SealedBatch) -> Result<(), SqlError> {
    let row = UploadRow {
        seq: Seq(seq),
        created_at: batch.created_at,
        country: batch.country,
        tag: &batch.tag,
        key_count: batch.key_count,
        format_version: FORMAT_VERSION,
        uploader: &batch.uploader,
        signer: &batch.signer,
        content: &batch.content,
        batch_signature: &batch.batch_signature,
        identities: &batch.probe.identities,
        sealed: &batch.sealed,
    };
    insert_row(c, &row)
}

pub(super) fn insert_row(c: &mut dyn Connection, row: &UploadRow<'_>) -> Result<(), SqlError> {
    let mut identities = Vec::with_capacity(size_of_val(row.identities));
    for identity in row.identities {
        identities.extend_from_slice(&identity.0);
    }
    let params = [
        row.seq.0.into(),
        row.created_at.0.into(),
        row.country.as_str().into(),
        row.tag.as_str().into(),
        u64::from(row.key_count).into(),
        row.format_version.into(),
        row.uploader.0.as_slice().into(),
        row.signer.0.as_slice().into(),
        row.content.0.as_slice().into(),
        row.batch_signature.into(),
        identities.as_slice().into(),
        row.sealed.into(),
    ];
    match c.execute(INSERT_UPLOAD, &params)? {
        1 => Ok(()),
        _ => Err(SqlError::Lost(
            "the answer to an insert was another's".into(),
        )),
    }
}

pub(super) fn insert_download_batch(
    c: &mut dyn Connection,
    ordinal: u64,
    batch: &NewDownloadBatch,
    now: UnixMillis,
) -> Result<(), SqlError> {
    let sql = "INSERT INTO download_batch (ordinal, day, number, first_seq, last_seq, key_count, \
         created_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let params = [
        ordinal.into(),
        u64::from(batch.tag.day.compact_number()).into(),
        u64::from(batch.tag.number).into(),
        (*batch.seqs.start()).into(),
        (*batch.seqs.end()).into(),
        batch.key_count.into(),
        now.0.into(),
    ];
    c.execute(sql, &params).map(|_| ())
}

pub(super) fn insert_certificate(
    c: &mut dyn Connection,
    row: &CertificateRow,
    now: UnixMillis,
) -> Result<(), SqlError> {
    let sql = "INSERT INTO certificate (thumbprint, kind, country, pem, operator_signature, \
         created_at_ms, revoked_at_ms) VALUES (?, ?, ?, ?, ?, ?, ?)";
    let params = [
        row.thumbprint.0.as_slice().into(),
        row.kind.name().into(),
        row.country.as_str().into(),
        (&*row.pem).into(),
        (&*row.operator_signature).into(),
        now.0.into(),
        row.revoked_at.map_or(Param::Null, |at| at.0.into()),
    ];
    c.execute(sql, &params).map(|_| ())
}

/// Random, and written without reading: two changes at once never leave the revision as it was.
pub(super) fn bump_certificate_revision(c: &mut dyn Connection) -> Result<(), SqlError> {
    let mut random = [0; 8];
    aws_lc_rs::rand::fill(&mut random).expect("the system has randomness");
    let revision = u64::from_be_bytes(random).to_string();
    let set = "UPDATE installation SET value = ? WHERE name = ?";
    let params = [revision.as_str().into(), CERTIFICATE_REVISION.into()];
    if c.execute(set, &params)? == 1 {
        return Ok(());
    }
    let create = "INSERT INTO installation (value, name) VALUES (?, ?)";
    match c.execute(create, &params) {
        Err(SqlError::Duplicate(_)) => c.execute(set, &params).map(|_| ()),
        created => created.map(|_| ()),
    }
}

fn log_entry(mut row: Row) -> LogEntry {
    let identities = row.take_bytes(4);
    LogEntry {
        seq: Seq(row.number(0)),
        country: country(&mut row, 1),
        tag: upload_tag(&mut row, 2),
        content: ContentDigest(row.take_array(3)),
        identities: identities
            .as_chunks()
            .0
            .iter()
            .map(|bytes| KeyIdentity(*bytes))
            .collect(),
        created_at: UnixMillis(row.number(5)),
    }
}

fn upload_meta(mut row: Row) -> UploadMeta {
    UploadMeta {
        seq: Seq(row.number(0)),
        country: country(&mut row, 1),
        key_count: number_32(row.number(2)),
        created_at: UnixMillis(row.number(3)),
    }
}

fn download_batch(row: &Row) -> DownloadBatchRow {
    let day = Day::from_compact_number(number_32(row.number(1)));
    DownloadBatchRow {
        ordinal: row.number(0),
        tag: BatchTag {
            day: day.expect("the cutter writes days of the calendar"),
            number: number_32(row.number(2)),
        },
        seqs: row.number(3)..=row.number(4),
    }
}

pub(super) fn country(row: &mut Row, column: usize) -> Country {
    Country::parse(&row.take_text(column)).expect("the writer writes countries")
}

fn upload_tag(row: &mut Row, column: usize) -> UploadTag {
    UploadTag::parse(&row.take_text(column)).expect("the writer writes upload tags")
}

pub(super) fn number_32(number: u64) -> u32 {
    u32::try_from(number).expect("the writer writes 32 bits")
}
