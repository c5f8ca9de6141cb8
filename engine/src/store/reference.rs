//! The reference's database (release 1.1.3), as far as an import reads it. Nothing is written.
//!
//! Nothing is null here: what is null there is empty.

use std::collections::HashSet;

use crate::database::{BadColumn, Connection, Database, Param, Row, SqlError, Timeouts};
use crate::domain::UnixMillis;

/// An open connection to a reference database.
#[derive(Debug)]
pub(crate) struct Reference(Box<dyn Connection>);

/// A row of `certificate`.
#[derive(Debug)]
pub(crate) struct ReferenceCertificate {
    pub(crate) thumbprint: String,
    pub(crate) country: String,
    pub(crate) kind: String,
    pub(crate) revoked: bool,
    pub(crate) signature: String,
    pub(crate) pem: String,
}

/// A row of `callback_subscription`.
#[derive(Debug)]
pub(crate) struct ReferenceSubscription {
    pub(crate) id: u64,
    pub(crate) created_at: UnixMillis,
    pub(crate) country: String,
    pub(crate) callback_id: String,
    pub(crate) url: String,
}

/// A row of `diagnosiskeybatch`.
#[derive(Debug)]
pub(crate) struct ReferenceBatch {
    pub(crate) name: String,
    pub(crate) link: String,
    pub(crate) created_at: UnixMillis,
}

/// Keys of a reference that belong together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeysOf<'a> {
    /// Those of a download batch.
    Batch(&'a str),
    /// Those without download batch.
    Waiting,
    /// All.
    All,
}

/// What makes keys those of one upload.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct UploadName {
    /// In capitals.
    pub(crate) country: String,
    pub(crate) tag: String,
    /// Tells signatures apart: SHA-1 of the column, which may have 8000 characters.
    pub(crate) signature_digest: String,
}

/// Where keys of an upload lie.
#[derive(Debug)]
pub(crate) struct UploadPlace {
    pub(crate) name: UploadName,
    pub(crate) first_id: u64,
    pub(crate) last_id: u64,
    pub(crate) key_count: u64,
}

/// A row of `diagnosiskey`, without what it shares with the other keys of its upload.
#[derive(Debug)]
pub(crate) struct ReferenceKey {
    pub(crate) id: u64,
    pub(crate) created_at: UnixMillis,
    pub(crate) payload_hash: String,
    /// Encrypted columns, in the order of [`PAYLOAD`].
    pub(crate) payload: [String; 8],
}

/// What all keys of an upload share.
#[derive(Debug)]
pub(crate) struct ReferenceUpload {
    pub(crate) batch_signature: String,
    pub(crate) uploader: String,
    pub(crate) format_major: u64,
    pub(crate) format_minor: u64,
}

impl ReferenceUpload {
    /// As the log has it.
    pub(crate) const fn format_version(&self) -> u64 {
        self.format_major * 256 + self.format_minor
    }
}

/// The encrypted columns.
pub(crate) const PAYLOAD: [&str; 8] = [
    "payload_key_data",
    "payload_rolling_start_interval_number",
    "payload_rolling_period",
    "payload_transmission_risk_level",
    "payload_visited_countries",
    "payload_origin",
    "payload_report_type",
    "payload_days_since_onset_of_symptoms",
];

/// Sessions have UTC as their time zone, as all times there have.
const CREATED_AT_MS: &str = "CAST(UNIX_TIMESTAMP(created_at) * 1000 AS UNSIGNED)";

/// Compared octet by octet, which the columns are not.
const COUNTRY: &str = "CAST(UPPER(COALESCE(uploader_information_country, '')) AS BINARY)";
const TAG: &str = "CAST(COALESCE(uploader_information_batch_tag, '') AS BINARY)";
const SIGNATURE_DIGEST: &str =
    "CAST(SHA1(COALESCE(uploader_information_batch_signature, '')) AS BINARY)";

