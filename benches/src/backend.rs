//! A national backend with the real keys of the fixtures, and its uploads.

use std::path::{Path, PathBuf};

use engine::decode::decode;
use engine::domain::{Country, Format, Thumbprint, UploadTag};
use engine::upload::UploadRequest;
use engine::wire::canonical::CanonicalBytes;
use engine::wire::json;
use loadgen::keys::{KeyGenerator, Seed};
use loadgen::signer::{Encoding, Signer};

use crate::{FULL, NOON};

/// The participant that signs with RSA-2048.
pub const RSA_2048: &str = "DE";
/// The participant that signs with ECDSA on P-256.
pub const ECDSA_P256: &str = "ES";
/// What the kinds of signatures are called in bench ids, and who makes them.
pub const SHAPES: [(&str, &str); 2] = [("rsa_2048", RSA_2048), ("ecdsa_p256", ECDSA_P256)];

/// Who the keys' owners visit.
const EUROPE: [&str; 27] = [
    "AT", "BE", "BG", "CY", "CZ", "DE", "DK", "EE", "ES", "FI", "FR", "GR", "HR", "HU", "IE", "IT",
    "LT", "LU", "LV", "MT", "NL", "PL", "PT", "RO", "SE", "SI", "SK",
];

/// The participants of Europe.
pub(crate) fn europe() -> Vec<Country> {
    EUROPE.into_iter().map(country).collect()
}

fn country(code: &str) -> Country {
    Country::parse(code).expect("two letters")
}

/// The folder of the test PKI.
fn fixture(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../engine/tests/fixtures/vectors")
        .join(file)
}

pub(crate) fn read_fixture(file: &str) -> String {
    std::fs::read_to_string(fixture(file)).expect("the engine's fixtures hold the test PKI")
}

fn der(file: &str) -> Vec<u8> {
    let pem = pem::parse(read_fixture(file)).expect("the fixtures are PEM");
    pem.into_contents()
}

/// A national backend that signs its uploads.
#[derive(Debug)]
pub struct Backend {
    /// Its country.
    pub country: Country,
    uploader: Thumbprint,
    signer: Signer,
    generator: KeyGenerator,
}

impl Backend {
    /// The backend of a country of the fixtures ([`RSA_2048`], [`ECDSA_P256`]).
    pub fn of(code: &str) -> Self {
        let certificate = der(&format!("pki/{code}/{code}-signing.pem"));
        let key = der(&format!("keys/TEST-ONLY-{code}-signing.key.pem"));
        let uploader = read_fixture(&format!("pki/{code}/{code}-authentication.sha256"));
        let seed = Seed {
            number: 1,
            keys_total: u64::from(FULL),
            upload_keys: FULL,
            day: NOON.day(),
        };
        Self {
            country: country(code),
            uploader: Thumbprint::parse_hex(&uploader).expect("the fixtures hold thumbprints"),
            signer: Signer::new(&certificate, &key).expect("the fixtures hold signers"),
            generator: KeyGenerator::new(seed, &europe()),
        }
    }

    /// A protobuf body: what a backend sends.
    pub fn body(&self, upload_index: u32, key_count: u32) -> Vec<u8> {
        self.generator.body(self.country, upload_index, key_count)
    }

    /// An upload with its signature; another index means other keys and another tag.
    pub fn upload(&self, upload_index: u32, key_count: u32) -> UploadRequest {
        let body = self.body(upload_index, key_count);
        let decoded = decode(&body, key_count).expect("the generator writes well-formed bodies");
        let signed_bytes = CanonicalBytes::of(&decoded).signed_bytes();
        let signature = self
            .signer
            .sign_base64(&signed_bytes, NOON, Encoding::BerIndefinite);
        UploadRequest {
            country: self.country,
            uploader: self.uploader,
            tag: UploadTag::parse(&format!("bench-{upload_index}")).expect("visible ASCII"),
            batch_signature: signature.into(),
            body: body.into(),
            format: Format::Protobuf,
        }
    }

    /// The same upload as JSON.
    pub fn json_upload(&self, upload_index: u32, key_count: u32) -> UploadRequest {
        let protobuf = self.upload(upload_index, key_count);
        UploadRequest {
            body: json_body(&protobuf.body).into(),
            format: Format::Json,
            ..protobuf
        }
    }
}

/// A protobuf body as JSON.
fn json_body(protobuf: &[u8]) -> Vec<u8> {
    let mut body = json::OPENING.to_vec();
    json::write_segment(&mut body, protobuf);
    body.extend_from_slice(json::CLOSING);
    body
}
