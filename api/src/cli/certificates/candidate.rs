//! A certificate from a file, with the trust anchor's signature over it: checked, and listed.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use api::pem_text;
use api::settings::AdminSettings;
use engine::admin::{
    Admin, CertificateError, NewCertificate, canonical_pem, sign_with_trust_anchor,
};
use engine::domain::{CertificateKind, Country, Thumbprint, UnixMillis};
use engine::pki::{Certificate, SigningKeyError};
use engine::{Clock as _, SystemClock};

use crate::cli::files::read;
use crate::cli::output::{instant, say};

/// An owner is reminded of the end of a new certificate if it is nearer than this, in days.
const SHORT_DAYS: i64 = 90;

/// Where the trust anchor's signatures come from.
pub(in crate::cli) enum Signer {
    /// The anchor's private key, as PEM.
    Key(String),
    /// A file with the signature over one certificate, in base64.
    File(PathBuf),
    /// A folder with a file `THUMBPRINT.sig` for each certificate, as `efgs cert sign-request` names it.
    Folder(PathBuf),
}

impl Signer {
    /// Reads the private key of a trust anchor.
    pub(in crate::cli) fn key(path: &Path) -> anyhow::Result<Self> {
        read_pem(path).map(Self::Key)
    }

    /// The signature over a certificate, and the text that it is over.
    fn sign(&self, pem: String) -> anyhow::Result<(String, String)> {
        match self {
            Self::File(file) => Ok((pem, read(file)?.trim().to_owned())),
            Self::Key(key) => {
                let pem = canonical_pem(&pem)?;
                let signature = sign_with_trust_anchor(key, &pem)?;
                Ok((pem, signature))
            }
            Self::Folder(folder) => {
                let pem = canonical_pem(&pem)?;
                let name = format!("{}.sig", thumbprint(&pem)?);
                Ok((pem, read(&folder.join(name))?.trim().to_owned()))
            }
        }
    }
}

/// SHA-256 of a certificate's DER.
pub(super) fn thumbprint(pem: &str) -> anyhow::Result<Thumbprint> {
    let der = Certificate::der_of_pem(pem)?;
    Ok(Certificate::from_der(&der)?.thumbprint())
}

/// A certificate that is to be listed.
#[derive(Debug)]
pub(in crate::cli) struct Candidate {
    country: Country,
    kind: CertificateKind,
    file: PathBuf,
    pem: String,
    signature: String,
}

impl Candidate {
    /// Reads the certificate, has it signed, and refuses what the gateway would refuse at each
    /// request.
    pub(in crate::cli) fn read(
        country: Country,
        kind: CertificateKind,
        file: &Path,
        signer: &Signer,
    ) -> anyhow::Result<Self> {
        let cannot = |error: anyhow::Error| match error.downcast::<CertificateError>() {
            Ok(error) => cannot_list(file, &error),
            Err(error) => anyhow!("cannot list {}: {error:#}", file.display()),
        };
        let pem = read_pem(file)?;
        check_use(&pem, kind, SystemClock.now()).map_err(cannot)?;
        let (pem, signature) = signer.sign(pem).map_err(cannot)?;
        Ok(Self {
            country,
            kind,
            file: file.to_owned(),
            pem,
            signature,
        })
    }

