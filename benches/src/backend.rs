//! A national backend with the real keys of the fixtures, and its uploads.

use std::io;
use std::path::{Path, PathBuf};

use aws_lc_rs::digest::{SHA256, digest};
use engine::decode::decode;
use engine::domain::{Country, Format, Thumbprint, UnixMillis, UploadTag};
use engine::upload::UploadRequest;
use engine::verify::CanonicalBytes;
use engine::wire::json;
use testkit::keys::{KeyGenerator, Seed};
use testkit::participants::Participant;
use testkit::signer::{Encoding, Signer};

use crate::inputs::{FULL, NOON, SIZES};

/// The participant that signs with RSA-2048.
pub const RSA_2048: &str = "DE";
/// The participant that signs with ECDSA on P-256.
pub const ECDSA_P256: &str = "ES";
/// The names of signature kinds in bench ids, and the participants that make them.
pub const SHAPES: [(&str, &str); 2] = [("rsa_2048", RSA_2048), ("ecdsa_p256", ECDSA_P256)];

/// The countries that the keys' owners visited.
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
    /// The signing time.
    at: UnixMillis,
}

impl Backend {
    /// The backend of a country of the fixtures ([`RSA_2048`], [`ECDSA_P256`]).
    pub fn of(code: &str) -> Self {
        let certificate = der(&format!("pki/{code}/{code}-signing.pem"));
        let key = der(&format!("keys/TEST-ONLY-{code}-signing.key.pem"));
        let uploader = read_fixture(&format!("pki/{code}/{code}-authentication.sha256"));
        Self {
            country: country(code),
            uploader: Thumbprint::parse_hex(&uploader).expect("the fixtures hold thumbprints"),
            signer: Signer::new(&certificate, &key).expect("the fixtures hold signers"),
            generator: generator(NOON),
            at: NOON,
        }
    }

    /// A participant of a development PKI, whose keys are shared and signed at an instant.
    pub fn of_participant(participant: Participant, at: UnixMillis) -> Self {
        let certificate = &participant.authentication.chain[0];
        let thumbprint = digest(&SHA256, certificate);
        let thumbprint = thumbprint.as_ref().try_into();
        Self {
            country: participant.country,
            uploader: Thumbprint(thumbprint.expect("SHA-256 has 32 bytes")),
            signer: participant.signer,
            generator: generator(at),
            at,
        }
    }

    /// Its authentication certificate.
    pub fn thumbprint(&self) -> Thumbprint {
        self.uploader
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
            .sign_base64(&signed_bytes, self.at, Encoding::BerIndefinite);
        UploadRequest {
            country: self.country,
            uploader: self.uploader,
            tag: UploadTag::parse(&format!("bench-{upload_index}")).expect("visible ASCII"),
            batch_signature: signature.into(),
            body: body.into(),
            format: Format::Protobuf,
            dry_run: false,
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

/// Keys that people share at an instant.
fn generator(at: UnixMillis) -> KeyGenerator {
    let seed = Seed {
        number: 1,
        keys_total: u64::from(FULL),
        upload_keys: FULL,
        day: at.day(),
    };
    KeyGenerator::new(seed, &europe())
}

/// A protobuf body as JSON.
fn json_body(protobuf: &[u8]) -> Vec<u8> {
    let mut body = json::OPENING.to_vec();
    json::write_segment(&mut body, protobuf);
    body.extend_from_slice(json::CLOSING);
    body
}

/// Upload number 0 of a backend, bit for bit the same in every run: ECDSA signatures, which are
/// random, come from a file, because the work of verifying depends on their bits.
///
/// # Panics
/// When nothing was recorded for that many keys.
pub fn recorded_upload(code: &str, key_count: u32, format: Format) -> UploadRequest {
    let backend = Backend::of(code);
    let mut request = match format {
        Format::Protobuf => backend.upload(0, key_count),
        Format::Json => backend.json_upload(0, key_count),
    };
    if code == ECDSA_P256 {
        let recorded = std::fs::read_to_string(signature_file(key_count));
        let recorded = recorded.expect("a signature is recorded for each size");
        request.batch_signature = recorded.trim().into();
    }
    request
}

/// Writes the files that [`recorded_upload`] reads: needed when the generator's keys change.
///
/// # Errors
/// When the folder cannot be written.
pub fn record_signatures() -> io::Result<()> {
    for size in SIZES {
        let signature = Backend::of(ECDSA_P256).upload(0, size).batch_signature;
        std::fs::write(signature_file(size), format!("{signature}\n"))?;
    }
    Ok(())
}

fn signature_file(key_count: u32) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("signatures/ecdsa_p256-{key_count}.txt"))
}

#[cfg(test)]
mod tests {
    use crate::fixture::StageFixture;

    use super::*;

    #[test]
    fn recorded_signatures_hold_over_the_generated_keys() {
        let fixture = StageFixture::small();
        for (code, format) in [
            (RSA_2048, Format::Protobuf),
            (RSA_2048, Format::Json),
            (ECDSA_P256, Format::Protobuf),
        ] {
            for size in SIZES {
                fixture.walk(&recorded_upload(code, size, format));
            }
        }
    }
}
