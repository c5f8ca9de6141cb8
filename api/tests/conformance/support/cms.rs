//! Batch signatures in the shapes that real clients send (wire §10, clients §1.2),
//! and a verifier that follows BouncyCastle's rule. Both are written from the standards, without
//! the gateway's own code.

use aws_lc_rs::digest::{
    Algorithm, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512, digest as compute,
};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeyPair as RsaKeyPair;
use aws_lc_rs::signature::{
    self, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaEncoding, UnparsedPublicKey, VerificationAlgorithm,
};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::domain::UnixMillis;
use num_bigint::BigUint;
use rasn::types::{ObjectIdentifier, OctetString, Oid};
use rasn_cms::{ContentInfo, SignedData, SignerInfo};
use time::OffsetDateTime;
use time::macros::format_description;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::pki::{Identity, sha256};

/// A hash by its name in CMS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Sha1,
    Sha256,
}

impl Hash {
    const fn oid(self) -> &'static [u8] {
        match self {
            Self::Sha1 => &[0x2b, 0x0e, 0x03, 0x02, 0x1a],
            Self::Sha256 => &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01],
        }
    }

    fn digest(self, bytes: &[u8]) -> Vec<u8> {
        let algorithm = match self {
            Self::Sha1 => &SHA1_FOR_LEGACY_USE_ONLY,
            Self::Sha256 => &SHA256,
        };
        compute(algorithm, bytes).as_ref().to_vec()
    }
}

/// What the `signatureAlgorithm` names, and how the signature is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    /// `rsaEncryption`: the digest algorithm decides.
    RsaBare,
    /// `sha256WithRSAEncryption`.
    RsaSha256,
    /// `sha1WithRSAEncryption`.
    RsaSha1,
    /// `id-RSASSA-PSS` with SHA-256 and a salt of 32 bytes.
    Pss,
}

/// Which signed attributes there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Attributes {
    /// contentType, signingTime, messageDigest.
    Three,
    /// Those and cmsAlgorithmProtection, as BouncyCastle for Java adds.
    WithProtection,
}

/// How a client writes its signatures.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Shape {
    /// Indefinite lengths around the outer structures.
    pub(crate) ber: bool,
    pub(crate) digest: Hash,
    pub(crate) scheme: Scheme,
    pub(crate) attributes: Attributes,
    /// Whether digest algorithms carry a NULL.
    pub(crate) digest_null: bool,
}

/// BouncyCastle for Java with SHA-256 and RSA: DE, CH, FI, PL.
pub(crate) const BOUNCY_CASTLE: Shape = Shape {
    ber: true,
    digest: Hash::Sha256,
    scheme: Scheme::RsaSha256,
    attributes: Attributes::WithProtection,
    digest_null: false,
};

/// The same with RSASSA-PSS, which ES's settings name for the key.
pub(crate) const BOUNCY_CASTLE_PSS: Shape = Shape {
    scheme: Scheme::Pss,
    ..BOUNCY_CASTLE
};

/// BouncyCastle for C#, classic generator: DK, NO.
pub(crate) const BOUNCY_CASTLE_CSHARP: Shape = Shape {
    ber: true,
    digest: Hash::Sha256,
    scheme: Scheme::RsaBare,
    attributes: Attributes::Three,
    digest_null: true,
};

/// A signing service that returns DER: NL, and what IT's may return.
pub(crate) const SERVICE: Shape = Shape {
    ber: false,
    ..BOUNCY_CASTLE_CSHARP
};

/// jsrsasign as IE uses it: digest SHA-256, but named and signed with SHA-1.
pub(crate) const JSRSASIGN: Shape = Shape {
    scheme: Scheme::RsaSha1,
    digest_null: false,
    ..SERVICE
};

/// mozilla's pkcs7 as CZ uses it: SHA-1 throughout.
pub(crate) const MOZILLA: Shape = Shape {
    digest: Hash::Sha1,
    ..JSRSASIGN
};

const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
const SIGNING_TIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];
const PROTECTION: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x34];
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
const RSA_SHA1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x05];
const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
const PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
const RSA_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b];

const NULL: &[u8] = &[0x05, 0x00];

