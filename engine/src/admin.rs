//! What the admin command line does to the database, without a running engine.

mod recovery;

use std::path::PathBuf;

use crate::callbacks::{CallbackId, SubscriptionState};
use crate::clock::{Clock, SystemClock};
use crate::database::Database;
use crate::domain::{BatchTag, CertificateKind, Country, Day, Thumbprint};
use crate::failure::{DatabaseError, StartError};
use crate::pki::Certificate;
use crate::settings::DatabaseUrl;
use crate::statistics::{SignatureCounts, SignatureUse, Statistics};
use crate::store::{Store, known_version, migrate};
use crate::trust::{CertificateRow, ListedCertificate, Trust, TrustAnchor, TrustAnchorError};

pub use recovery::{LogPlace, Recovery, RecoveryError, RowOutcome};

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

/// Why a certificate was not added or revoked.
#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    /// The file is no PEM of exactly one X.509 certificate.
    #[error("the file is not the PEM of one X.509 certificate")]
    NotACertificate,
    /// The text is not [`canonical_pem`]'s.
    #[error(
        "the PEM file is not written in 64 columns with LF and nothing around it, and IT drops the \
         keys of a country whose certificate is not"
    )]
    NotCanonical,
    /// The operator's signature does not hold over these exact bytes.
    #[error("the trust anchor's signature does not hold over this PEM file: sign its exact bytes")]
    OperatorSignature,
    /// The certificate's subject names another country, or none.
    #[error("the certificate's subject does not name the country {0}")]
    Country(Country),
    /// The trust anchor cannot be used.
    #[error("[trust_anchor] certificate cannot be used")]
    TrustAnchor(#[from] TrustAnchorError),
    /// A row with this thumbprint and kind exists.
    #[error("the certificate is listed already")]
    Listed,
    /// No row has this thumbprint.
    #[error("no certificate with thumbprint {0} is listed")]
    Unknown(Thumbprint),
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

    /// Lists a certificate, after checking its form and the trust anchor's signature over its PEM.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn add_certificate(
        &mut self,
        trust_anchor_pem: &str,
        country: Country,
        kind: CertificateKind,
        pem: &str,
        operator_signature: &str,
    ) -> Result<Thumbprint, CertificateError> {
        let anchor = TrustAnchor::from_pem(trust_anchor_pem)?;
        let thumbprint = check_certificate(&anchor, country, pem, operator_signature)?;
        if canonical_pem(pem)? != pem {
            return Err(CertificateError::NotCanonical);
        }
        let row = CertificateRow {
            thumbprint,
            country,
            kind,
            pem: pem.into(),
            operator_signature: operator_signature.into(),
            revoked_at: None,
        };
        let inserted = self.0.insert_certificate(&row, SystemClock.now());
        let inserted = inserted.map_err(|error| error.doing("listing a certificate"))?;
        if inserted {
            Ok(row.thumbprint)
        } else {
            Err(CertificateError::Listed)
        }
    }

    /// Revokes every row with this thumbprint; revoking twice is no error.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn revoke_certificate(&mut self, thumbprint: &Thumbprint) -> Result<(), CertificateError> {
        let found = self.0.revoke_certificate(thumbprint, SystemClock.now());
        match found.map_err(|error| error.doing("revoking a certificate"))? {
            0 => Err(CertificateError::Unknown(*thumbprint)),
            _ => Ok(()),
        }
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

    /// All callback subscriptions, in the order of country and id, and what each is to be told of
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

    /// Enables a callback subscription, which goes on where it was as far as that can still be
    /// downloaded; gives whether there is one.
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
    /// it is not there any more; gives whether there is one.
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

    /// Removes a callback subscription; gives whether there was one.
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

    /// All rows, ordered by country and kind, each checked against the trust anchor.
    ///
    /// # Errors
    /// [`CertificateError`].
    pub fn listed_certificates(
        &mut self,
        trust_anchor_pem: &str,
    ) -> Result<Vec<ListedCertificate>, CertificateError> {
        let anchor = TrustAnchor::from_pem(trust_anchor_pem)?;
        let trust = Trust::load(self.certificates()?, &anchor, None);
        let mut listed: Vec<_> = trust
            .certificates()
            .map(|listed| (**listed).clone())
            .collect();
        listed.sort_by_key(|listed| (listed.row.country, listed.row.kind, listed.row.thumbprint));
        Ok(listed)
    }
}

/// What holds for every certificate, whichever way it comes into the list; gives its thumbprint.
///
/// # Errors
/// [`CertificateError`].
pub(crate) fn check_certificate(
    anchor: &TrustAnchor,
    country: Country,
    pem: &str,
    operator_signature: &str,
) -> Result<Thumbprint, CertificateError> {
    let der = Certificate::der_of_pem(pem).map_err(|_| CertificateError::NotACertificate)?;
    let certificate = Certificate::from_der(&der);
    let certificate = certificate.map_err(|_| CertificateError::NotACertificate)?;
    if certificate.country() != Ok(country) {
        return Err(CertificateError::Country(country));
    }
    if !anchor.verify(pem.as_bytes(), operator_signature) {
        return Err(CertificateError::OperatorSignature);
    }
    Ok(certificate.thumbprint())
}

/// The certificate in a PEM text as BouncyCastle writes it: IT compares the text that an audit
/// shows with what it writes itself, and drops all keys of a country where they differ.
///
/// # Errors
/// [`CertificateError::NotACertificate`] when the text is not the PEM of one certificate.
pub fn canonical_pem(pem: &str) -> Result<String, CertificateError> {
    let der = Certificate::der_of_pem(pem).map_err(|_| CertificateError::NotACertificate)?;
    Ok(Certificate::canonical_pem(der))
}

/// Signs a PEM with the trust anchor's private key (PKCS#8 PEM), as `efgs cert add
/// --trust-anchor-key` and `efgs init` do. Gives base64.
///
/// # Errors
/// When the key is no RSA or P-256 private key.
pub fn sign_with_trust_anchor(key_pem: &str, pem: &str) -> Result<String, StartError> {
    crate::trust::sign(key_pem, pem).map_err(|error| StartError::Setting(error.to_string()))
}
/// Opens a database that has been set up; gives its schema version, too.
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
