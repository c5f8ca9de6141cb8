//! Whether the database holds what gateways have stored: each row of the log and each download
//! batch, while gateways run.

use std::fmt;

use crate::database::SqlError;
use crate::decode::decode;
use crate::domain::{Day, Seq, Thumbprint};
use crate::failure::DatabaseError;
use crate::limits;
use crate::log_chain::{
    Accepted, BatchUploads, BatchWalk, LogWalk, WithdrawalMark, WithdrawalWalk,
};
use crate::seal::Keys;
use crate::store::{Forgotten, Store, WholeRow};
use crate::trust::{Trust, TrustAnchors};
use crate::validate::validate_at_any_age;
use crate::verify::{
    Exceptions, SignatureError, VerifyContext, VerifyError, signed_content, verify,
};

/// What is to be verified, and with what.
#[derive(Debug)]
pub struct Verification<'a> {
    /// The keys of the installation.
    pub keys: &'a Keys,
    /// The trust anchors' certificates, as configured.
    pub trust_anchor_pem: &'a str,
    /// Only what was stored and cut since a day.
    pub since: Option<Day>,
}

/// Something that is not as a gateway has stored it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// The row, for people.
    pub place: String,
    /// What is wrong with it.
    pub fault: String,
    /// Stands for it where a gateway would not start with it.
    acceptance: Option<[u8; 32]>,
}

impl Finding {
    /// Whether a gateway refuses to work with it until an operator accepts it.
    #[must_use]
    pub const fn stops_gateways(&self) -> bool {
        self.acceptance.is_some()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.place, self.fault)
    }
}

/// What was verified.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Verified {
    /// Rows of the log.
    pub uploads: u64,
    /// Their keys.
    pub keys: u64,
    /// Uploads whose key data retention has deleted.
    pub emptied: u64,
    /// Uploads from before the chain, which nothing vouches for but their seal and their signature.
    pub unchained: u64,
    /// Uploads whose batch signature could not be checked: its certificate is not listed any more,
    /// or it covers an upload of which this is a part, imported with two download batches.
    pub signatures_unchecked: u64,
    /// Download batches.
    pub download_batches: u64,
    /// What was found.
    pub findings: u64,
}

/// How far it is: of positions of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Positions verified.
    pub done: u64,
    /// Positions to be verified.
    pub total: u64,
}

/// Who is notified.
pub(super) struct Listener<'a> {
    pub(super) on_progress: &'a mut dyn FnMut(Progress),
    pub(super) on_finding: &'a mut dyn FnMut(&Finding),
}

/// Verifies all rows, or those since a day.
pub(super) fn verify_database<'a>(
    store: &'a mut Store,
    verification: &Verification<'a>,
    anchors: &TrustAnchors,
    listener: &'a mut Listener<'_>,
) -> Result<Verified, DatabaseError> {
    let run = Run::begin(store, verification, anchors, listener);
    let verified = run.and_then(|mut run| {
        run.verify_log()?;
        run.verify_download_batches()?;
        run.verify_withdrawals()?;
        Ok(run.verified)
    });
    verified.map_err(|error| error.doing("verifying the database"))
}

/// Accepts a finding as it is, so that gateways work with it.
pub(super) fn accept(store: &mut Store, finding: &Finding) -> Result<(), DatabaseError> {
    let accepted = finding.acceptance.as_ref().map(|of| store.accept(of));
    accepted
        .unwrap_or(Ok(()))
        .map_err(|error| error.doing("accepting what does not fit"))
}

struct Run<'a, 'l> {
    store: &'a mut Store,
    keys: &'a Keys,
    since: Option<Day>,
    trust: Trust,
    accepted: Accepted,
    forgotten: Forgotten,
    listener: &'a mut Listener<'l>,
    verified: Verified,
}

impl<'a, 'l> Run<'a, 'l> {
    fn begin(
        store: &'a mut Store,
        verification: &Verification<'a>,
        anchors: &TrustAnchors,
        listener: &'a mut Listener<'l>,
    ) -> Result<Self, SqlError> {
        // A certificate that was revoked since was good when the upload was taken.
        let mut rows = store.certificates()?;
        rows.iter_mut().for_each(|row| row.revoked_at = None);
        let keys = verification.keys;
        Ok(Self {
            trust: Trust::load(rows, anchors, None),
            accepted: store.accepted()?,
            forgotten: store.forgotten(keys.chain())?,
            store,
            keys,
            since: verification.since,
            listener,
            verified: Verified::default(),
        })
    }