    fn new_certificate(&self) -> NewCertificate<'_> {
        NewCertificate {
            country: self.country,
            kind: self.kind,
            pem: &self.pem,
            operator_signature: &self.signature,
        }
    }

    /// What the certificate is for.
    pub(in crate::cli) fn kind(&self) -> CertificateKind {
        self.kind
    }

    /// Checks everything that listing checks but whether it is listed already.
    pub(in crate::cli) fn check(&self, settings: &AdminSettings) -> anyhow::Result<Thumbprint> {
        let checked =
            Admin::check_certificate(&settings.trust_anchor_pem()?, &self.new_certificate());
        checked.map_err(|error| cannot_list(&self.file, &error))
    }

    /// Lists it, and prints that and what its owner should know.
    pub(in crate::cli) fn list(
        &self,
        admin: &mut Admin,
        settings: &AdminSettings,
        replace: bool,
    ) -> anyhow::Result<()> {
        let (keys, anchor) = (settings.keys()?, settings.trust_anchor_pem()?);
        let new = self.new_certificate();
        let added = match replace {
            true => admin.replace_certificate(&keys, &anchor, &new),
            false => admin.add_certificate(&keys, &anchor, &new),
        };
        let added = added.map_err(|error| cannot_list(&self.file, &error))?;
        for other in &added.other_kinds {
            say(format_args!(
                "note: the same certificate is listed for {}, too: anyone who has its key can do both; \
                 ask its owner for one certificate per use",
                other.name()
            ))?;
        }
        if self.kind != CertificateKind::Signing && !is_for_tls(&self.pem) {
            say(
                "note: TLS has no use for a key of this kind: its owner can only come through a proxy",
            )?;
        }
        let days = days_until_end(&self.pem, SystemClock.now());
        if let Some(days) = days.filter(|days| *days < SHORT_DAYS) {
            let when = match days {
                0 => "within a day".to_owned(),
                days => format!("in {days} days"),
            };
            say(format_args!(
                "note: {} expires {when}: ask its owner for the next one in time",
                self.file.display()
            ))?;
        }
        say(format_args!(
            "listed {} {} {}",
            self.country,
            self.kind.name(),
            added.thumbprint
        ))
    }
}

fn days_until_end(pem: &str, now: UnixMillis) -> Option<i64> {
    let der = Certificate::der_of_pem(pem).ok()?;
    let certificate = Certificate::from_der(&der).ok()?;
    days_left(*certificate.validity().end(), now)
}

/// Whole days until a certificate ends, negative when it has.
pub(super) fn days_left(end_seconds: i64, now: UnixMillis) -> Option<i64> {
    let now = i64::try_from(now.seconds()).ok()?;
    Some(end_seconds.saturating_sub(now).div_euclid(86_400))
}

/// Reads a PEM file.
pub(in crate::cli) fn read_pem(path: &Path) -> anyhow::Result<String> {
    let text = read(path)?;
    match pem_text::obstacle(&text) {
        Some(obstacle) => bail!("cannot use {}: it {obstacle}", path.display()),
        None => Ok(text),
    }
}

/// Refuses what the gateway would refuse at each request. What is no certificate is refused elsewhere.
fn check_use(pem: &str, kind: CertificateKind, now: UnixMillis) -> anyhow::Result<()> {
    let der = Certificate::der_of_pem(pem).unwrap_or_default();
    let Ok(certificate) = Certificate::from_der(&der) else {
        return Ok(());
    };
    let ends = u64::try_from(*certificate.validity().end()).unwrap_or(0);
    if ends < now.seconds() {
        let ended = instant(UnixMillis(ends.saturating_mul(1000)));
        bail!("it expired {ended}: ask its owner for a new one");
    }
    if kind == CertificateKind::Signing {
        certificate.check_signing_key()?;
    }
    Ok(())
}

fn cannot_list(file: &Path, error: &CertificateError) -> anyhow::Error {
    let file = file.display();
    match error {
        CertificateError::NotCanonical => anyhow!(
            "cannot list {file}: {error}; write it again with openssl x509 -in {file} -out NEW, and \
             have NEW signed"
        ),
        _ => anyhow!("cannot list {file}: {error}"),
    }
}

/// Whether a handshake can prove the key: RSA of 2048 bits and more, Ed25519, and P-256, P-384 and P-521 by
/// their names.
fn is_for_tls(pem: &str) -> bool {
    let der = Certificate::der_of_pem(pem).unwrap_or_default();
    let certificate = Certificate::from_der(&der).ok();
    let is_weak = |certificate: &Certificate<'_>| {
        matches!(certificate.check_signing_key(), Err(SigningKeyError::Weak))
    };
    let certificate = certificate.filter(|certificate| !is_weak(certificate));
    let key = certificate.and_then(|certificate| certificate.subject_key());
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut algorithms = provider.signature_verification_algorithms.all.iter();
    key.is_some_and(|key| {
        algorithms.any(|algorithm| algorithm.public_key_alg_id().as_ref() == key.algorithm)
    })
}