/// An element of definite length.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let content = parts.concat();
    let mut out = vec![tag];
    match content.len() {
        short @ 0..0x80 => out.push(u8::try_from(short).unwrap()),
        long => {
            let bytes = long.to_be_bytes();
            let skip = bytes.iter().take_while(|byte| **byte == 0).count();
            out.push(0x80 | u8::try_from(8 - skip).unwrap());
            out.extend_from_slice(&bytes[skip..]);
        }
    }
    out.extend(content);
    out
}

/// An element of indefinite length.
fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    [&[tag, 0x80], parts.concat().as_slice(), &[0, 0]].concat()
}

fn algorithm(oid: &[u8], parameters: &[u8]) -> Vec<u8> {
    element(0x30, &[&element(6, &[oid]), parameters])
}

impl Shape {
    fn digest_algorithm(self) -> Vec<u8> {
        let parameters: &[u8] = if self.digest_null { NULL } else { &[] };
        algorithm(self.digest.oid(), parameters)
    }

    fn signature_algorithm(self) -> Vec<u8> {
        match self.scheme {
            Scheme::RsaBare => algorithm(RSA, NULL),
            Scheme::RsaSha256 => algorithm(RSA_SHA256, NULL),
            Scheme::RsaSha1 => algorithm(RSA_SHA1, NULL),
            Scheme::Pss => {
                let hash = algorithm(Hash::Sha256.oid(), NULL);
                let mask = algorithm(MGF1, &hash);
                let salt = element(2, &[&[32]]);
                let parameters = [
                    element(0xa0, &[&hash]),
                    element(0xa1, &[&mask]),
                    element(0xa2, &[&salt]),
                ];
                algorithm(PSS, &element(0x30, &[&parameters.concat()]))
            }
        }
    }

    /// The hash under the signature.
    const fn signature_hash(self) -> Hash {
        match self.scheme {
            Scheme::RsaBare => self.digest,
            Scheme::RsaSha256 | Scheme::Pss => Hash::Sha256,
            Scheme::RsaSha1 => Hash::Sha1,
        }
    }

    /// The attributes one after the other, in the order of DER's SET OF.
    fn attributes(self, content: &[u8], at: UnixMillis) -> Vec<u8> {
        let attribute = |kind: &[u8], value: &[u8]| {
            element(0x30, &[&element(6, &[kind]), &element(0x31, &[value])])
        };
        let digest = element(4, &[&self.digest.digest(content)]);
        let mut all = vec![
            attribute(CONTENT_TYPE, &element(6, &[DATA])),
            attribute(SIGNING_TIME, &signing_time(at)),
            attribute(MESSAGE_DIGEST, &digest),
        ];
        if self.attributes == Attributes::WithProtection {
            // Tagged implicitly: [1] stands for the SEQUENCE.
            let mut signature = self.signature_algorithm();
            signature[0] = 0xa1;
            let value = element(0x30, &[&self.digest_algorithm(), &signature]);
            all.push(attribute(PROTECTION, &value));
        }
        all.sort();
        all.concat()
    }

    /// A detached signature of `signer` over `content`, made `at`.
    pub(crate) fn sign(self, signer: &Identity, content: &[u8], at: UnixMillis) -> Vec<u8> {
        let attributes = self.attributes(content, at);
        let signature = self.raw_signature(&signer.key, &element(0x31, &[&attributes]));
        let (_, certificate) = X509Certificate::from_der(&signer.certificate).unwrap();
        let serial = element(2, &[certificate.raw_serial()]);
        let sid = element(0x30, &[certificate.issuer().as_raw(), &serial]);
        let signer_info = element(
            0x30,
            &[
                &[2, 1, 1],
                &sid,
                &self.digest_algorithm(),
                &element(0xa0, &[&attributes]),
                &self.signature_algorithm(),
                &element(4, &[&signature]),
            ],
        );
        let outer = if self.ber { indefinite } else { element };
        let signed_data = outer(
            0x30,
            &[
                &[2, 1, 1],
                &element(0x31, &[&self.digest_algorithm()]),
                &element(0x30, &[&element(6, &[DATA])]),
                &outer(0xa0, &[&signer.certificate]),
                &element(0x31, &[&signer_info]),
            ],
        );
        let content = outer(0xa0, &[&signed_data]);
        outer(0x30, &[&element(6, &[SIGNED_DATA]), &content])
    }

