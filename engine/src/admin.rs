//! What the admin command line does to the database, without a running engine.

mod backup;
mod certificates;
mod keys;
mod recovery;
mod verify;
mod withdrawal;

use std::path::{Path, PathBuf};

use crate::callbacks::{CallbackId, SubscriptionState};
use crate::continuity::check_remembered;
use crate::database::Database;
use crate::domain::{BatchTag, Country, Day, Thumbprint, UnixMillis, UploadTag};
use crate::failure::{DatabaseError, StartError, WrongKey};
use crate::key_ring::missing_keys;
use crate::seal::Keys;
use crate::settings::DatabaseUrl;
use crate::statistics::{SignatureCounts, SignatureUse, Statistics};
use crate::store::{IDENTITY_KEY, Store, known_version, migrate};
use crate::trust::{CertificateRow, TrustAnchorError, TrustAnchors};

pub use backup::{BackedUp, BackupError, back_up};
pub(crate) use certificates::check_certificate;
pub use certificates::{
    AddedCertificate, CertificateError, CheckedCertificate, CheckedList, NewCertificate, RowChange,
    canonical_pem,
};
pub use keys::RetireError;
pub use recovery::{LogPlace, Recovery, RecoveryError, RowOutcome};
pub use verify::{Finding, Progress, Verification, Verified};
pub use withdrawal::{WithdrawError, Withdrawn};

pub use crate::store::{SchemaFault, Withdrawal};

/// An open database for administration.
#[derive(Debug)]
pub struct Admin(Store);

/// What became of a migration.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Migrated {
    /// Schema version found.
    pub from: u32,
    /// Schema version now.
    pub to: u32,
}

/// Why nothing was verified.
#[derive(Debug, thiserror::Error)]
pub enum VerificationError {
    /// A trust anchor cannot be used.
    #[error("[trust_anchor] certificate cannot be used")]
    TrustAnchor(#[from] TrustAnchorError),
    /// With other keys, everything would look wrong.
    #[error(transparent)]
    WrongKey(#[from] WrongKey),
    /// The database failed.
    #[error(transparent)]
    Database(#[from] DatabaseError),
}

impl Admin {
    /// Opens the database without changing its schema.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn open(database: &DatabaseUrl) -> Result<Self, StartError> {
        let (store, found) = open_set_up(database)?;
        let known = known_version();
        if found > known {
            return Err(StartError::NewerSchema { found, known });
        }
        if found < known {
            return Err(StartError::Unsuitable(format!(
                "the database has schema version {found}, this program needs {known}: run efgs db migrate"
            )));
        }
        Ok(Self(store))
    }

    /// Brings the schema up to date.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn migrate(database: &DatabaseUrl) -> Result<Migrated, StartError> {
        let from = migrate(&Database::new(database.clone()))?;
        Ok(Migrated {
            from,
            to: known_version(),
        })
    }

    /// The schema version of a database, and the newest that this program knows.
    ///
    /// # Errors
    /// [`StartError`].
    pub fn schema_version(database: &DatabaseUrl) -> Result<(u32, u32), StartError> {
        let (_, found) = open_set_up(database)?;
        Ok((found, known_version()))
    }

    /// Checks a certificate as [`Self::add_certificate`] does, without listing it.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn check_certificate(
        trust_anchor_pem: &str,
        new: &NewCertificate<'_>,
    ) -> Result<Thumbprint, CertificateError> {
        certificates::check_new(trust_anchor_pem, new)
    }