    fn verify_log(&mut self) -> Result<(), SqlError> {
        let through = self.store.log_end()?;
        let first = match self.since {
            Some(day) => self.store.first_since(day)?,
            None => self.store.first_seq()?,
        };
        let Some(first) = first else {
            return Ok(());
        };
        let mut walk = self.walk_from(first)?;
        let mut after = Seq(first.0.saturating_sub(1));
        while let Some(rows) = self.next_rows(&mut after, through, &mut walk)? {
            for row in &rows {
                self.verify_row(row, &mut walk)?;
            }
            (self.listener.on_progress)(Progress {
                done: after.0 + 1 - first.0,
                total: through.0 + 1 - first.0,
            });
        }
        Ok(())
    }

    /// A walk that checks the row at a position next.
    fn walk_from(&mut self, seq: Seq) -> Result<LogWalk, SqlError> {
        let last = self.store.link_before(seq, self.keys.chain())?;
        let walk = LogWalk::after(self.keys.chain(), &self.accepted, last);
        Ok(walk.with_forgotten_to(self.forgotten.to))
    }

    /// The next rows; a row that cannot be read is a finding, and passed over.
    fn next_rows(
        &mut self,
        after: &mut Seq,
        through: Seq,
        walk: &mut LogWalk,
    ) -> Result<Option<Vec<WholeRow>>, SqlError> {
        for rows_max in [limits::VERIFY_ROWS, 1] {
            match self.store.read_whole_rows(*after, through, rows_max) {
                Ok(rows) => {
                    *after = rows.last().map_or(*after, |row| row.entry.seq);
                    return Ok((!rows.is_empty()).then_some(rows));
                }
                Err(SqlError::Refused(_)) if rows_max > 1 => {}
                Err(SqlError::Refused(unreadable)) => {
                    let next = self.store.next_seq(*after)?;
                    let seq = next.unwrap_or(through);
                    self.find(format!("the row at position {}", seq.0), unreadable, None);
                    *after = seq;
                    // What follows is compared with what can be read of it.
                    if let Ok(behind) = self.walk_from(seq.next()) {
                        *walk = behind;
                    }
                }
                Err(error) => return Err(error),
            }
        }
        Ok(Some(Vec::new()))
    }

    fn verify_row(&mut self, row: &WholeRow, walk: &mut LogWalk) -> Result<(), SqlError> {
        let entry = &row.entry;
        self.verified.uploads += 1;
        self.verified.keys += u64::from(entry.key_count);
        self.verified.unchained += u64::from(entry.link.is_none());
        let place = || entry.mark().place();
        if let Some((fault, acceptance)) = self.step(row, walk)? {
            self.find(place(), fault, Some(acceptance));
        }
        if entry.identities.len() != entry.key_count as usize {
            let (found, keys) = (entry.identities.len(), entry.key_count);
            self.find(
                place(),
                format!("has {found} identities for {keys} keys"),
                None,
            );
        }
        if row.sealed.is_empty() {
            return self.verify_emptied(row);
        }
        if let Some(fault) = self.verify_keys(row)? {
            self.find(place(), fault, None);
        }
        Ok(())
    }

    /// What is wrong with the row's place in the chain, and the digest that accepts it. Retention may
    /// have deleted rows before it meanwhile.
    fn step(
        &mut self,
        row: &WholeRow,
        walk: &mut LogWalk,
    ) -> Result<Option<(String, [u8; 32])>, SqlError> {
        let entry = &row.entry;
        let step = |walk: &mut LogWalk| walk.step(entry.seq, &entry.columns(), entry.link.as_ref());
        let Err(mut broken) = step(walk) else {
            return Ok(None);
        };
        let forgotten = self.store.forgotten(self.keys.chain())?;
        if forgotten != self.forgotten {
            self.forgotten = forgotten;
            *walk = self.walk_from(entry.seq)?;
            match step(walk) {
                Ok(()) => return Ok(None),
                Err(still) => broken = still,
            }
        }
        Ok(Some((broken.mismatch.to_string(), broken.acceptance)))
    }

    fn verify_emptied(&mut self, row: &WholeRow) -> Result<(), SqlError> {
        self.verified.emptied += 1;
        if self.store.emptied_to()? < row.entry.seq {
            let place = row.entry.mark().place();
            self.find(place, "has lost its sealed keys", None);
        }
        Ok(())
    }