impl Reference {
    /// Opens a connection to a reference database.
    pub(crate) fn open(database: &Database) -> Result<Self, SqlError> {
        Ok(Self(database.connect(Timeouts::Long)?))
    }

    /// Every row of the certificate list, in order of arrival.
    pub(crate) fn certificates(&mut self) -> Result<Vec<ReferenceCertificate>, SqlError> {
        let sql = "SELECT thumbprint, country, type, CASE WHEN revoked = 1 THEN 1 ELSE 0 END, \
             COALESCE(signature, ''), COALESCE(raw_data, '') FROM certificate ORDER BY id";
        self.0.rows(sql, &[], |row| {
            Ok(ReferenceCertificate {
                thumbprint: row.text(0)?.to_owned(),
                country: row.text(1)?.to_owned(),
                kind: row.text(2)?.to_owned(),
                revoked: row.number(3)? == 1,
                signature: row.text(4)?.to_owned(),
                pem: row.text(5)?.to_owned(),
            })
        })
    }

    /// Every callback subscription, in order of arrival.
    pub(crate) fn subscriptions(&mut self) -> Result<Vec<ReferenceSubscription>, SqlError> {
        let sql = format!(
            "SELECT id, {CREATED_AT_MS}, COALESCE(country, ''), COALESCE(callback_id, ''), \
             COALESCE(url, '') FROM callback_subscription ORDER BY id"
        );
        self.0.rows(&sql, &[], |row| {
            Ok(ReferenceSubscription {
                id: row.number(0)?,
                created_at: UnixMillis(row.number(1)?),
                country: row.text(2)?.to_owned(),
                callback_id: row.text(3)?.to_owned(),
                url: row.text(4)?.to_owned(),
            })
        })
    }

    /// Callbacks that are still to be delivered: the subscription and the download batch's name.
    pub(crate) fn waiting_callbacks(&mut self) -> Result<Vec<(u64, String)>, SqlError> {
        let sql = "SELECT callback_task.subscription_id, diagnosiskeybatch.batchname \
             FROM callback_task JOIN diagnosiskeybatch \
             ON diagnosiskeybatch.id = callback_task.batch_id";
        self.0.rows(sql, &[], |row| {
            Ok((row.number(0)?, row.text(1)?.to_owned()))
        })
    }

    /// Every download batch, in order of arrival.
    pub(crate) fn batches(&mut self) -> Result<Vec<ReferenceBatch>, SqlError> {
        let sql = format!(
            "SELECT batchname, COALESCE(batchlink, ''), {CREATED_AT_MS} \
             FROM diagnosiskeybatch ORDER BY id"
        );
        self.0.rows(&sql, &[], |row| {
            Ok(ReferenceBatch {
                name: row.text(0)?.to_owned(),
                link: row.text(1)?.to_owned(),
                created_at: UnixMillis(row.number(2)?),
            })
        })
    }

    /// Names of the download batches that have keys.
    pub(crate) fn batches_with_keys(&mut self) -> Result<HashSet<String>, SqlError> {
        let sql = "SELECT DISTINCT batch_tag FROM diagnosiskey WHERE batch_tag IS NOT NULL";
        let names = self.0.rows(sql, &[], |row| Ok(row.text(0)?.to_owned()))?;
        Ok(names.into_iter().collect())
    }

    /// The uploads that keys belong to, in the order of each one's first key.
    pub(crate) fn uploads(&mut self, of: KeysOf<'_>) -> Result<Vec<UploadPlace>, SqlError> {
        let (condition, params) = of.condition();
        let sql = format!(
            "SELECT {COUNTRY} AS country, {TAG} AS tag, {SIGNATURE_DIGEST} AS signature_digest, \
             MIN(id), MAX(id), COUNT(*) FROM diagnosiskey WHERE {condition} \
             GROUP BY country, tag, signature_digest ORDER BY MIN(id)"
        );
        self.0.rows(&sql, &params, |row| {
            Ok(UploadPlace {
                name: upload_name(&row)?,
                first_id: row.number(3)?,
                last_id: row.number(4)?,
                key_count: row.number(5)?,
            })
        })
    }