    /// The same as the header carries it.
    pub(crate) fn sign_base64(self, signer: &Identity, content: &[u8], at: UnixMillis) -> String {
        STANDARD.encode(self.sign(signer, content, at))
    }

    fn raw_signature(self, pkcs8: &[u8], message: &[u8]) -> Vec<u8> {
        let encoding: &'static dyn RsaEncoding = match (self.scheme, self.signature_hash()) {
            (Scheme::Pss, _) => &RSA_PSS_SHA256,
            (_, Hash::Sha256) => &RSA_PKCS1_SHA256,
            (_, Hash::Sha1) => return rsa_sha1(pkcs8, message),
        };
        let key = RsaKeyPair::from_pkcs8(pkcs8).unwrap();
        let mut signature = vec![0; key.public_modulus_len()];
        key.sign(encoding, &SystemRandom::new(), message, &mut signature)
            .unwrap();
        signature
    }
}

fn signing_time(at: UnixMillis) -> Vec<u8> {
    let seconds = i64::try_from(at.seconds()).unwrap();
    let time = OffsetDateTime::from_unix_timestamp(seconds).unwrap();
    let format = format_description!("[year repr:last_two][month][day][hour][minute][second]Z");
    element(0x17, &[time.format(format).unwrap().as_bytes()])
}

/// PKCS#1 v1.5 with SHA-1, which crypto libraries do not sign with any more (RFC 8017 §8.2.1).
fn rsa_sha1(pkcs8: &[u8], message: &[u8]) -> Vec<u8> {
    let [_version, _algorithm, wrapped] = children(&content(pkcs8)).try_into().unwrap();
    let numbers = children(&content(&wrapped));
    let number = |at: usize| BigUint::from_bytes_be(&numbers[at]);
    let (modulus, exponent) = (number(1), number(3));
    let length = usize::try_from(modulus.bits().div_ceil(8)).unwrap();
    let digest = element(4, &[&Hash::Sha1.digest(message)]);
    let info = element(0x30, &[&algorithm(Hash::Sha1.oid(), NULL), &digest]);
    let mut padded = vec![0, 1];
    padded.resize(length - info.len() - 1, 0xff);
    padded.push(0);
    padded.extend(info);
    let signature = BigUint::from_bytes_be(&padded).modpow(&exponent, &modulus);
    let bytes = signature.to_bytes_be();
    [vec![0; length - bytes.len()], bytes].concat()
}

/// The content of an element of definite length.
fn content(der: &[u8]) -> Vec<u8> {
    children(der).remove(0)
}

/// The contents of the elements that stand one behind the other.
fn children(mut der: &[u8]) -> Vec<Vec<u8>> {
    let mut all = Vec::new();
    while !der.is_empty() {
        let (length, header) = match der[1] {
            long @ 0x80.. => {
                let bytes = usize::from(long & 0x7f);
                let length = der[2..2 + bytes].iter();
                (
                    length.fold(0, |sum, byte| sum << 8 | usize::from(*byte)),
                    2 + bytes,
                )
            }
            short => (usize::from(short), 2),
        };
        all.push(der[header..header + length].to_vec());
        der = &der[header + length..];
    }
    all
}

/// Checks a detached signature over `content` with the key of `certificate`, as BouncyCastle does:
/// the message digest goes by the digest algorithm, the signature by the hash that its own
/// algorithm names.
pub(crate) fn verify(
    batch_signature: &str,
    certificate: &[u8],
    content: &[u8],
) -> Result<(), String> {
    let cms = STANDARD
        .decode(batch_signature)
        .map_err(|e| e.to_string())?;
    let info: ContentInfo = rasn::ber::decode(&cms).map_err(|e| e.to_string())?;
    let data: SignedData = rasn::ber::decode(info.content.as_bytes()).map_err(|e| e.to_string())?;
    let signers = data.signer_infos.to_vec();
    let [signer] = signers.as_slice() else {
        return Err("not one signer".to_owned());
    };
    let named = signer.digest_algorithm.algorithm.to_string();
    let digest = compute(digest_named(&named)?, content);
    if message_digest(signer)? != digest.as_ref() {
        return Err("another message digest".to_owned());
    }
    let attributes = signer.signed_attrs.as_ref().ok_or("no attributes")?;
    // RFC 5652 §5.4: what is signed is the attributes as a SET in DER.
    let signed = rasn::der::encode(attributes).map_err(|e| e.to_string())?;
    let algorithm = signer.signature_algorithm.algorithm.to_string();
    let scheme = scheme_named(&algorithm, &named)?;
    let (_, certificate) = X509Certificate::from_der(certificate).map_err(|e| e.to_string())?;
    let key = &certificate.public_key().subject_public_key.data;
    UnparsedPublicKey::new(scheme, key)
        .verify(&signed, &signer.signature)
        .map_err(|_| "the signature is wrong".to_owned())
}