    /// Lists a certificate, after checking its form and the trust anchor's signature over its PEM. One
    /// that was revoked is listed again.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn add_certificate(
        &mut self,
        keys: &Keys,
        trust_anchor_pem: &str,
        new: &NewCertificate<'_>,
    ) -> Result<AddedCertificate, CertificateError> {
        certificates::add(&mut self.0, keys, trust_anchor_pem, new, false)
    }

    /// The same, and a certificate that is listed already takes this signature in place of its own: after
    /// a change of the trust anchor.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn replace_certificate(
        &mut self,
        keys: &Keys,
        trust_anchor_pem: &str,
        new: &NewCertificate<'_>,
    ) -> Result<AddedCertificate, CertificateError> {
        certificates::add(&mut self.0, keys, trust_anchor_pem, new, true)
    }

    /// Puts another signature of a trust anchor in place of that of a listed certificate, which stays
    /// revoked if it is.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn resign_certificate(
        &mut self,
        keys: &Keys,
        trust_anchor_pem: &str,
        new: &NewCertificate<'_>,
    ) -> Result<(), CertificateError> {
        certificates::resign(&mut self.0, keys, trust_anchor_pem, new)
    }

    /// Revokes every row with this thumbprint; revoking twice is no error.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn revoke_certificate(
        &mut self,
        keys: &Keys,
        thumbprint: &Thumbprint,
    ) -> Result<(), CertificateError> {
        certificates::revoke(&mut self.0, keys, thumbprint)
    }

    /// Marks a sealing key as one that no gateway needs any more: nothing stored is sealed with it,
    /// and it neither seals nor stands by.
    ///
    /// # Errors
    /// [`RetireError`]; then nothing has changed.
    pub fn retire_sealing_key(&mut self, keys: &Keys, id: u32) -> Result<(), RetireError> {
        keys::retire(&mut self.0, keys, id)
    }

    /// Refuses a database that lacks what a state file remembers, as the start of a gateway does.
    ///
    /// # Errors
    /// [`StartError`], with what to do.
    pub fn check_state_file(&mut self, state_file: &Path) -> Result<(), StartError> {
        check_remembered(state_file, &mut self.0)
    }

    /// Ids of the sealing keys that the installation has and these keys lack, ascending.
    ///
    /// # Errors
    /// [`DatabaseError`].
    pub fn missing_sealing_keys(&mut self, keys: &Keys) -> Result<Vec<u32>, DatabaseError> {
        missing_keys(keys, &mut self.0).map_err(|error| error.doing("reading the sealing keys"))
    }

    /// All rows, ordered by country and kind.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn certificates(&mut self) -> Result<Vec<CertificateRow>, CertificateError> {
        Ok(self
            .0
            .certificates()
            .map_err(|error| error.doing("reading the certificate list"))?)
    }

    /// What was counted on days from `from` to `to`, both included, in UTC.
    ///
    /// # Errors
    /// When the database fails.
    pub fn statistics(&mut self, from: Day, to: Day) -> Result<Statistics, DatabaseError> {
        let statistics = self.0.statistics(from, to);
        statistics.map_err(|error| error.doing("reading the statistics"))
    }

    /// How the uploads of these days were signed, in the order of countries; only of those that the
    /// log still has, and that had keys.
    ///
    /// # Errors
    /// When the database fails.
    pub fn signatures(&mut self, from: Day, to: Day) -> Result<Vec<SignatureUse>, DatabaseError> {
        let mut counts = SignatureCounts::default();
        let mut count = |country, signature: &str, keys| counts.count(country, signature, keys);
        let read = self.0.read_signatures(from, to, &mut count);
        read.map_err(|error| error.doing("reading the batch signatures"))?;
        Ok(counts.into_uses())
    }

    /// All callback subscriptions, in the order of country and id, and what each is to be notified of
    /// what can be downloaded `today`, where download batches of `max_age_days` before it can.
    ///
    /// # Errors
    /// When the database fails.
    pub fn subscriptions(
        &mut self,
        today: Day,
        max_age_days: u32,
    ) -> Result<Vec<SubscriptionState>, DatabaseError> {
        let oldest = today.minus_days(max_age_days);
        let states = self.0.subscription_states(oldest);
        states.map_err(|error| error.doing("reading the callback subscriptions"))
    }

    /// Enables a callback subscription, which continues where it was as far as that can still be
    /// downloaded; returns whether there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn enable_subscription(
        &mut self,
        country: Country,
        callback_id: &CallbackId,
    ) -> Result<bool, DatabaseError> {
        let found = self.0.enable_subscription(country, callback_id);
        found.map_err(|error| error.doing("enabling a callback subscription"))
    }

    /// Disables a callback subscription until it is enabled, or PUT by its participant, for whom
    /// it is not there any more; returns whether there is one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn disable_subscription(
        &mut self,
        country: Country,
        callback_id: &CallbackId,
    ) -> Result<bool, DatabaseError> {
        let found = self.0.disable_subscription(country, callback_id);
        found.map_err(|error| error.doing("disabling a callback subscription"))
    }

    /// Removes a callback subscription; returns whether there was one.
    ///
    /// # Errors
    /// When the database fails.
    pub fn remove_subscription(
        &mut self,
        country: Country,
        callback_id: &CallbackId,
    ) -> Result<bool, DatabaseError> {
        let found = self.0.unsubscribe(country, callback_id);
        let found = found.map_err(|error| error.doing("removing a callback subscription"))?;
        Ok(found.is_some())
    }

    /// The database's own clock.
    ///
    /// # Errors
    /// When the database fails.
    pub fn database_now(&mut self) -> Result<UnixMillis, DatabaseError> {
        let now = self.0.now();
        now.map_err(|error| error.doing("asking the database for the time"))
    }

    /// Why the database server may lose commits that it has confirmed, if it may.
    ///
    /// # Errors
    /// When the database fails.
    pub fn flushing_risk(&mut self) -> Result<Option<&'static str>, DatabaseError> {
        let risk = self.0.flushing_risk();
        risk.map_err(|error| error.doing("asking the database for its settings"))
    }

    /// The database's own day.
    ///
    /// # Errors
    /// When the database fails.
    pub fn database_day(&mut self) -> Result<Day, DatabaseError> {
        let now = self.0.now();
        let now = now.map_err(|error| error.doing("asking the database for the time"))?;
        Ok(now.day())
    }

    /// Sets the day that the installation acts on, which all gateways take over within a second;
    /// returns the day before, if one was known. With `accept_batches`, download batches of later days
    /// are taken for named by a clock that was wrong, not for changed.
    ///
    /// # Errors
    /// When the database fails.
    pub fn confirm_day(
        &mut self,
        day: Day,
        accept_batches: bool,
    ) -> Result<Option<Day>, DatabaseError> {
        let before = self.0.confirm_day(day, accept_batches);
        before.map_err(|error| error.doing("confirming the day"))
    }

    /// What a new epoch would be, by the state files of all gateways and, where there are none, the
    /// tag up to which numbers were given out. Only reads.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn plan_recovery(
        &mut self,
        state_files: &[PathBuf],
        skip_to: Option<BatchTag>,
    ) -> Result<Recovery, RecoveryError> {
        recovery::plan_recovery(&mut self.0, state_files, skip_to)
    }

    /// Begins an epoch as planned: gateways of the one before stop, and numbers that may have been
    /// given out are skipped.
    ///
    /// # Errors
    /// [`RecoveryError`].
    pub fn begin_epoch(&mut self, recovery: &Recovery) -> Result<(), RecoveryError> {
        recovery::begin_epoch(&mut self.0, recovery)
    }

    /// What is in the database that the migrations have not made, or is otherwise than they made it:
    /// a gateway does not start on it.
    ///
    /// # Errors
    /// When the database fails.
    pub fn check_schema(&mut self) -> Result<Vec<SchemaFault>, DatabaseError> {
        let faults = self.0.check_schema();
        faults.map_err(|error| error.doing("comparing the schema"))
    }

    /// Withdraws the upload that stands under a tag: all gateways leave its keys out of downloads,
    /// audits and later download batches within two seconds. With `free`, its keys and its tag can
    /// be sent again.
    ///
    /// # Errors
    /// [`WithdrawError`].
    pub fn withdraw(
        &mut self,
        keys: &Keys,
        upload: (Country, &UploadTag),
        reason: &str,
        free: bool,
    ) -> Result<Withdrawn, WithdrawError> {
        if !self.knows(keys)? {
            return Err(WrongKey(IDENTITY_KEY.to_owned()).into());
        }
        withdrawal::withdraw(&mut self.0, keys, upload, reason, free)
    }

    /// What was withdrawn on days from `from` to `to`, both included, in UTC.
    ///
    /// # Errors
    /// When the database fails.
    pub fn withdrawals(&mut self, from: Day, to: Day) -> Result<Vec<Withdrawal>, DatabaseError> {
        withdrawal::withdrawals(&mut self.0, from, to)
    }

    /// Verifies that the database holds what gateways have stored, while they run. Memory is
    /// bounded by some rows.
    ///
    /// # Errors
    /// When a trust anchor cannot be used, the keys are not the installation's, or the database
    /// fails.
    pub fn verify(
        &mut self,
        verification: &Verification<'_>,
        on_progress: &mut dyn FnMut(Progress),
        on_finding: &mut dyn FnMut(&Finding),
    ) -> Result<Verified, VerificationError> {
        let anchors = TrustAnchors::from_pem(verification.trust_anchor_pem)?;
        if !self.knows(verification.keys)? {
            return Err(WrongKey(IDENTITY_KEY.to_owned()).into());
        }
        let mut listener = verify::Listener {
            on_progress,
            on_finding,
        };
        Ok(verify::verify_database(
            &mut self.0,
            verification,
            &anchors,
            &mut listener,
        )?)
    }

    /// Whether these are the keys that the database was set up with.
    fn knows(&mut self, keys: &Keys) -> Result<bool, DatabaseError> {
        let known = self.0.installation_value(IDENTITY_KEY);
        let known = known.map_err(|error| error.doing("reading the check value of the keys"))?;
        Ok(known.is_none_or(|known| known == keys.identity_check()))
    }

    /// Accepts a finding exactly as it is, so that gateways start with it; what is changed after
    /// that is found again.
    ///
    /// # Errors
    /// When the database fails.
    pub fn accept(&mut self, finding: &Finding) -> Result<(), DatabaseError> {
        verify::accept(&mut self.0, finding)
    }

    /// The certificate list, each row checked against the trust anchor, all against the digests
    /// under the installation's key.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn check_certificates(
        &mut self,
        keys: &Keys,
        trust_anchor_pem: &str,
    ) -> Result<CheckedList, CertificateError> {
        certificates::check_list(&mut self.0, keys, trust_anchor_pem)
    }

    /// Puts the certificate list under digests as it is, if it is still the one that was shown:
    /// gateways believe it from then on.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn accept_certificates(
        &mut self,
        keys: &Keys,
        shown: &CheckedList,
    ) -> Result<(), CertificateError> {
        certificates::accept(&mut self.0, keys, shown)
    }
}

/// Signs a PEM with the trust anchor's private key (PKCS#8 PEM), as `efgs cert add
/// --trust-anchor-key` and `efgs init` do. Returns base64.
///
/// # Errors
/// When the key is no RSA or P-256 private key.
pub fn sign_with_trust_anchor(key_pem: &str, pem: &str) -> Result<String, StartError> {
    crate::trust::sign(key_pem, pem).map_err(|error| StartError::Setting(error.to_string()))
}
/// Opens a database that has been set up; returns its schema version, too.
fn open_set_up(url: &DatabaseUrl) -> Result<(Store, u32), StartError> {
    let never = || StartError::NeverSetUp {
        database: url.to_string(),
    };
    // Opening it would create it.
    if let DatabaseUrl::Sqlite(path) = url
        && !path.exists()
    {
        return Err(never());
    }
    let database = Database::new(url.clone());
    let unreachable = |error| database.unreachable(error);
    let mut store = Store::open_for_long_statements(&database).map_err(unreachable)?;
    match store.schema_version().map_err(unreachable)? {
        0 => Err(never()),
        found => Ok((store, found)),
    }
}