    /// The keys of an upload, in order of arrival; nothing if there are more than `keys_max`.
    pub(crate) fn keys(
        &mut self,
        of: KeysOf<'_>,
        name: &UploadName,
        keys_max: usize,
    ) -> Result<Option<Vec<ReferenceKey>>, SqlError> {
        let payload = PAYLOAD
            .map(|column| format!("COALESCE({column}, '')"))
            .join(", ");
        let (filter, mut params) = of.filter();
        // A comparison of text finds tags in other letter case, too.
        let sql = format!(
            "SELECT {COUNTRY}, {TAG}, {SIGNATURE_DIGEST}, id, {CREATED_AT_MS}, \
             COALESCE(payload_hash, ''), {payload} FROM diagnosiskey \
             WHERE {filter} AND {} ORDER BY id",
            match name.tag.as_str() {
                "" =>
                    "(uploader_information_batch_tag IS NULL OR uploader_information_batch_tag = ?)",
                _ => "uploader_information_batch_tag = ?",
            }
        );
        params.push(name.tag.as_str().into());
        let (mut keys, mut too_many) = (Vec::new(), false);
        self.0.query(&sql, &params, &mut |row| {
            if upload_name(&row)? != *name {
                return Ok(());
            }
            too_many |= keys.len() == keys_max;
            if !too_many {
                keys.push(key(&row)?);
            }
            Ok(())
        })?;
        Ok((!too_many).then_some(keys))
    }

    /// What the keys of an upload share, by one of them.
    pub(crate) fn upload_of_key(&mut self, id: u64) -> Result<Option<ReferenceUpload>, SqlError> {
        let sql = "SELECT COALESCE(uploader_information_batch_signature, ''), \
             COALESCE(uploader_information_thumbprint, ''), \
             COALESCE(format_major_version, 1), COALESCE(format_minor_version, 0) \
             FROM diagnosiskey WHERE id = ?";
        let row = self.0.first(sql, &[id.into()])?;
        let Some(row) = row else {
            return Ok(None);
        };
        Ok(Some(ReferenceUpload {
            batch_signature: row.text(0)?.to_owned(),
            uploader: row.text(1)?.to_owned(),
            format_major: row.number(2)?,
            format_minor: row.number(3)?,
        }))
    }
}

impl<'a> KeysOf<'a> {
    /// To find all of these keys.
    fn condition(self) -> (&'static str, Vec<Param<'a>>) {
        match self {
            Self::Batch(name) => ("batch_tag = ?", vec![name.into()]),
            Self::Waiting => ("batch_tag IS NULL", Vec::new()),
            Self::All => ("TRUE", Vec::new()),
        }
    }

    /// To find those of one upload among them: an expression, so that the server finds them by their
    /// upload tag, not among all keys of a large download batch again and again.
    fn filter(self) -> (&'static str, Vec<Param<'a>>) {
        match self {
            Self::Batch(name) => ("CONCAT(batch_tag, '') = ?", vec![name.into()]),
            Self::Waiting => ("CONCAT(batch_tag, '') IS NULL", Vec::new()),
            Self::All => ("TRUE", Vec::new()),
        }
    }
}

fn upload_name(row: &Row) -> Result<UploadName, BadColumn> {
    Ok(UploadName {
        country: row.text(0)?.to_owned(),
        tag: row.text(1)?.to_owned(),
        signature_digest: row.text(2)?.to_owned(),
    })
}

fn key(row: &Row) -> Result<ReferenceKey, BadColumn> {
    let mut payload: [String; 8] = Default::default();
    for (at, column) in payload.iter_mut().enumerate() {
        *column = row.text(6 + at)?.to_owned();
    }
    Ok(ReferenceKey {
        id: row.number(3)?,
        created_at: UnixMillis(row.number(4)?),
        payload_hash: row.text(5)?.to_owned(),
        payload,
    })
}