fn digest_named(oid: &str) -> Result<&'static Algorithm, String> {
    Ok(match oid {
        "1.3.14.3.2.26" => &SHA1_FOR_LEGACY_USE_ONLY,
        "2.16.840.1.101.3.4.2.1" => &SHA256,
        "2.16.840.1.101.3.4.2.2" => &SHA384,
        "2.16.840.1.101.3.4.2.3" => &SHA512,
        other => return Err(format!("digest {other}")),
    })
}

fn scheme_named(oid: &str, digest: &str) -> Result<&'static dyn VerificationAlgorithm, String> {
    Ok(match (oid, digest) {
        ("1.2.840.113549.1.1.5", _) => &signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY,
        ("1.2.840.113549.1.1.11", _) | ("1.2.840.113549.1.1.1", "2.16.840.1.101.3.4.2.1") => {
            &signature::RSA_PKCS1_2048_8192_SHA256
        }
        ("1.2.840.113549.1.1.10", _) => &signature::RSA_PSS_2048_8192_SHA256,
        other => return Err(format!("signature algorithm {other:?}")),
    })
}

fn message_digest(signer: &SignerInfo) -> Result<Vec<u8>, String> {
    let kind = ObjectIdentifier::from(Oid::ISO_MEMBER_BODY_US_RSADSI_PKCS9_MESSAGE_DIGEST);
    let attributes = signer.signed_attrs.as_ref().ok_or("no attributes")?;
    let attributes = attributes.to_vec();
    let found = attributes.into_iter().find(|found| found.r#type == kind);
    let values = found.ok_or("no message digest")?.values.to_vec();
    let value = values.first().ok_or("no value")?;
    let digest: OctetString = rasn::ber::decode(value.as_bytes()).map_err(|e| e.to_string())?;
    Ok(digest.to_vec())
}

/// Checks the operator's signature over the bytes of a PEM with an RSA anchor, as IT does:
/// SHA-256 and the type of the anchor's key.
pub(crate) fn verify_operator(
    anchor: &[u8],
    pem: &str,
    operator_signature: &str,
) -> Result<(), String> {
    let (_, anchor) = X509Certificate::from_der(anchor).map_err(|e| e.to_string())?;
    let signature = STANDARD
        .decode(operator_signature)
        .map_err(|e| e.to_string())?;
    let key = &anchor.public_key().subject_public_key.data;
    UnparsedPublicKey::new(&signature::RSA_PKCS1_2048_8192_SHA256, key)
        .verify(pem.as_bytes(), &signature)
        .map_err(|_| "the operator's signature is wrong".to_owned())
}

/// A certificate as BouncyCastle's PEM writer writes it: 64 columns, LF, a final LF.
pub(crate) fn bouncy_castle_pem(certificate: &[u8]) -> String {
    let text = STANDARD.encode(certificate);
    let lines: Vec<&str> = text
        .as_bytes()
        .chunks(64)
        .map(|line| std::str::from_utf8(line).unwrap())
        .collect();
    let lines = lines.join("\n");
    format!("-----BEGIN CERTIFICATE-----\n{lines}\n-----END CERTIFICATE-----\n")
}

/// The thumbprint as the reference and FI print it: leading zeros are lost, and one is put back
/// when 63 digits remain.
pub(crate) fn legacy_thumbprint(certificate: &[u8]) -> String {
    let text = BigUint::from_bytes_be(&sha256(certificate)).to_str_radix(16);
    if text.len() == 63 {
        format!("0{text}")
    } else {
        text
    }
}