    /// What is wrong with the keys: they have to open, to be as many as the row says, those that were
    /// signed and those that the set knows, and the batch signature has to hold.
    fn verify_keys(&mut self, row: &WholeRow) -> Result<Option<String>, SqlError> {
        let entry = &row.entry;
        let context = row.sealed_row().seal_context();
        let segment = match self.keys.unseal(row.sealed.clone(), &context) {
            Ok(segment) => segment,
            Err(error) => return Ok(Some(format!("has sealed keys that do not open: {error}"))),
        };
        let Ok(decoded) = decode(&segment, limits::UPLOAD_KEYS_MAX.max(entry.key_count)) else {
            return Ok(Some("has sealed keys that cannot be decoded".to_owned()));
        };
        if decoded.key_count() != entry.key_count {
            let (found, keys) = (decoded.key_count(), entry.key_count);
            return Ok(Some(format!("has {found} sealed keys and says {keys}")));
        }
        let valid = match validate_at_any_age(decoded) {
            Ok(valid) => valid,
            Err(broken) => return Ok(Some(format!("has a key that breaks a rule: {broken}"))),
        };
        let content = signed_content(&valid);
        if *content.digest() != entry.content {
            let fault = "has sealed keys that are not those of its content digest";
            return Ok(Some(fault.to_owned()));
        }
        let canonical = content.canonical();
        let texts = (0..canonical.key_count()).map(|at| canonical.key(at));
        let identities = texts.map(|text| self.keys.identify(text));
        if !identities.eq(entry.identities.iter().copied()) {
            let fault = "has identities that are not those of its keys";
            return Ok(Some(fault.to_owned()));
        }
        let verdict = verify(
            valid,
            &content,
            &VerifyContext {
                country: entry.country,
                batch_signature: &entry.batch_signature,
                // Whatever was allowed when it was taken.
                exceptions: Exceptions {
                    sha1: true,
                    pss: true,
                },
                trust: &self.trust,
                now: entry.created_at,
            },
        );
        let signer = verdict.map(|verified| verified.signer());
        self.check_signature_of(row, signer)
    }

    fn check_signature_of(
        &mut self,
        row: &WholeRow,
        signer: Result<Thumbprint, VerifyError>,
    ) -> Result<Option<String>, SqlError> {
        let error = match signer {
            Ok(signer) if signer == row.entry.signer => return Ok(None),
            Ok(_) => return Ok(Some("was signed with another certificate".to_owned())),
            Err(error) => error,
        };
        let is_unchecked = match error {
            VerifyError::Signature(SignatureError::UnknownCertificate(_)) => true,
            VerifyError::Signature(SignatureError::DigestMismatch | SignatureError::Wrong) => {
                let entry = &row.entry;
                let signature = &entry.batch_signature;
                self.store
                    .has_other_part(entry.seq, entry.country, signature)?
            }
            _ => false,
        };
        if is_unchecked {
            self.verified.signatures_unchecked += 1;
            return Ok(None);
        }
        Ok(Some(format!(
            "has a batch signature that does not hold: {error}"
        )))
    }

    fn verify_download_batches(&mut self) -> Result<(), SqlError> {
        let chain = self.keys.chain();
        let from = self.since;
        let before = match from {
            Some(day) => self.store.last_download_batch_before(day)?,
            None => None,
        };
        let mut after = before.as_ref().map_or(0, |batch| batch.columns.ordinal);
        let known = before
            .as_ref()
            .map(|batch| (&batch.columns, batch.digest.as_ref()));
        let mut walk = BatchWalk::after(chain, &self.accepted, known);
        let mut is_first = before.is_none();
        loop {
            let page = self
                .store
                .download_batch_page(after, limits::VERIFY_BATCHES)?;
            let Some(last) = page.last() else {
                return Ok(());
            };
            after = last.columns.ordinal;
            for row in &page {
                let uploads = self.store.uploads_of(&row.columns.seqs)?;
                // What was deleted until now may have been there above.
                let forgotten_to = self.store.forgotten(chain)?.to.0;
                let seqs = &row.columns.seqs;
                let uploads = (*seqs.end() > forgotten_to).then(|| BatchUploads {
                    key_count: uploads.key_count.filter(|_| *seqs.start() > forgotten_to),
                    last: uploads.last,
                });
                let begins_by = (is_first && row.digest.is_some()).then_some(forgotten_to + 1);
                walk = walk.beginning_at(begins_by);
                is_first = false;
                self.verified.download_batches += 1;
                let step = walk.step(&row.columns, row.digest.as_ref(), uploads.as_ref());
                if let Err(broken) = step {
                    self.find(row.to_string(), broken.mismatch, Some(broken.acceptance));
                }
            }
        }
    }

    /// All of them, whenever they were written: each stands for those before it.
    fn verify_withdrawals(&mut self) -> Result<(), SqlError> {
        let chain = self.keys.chain();
        let walk = WithdrawalWalk::after(chain, &self.accepted, WithdrawalMark::default());
        for fault in self.store.withdrawal_list()?.faults(walk) {
            self.find(fault.place, fault.mismatch, fault.acceptance);
        }
        Ok(())
    }

    fn find(&mut self, place: String, fault: impl fmt::Display, acceptance: Option<[u8; 32]>) {
        self.verified.findings += 1;
        (self.listener.on_finding)(&Finding {
            place,
            fault: fault.to_string(),
            acceptance,
        });
    }
}
