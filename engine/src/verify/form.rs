//! Describes a batch signature for operators: its algorithms, and the settings that must permit
//! them. Does not verify it.

use std::fmt;

use super::signature::{Exceptions, SignatureError, decode_base64};
use crate::pki::algorithm::{Hash, KeyError, Scheme, SignatureAlgorithm};
use crate::pki::{Certificate, SignedMessage};

/// How a batch signature is made.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SignatureForm {
    /// `RSA` (PKCS#1 v1.5), `RSA-PSS` or `ECDSA`; if it cannot be read, the reason.
    pub algorithm: &'static str,
    /// The hash, as `SHA-256`; of two, that of the content first, as `SHA-1+SHA-256`.
    pub digest: String,
    /// The signer's key, as `RSA 2048` or `P-256`.
    pub key: String,
    /// What has to be permitted.
    pub demand: SignatureDemand,
}

/// What an operator has to permit for a batch signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum SignatureDemand {
    /// These settings, or nothing.
    Settings {
        /// `[signatures] legacy_sha1`.
        sha1: bool,
        /// `[signatures] pss`.
        pss: bool,
    },
    /// No setting permits it.
    Refused,
}

impl SignatureForm {
    /// Reads a batch signature as it was sent.
    #[must_use]
    pub fn of(batch_signature: &str) -> Self {
        Self::read(batch_signature).unwrap_or_else(|error| Self {
            algorithm: error.code(),
            digest: NOTHING.to_owned(),
            key: NOTHING.to_owned(),
            demand: SignatureDemand::Refused,
        })
    }

    fn read(batch_signature: &str) -> Result<Self, SignatureError> {
        let bytes = decode_base64(batch_signature)?;
        let message = SignedMessage::parse(&bytes)?;
        let certificate = message
            .signer_certificate()
            .ok_or(SignatureError::NoCertificate)?;
        let signer = message.signer();
        let digest = Hash::of(&signer.digest_algorithm);
        let digest = digest.ok_or(SignatureError::UnsupportedAlgorithm)?;
        let algorithm = SignatureAlgorithm::of(&signer.signature_algorithm)?;
        let named = algorithm.hash.unwrap_or(digest);
        let is_pss = matches!(algorithm.scheme, Scheme::Pss { .. });
        // The same choice as the check of the signature makes.
        let hashes = match (&signer.signed_attributes, is_pss) {
            (Some(_), _) => [digest, named],
            (None, true) => [named; 2],
            (None, false) => [digest; 2],
        };
        let key = key_name(&certificate);
        Ok(Self {
            algorithm: scheme_name(algorithm.scheme),
            digest: digest_names(hashes),
            demand: demand(hashes, is_pss, key.is_ok()),
            key: key.unwrap_or_else(str::to_owned),
        })
    }
}

impl SignatureDemand {
    /// The exceptions that a check needs.
    #[must_use]
    pub const fn exceptions(self) -> Exceptions {
        match self {
            Self::Settings { sha1, pss } => Exceptions { sha1, pss },
            Self::Refused => Exceptions {
                sha1: false,
                pss: false,
            },
        }
    }
}

/// The settings by their names; a dash for none.
impl fmt::Display for SignatureDemand {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Settings {
                sha1: false,
                pss: false,
            } => NOTHING,
            Self::Settings {
                sha1: true,
                pss: false,
            } => "legacy_sha1",
            Self::Settings {
                sha1: false,
                pss: true,
            } => "pss",
            Self::Settings {
                sha1: true,
                pss: true,
            } => "legacy_sha1 pss",
            Self::Refused => "refused",
        })
    }
}

const NOTHING: &str = "-";

const fn scheme_name(scheme: Scheme) -> &'static str {
    match scheme {
        Scheme::Pkcs1 => "RSA",
        Scheme::Pss { .. } => "RSA-PSS",
        Scheme::Ecdsa => "ECDSA",
    }
}

fn digest_names([content, signature]: [Hash; 2]) -> String {
    if content == signature {
        return content.name().to_owned();
    }
    format!("{}+{}", content.name(), signature.name())
}

/// The name of a certificate's key, or why the gateway accepts no signature made with it.
fn key_name(certificate: &Certificate<'_>) -> Result<String, &'static str> {
    match certificate.public_key() {
        Ok(key) => Ok(key.name()),
        Err(KeyError::Weak) => Err("RSA below 2048"),
        Err(KeyError::Unsupported | KeyError::Wrong) => Err("unsupported"),
    }
}

fn demand(hashes: [Hash; 2], pss: bool, key_is_good: bool) -> SignatureDemand {
    let sha1 = hashes.contains(&Hash::Sha1);
    // PSS is verified with SHA-2 only.
    if !key_is_good || hashes.contains(&Hash::Md5) || (pss && sha1) {
        return SignatureDemand::Refused;
    }
    SignatureDemand::Settings { sha1, pss }
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    #[track_caller]
    fn check(legacy: &str, expected: [&str; 4]) {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/fixtures/legacy");
        let der = std::fs::read(format!("{folder}/{legacy}.der")).unwrap();
        let form = SignatureForm::of(&STANDARD.encode(der));
        let demand = form.demand.to_string();
        let found = [form.algorithm, &form.digest, &form.key, &demand];
        assert_eq!(found, expected, "{legacy}");
    }

    #[test]
    fn names_what_real_participants_sign_with() {
        check("cz-sha1-p256", ["ECDSA", "SHA-1", "P-256", "legacy_sha1"]);
        check("sha1-p521", ["ECDSA", "SHA-1", "P-521", "legacy_sha1"]);
        check("cz-sha1-rsa", ["RSA", "SHA-1", "RSA 2048", "legacy_sha1"]);
        check(
            "ie-sha256-digest-sha1-signature",
            ["RSA", "SHA-256+SHA-1", "RSA 2048", "legacy_sha1"],
        );
        check(
            "named-md5-made-with-sha256",
            ["RSA", "SHA-256+MD5", "RSA 2048", "refused"],
        );
    }

    #[test]
    fn reports_why_a_signature_cannot_be_read() {
        for (signature, code) in [("", "bad_base64"), ("AAAA", "malformed_cms")] {
            let form = SignatureForm::of(signature);
            assert_eq!(
                (form.algorithm, form.demand),
                (code, SignatureDemand::Refused)
            );
        }
    }
}
