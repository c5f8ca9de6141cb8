//! Participants: the countries whose clients are known, each with its own authentication
//! certificate and the kind of signing key that its client uses. Private keys are the test keys of
//! the vectors; the trust anchor is theirs, too.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::admin::sign_with_trust_anchor;
use engine::domain::{CertificateKind, Country, Thumbprint};
use rcgen::{
    CertificateParams, DistinguishedName, DnType, DnValue, KeyPair, PKCS_ECDSA_P256_SHA256,
    PKCS_RSA_SHA256, SerialNumber, date_time_ymd,
};

/// A file of the vectors or of the other fixtures.
pub(crate) fn fixture(file: &str) -> PathBuf {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine");
    engine.join("tests/fixtures").join(file)
}

/// The text of such a file.
pub(crate) fn read(file: &str) -> String {
    std::fs::read_to_string(fixture(file)).unwrap_or_else(|error| panic!("{file}: {error}"))
}

/// The DER inside a PEM.
pub(crate) fn der(pem_text: &str) -> Vec<u8> {
    pem::parse(pem_text).unwrap().into_contents()
}

pub(crate) fn sha256(bytes: &[u8]) -> [u8; 32] {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, bytes);
    digest.as_ref().try_into().unwrap()
}

/// A certificate with its private key, and the operator's signature.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) country: Country,
    pub(crate) pem: String,
    pub(crate) certificate: Vec<u8>,
    /// PKCS#8, DER.
    pub(crate) key: Vec<u8>,
    pub(crate) operator_signature: String,
}

impl Identity {
    pub(crate) fn new(country: &str, pem: String, key_pem: &str) -> Self {
        Self {
            country: Country::parse(country).unwrap(),
            certificate: der(&pem),
            key: der(key_pem),
            operator_signature: sign_with_trust_anchor(&ANCHOR.key_pem, &pem).unwrap(),
            pem,
        }
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        Thumbprint(sha256(&self.certificate))
    }

    /// 64 lower-case digits.
    pub(crate) fn hex(&self) -> String {
        self.thumbprint().to_string()
    }

    /// As a proxy may send it.
    pub(crate) fn base64(&self) -> String {
        STANDARD.encode(self.thumbprint().0)
    }
}

/// The operator's key and certificate.
#[derive(Debug)]
pub(crate) struct Anchor {
    pub(crate) pem: String,
    pub(crate) key_pem: String,
}

pub(crate) static ANCHOR: LazyLock<Anchor> = LazyLock::new(|| Anchor {
    pem: read("vectors/pki/trust-anchor/trust-anchor.pem"),
    key_pem: read("vectors/keys/TEST-ONLY-trust-anchor.key.pem"),
});

/// A participant.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) authentication: Identity,
    pub(crate) signing: Identity,
}

/// Every participant whose client is known.
pub(crate) const COUNTRIES: [&str; 11] = [
    "DE", "IT", "ES", "FI", "IE", "CZ", "CH", "NL", "DK", "NO", "PL",
];

static MEMBERS: LazyLock<Vec<(&str, Member)>> =
    LazyLock::new(|| COUNTRIES.map(|country| (country, make(country))).into());

/// One of [`COUNTRIES`].
pub(crate) fn member(country: &str) -> &'static Member {
    let found = MEMBERS.iter().find(|(code, _)| *code == country);
    &found.unwrap_or_else(|| panic!("{country} is no member")).1
}

fn make(country: &'static str) -> Member {
    Member {
        authentication: authentication(country, |_| {}),
        signing: signing(country),
    }
}

/// A self-signed P-256 certificate, valid from 2020 to 2040 unless `change` says otherwise.
pub(crate) fn authentication(
    country: &str,
    change: impl FnOnce(&mut CertificateParams),
) -> Identity {
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap();
    self_signed(country, &key, change)
}

/// The same with a given key.
pub(crate) fn self_signed(
    country: &str,
    key: &KeyPair,
    change: impl FnOnce(&mut CertificateParams),
) -> Identity {
    let mut params = params(country);
    change(&mut params);
    let pem = params.self_signed(key).unwrap().pem();
    Identity::new(country, pem, &key.serialize_pem())
}

/// The subject `C=country, O=…`, valid from 2020 to 2040.
pub(crate) fn params(country: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.not_before = date_time_ymd(2020, 1, 1);
    params.not_after = date_time_ymd(2040, 1, 1);
    let mut name = DistinguishedName::new();
    let code = DnValue::PrintableString(country.try_into().unwrap());
    name.push(DnType::CountryName, code);
    name.push(DnType::OrganizationName, format!("EFGS test {country}"));
    params.distinguished_name = name;
    params
}

/// An RSA key of the vectors.
pub(crate) fn rsa_key(name: &str) -> (KeyPair, String) {
    let pem = read(&format!("vectors/keys/TEST-ONLY-{name}.key.pem"));
    let key = KeyPair::from_pem_and_sign_algo(&pem, &PKCS_RSA_SHA256).unwrap();
    (key, pem)
}

/// FI's development signer draws random signed serial numbers: this one is negative. It is valid
/// from the end of 2026.
pub(crate) fn negative_serial() -> Identity {
    let pem = read("legacy/fi-negative-serial.pem");
    let key_pem = read("vectors/keys/TEST-ONLY-FI-authentication.key.pem");
    Identity::new("FI", pem, &key_pem)
}

/// The kind of signing certificate that the client of a country has: RSA for all whose kind is
/// known, IT's with 4096 bits.
fn signing(country: &str) -> Identity {
    let key = match country {
        "IT" => "IT-signing",
        "NL" => "DE-rsa3072",
        _ => "DE-special",
    };
    let (key, key_pem) = rsa_key(key);
    let mut params = params(country);
    params.serial_number = Some(SerialNumber::from(vec![0x01, country.as_bytes()[0]]));
    let pem = params.self_signed(&key).unwrap().pem();
    Identity::new(country, pem, &key_pem)
}

/// A certificate of the vectors, with its key and the operator's signature beside it.
pub(crate) fn of_vectors(path: &str, country: &str) -> Identity {
    let pem = read(&format!("vectors/pki/{path}.pem"));
    let operator_signature = read(&format!("vectors/pki/{path}.sig"));
    Identity {
        country: Country::parse(country).unwrap(),
        certificate: der(&pem),
        key: Vec::new(),
        operator_signature,
        pem,
    }
}

/// A row of the certificate list.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) kind: CertificateKind,
    pub(crate) identity: Identity,
    pub(crate) revoked: bool,
    /// PEM of the anchor whose signature the row bears.
    pub(crate) anchor: String,
}

impl Listed {
    pub(crate) fn new(kind: CertificateKind, identity: &Identity) -> Self {
        Self {
            kind,
            identity: identity.clone(),
            revoked: false,
            anchor: ANCHOR.pem.clone(),
        }
    }

    pub(crate) fn revoked(mut self) -> Self {
        self.revoked = true;
        self
    }
}

/// All certificates.
pub(crate) fn everybody() -> Vec<Listed> {
    let of = |(_, member): &(&str, Member)| {
        [
            Listed::new(CertificateKind::Authentication, &member.authentication),
            Listed::new(CertificateKind::Signing, &member.signing),
        ]
    };
    MEMBERS.iter().flat_map(of).collect()
}
