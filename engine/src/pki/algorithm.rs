//! Signature algorithms (decision 8): which are read, and which key verifies what.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{self, RsaParameters, RsaPssSaltLength, VerificationAlgorithm};
use x509_parser::asn1_rs::{FromDer as _, Oid, oid};
use x509_parser::public_key::RSAPublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use super::ber::identifier::{INTEGER, OBJECT_IDENTIFIER, SEQUENCE, context};
use super::ber::{self, NotBer, Value, Values};
use super::structure::AlgorithmIdentifier;

/// A hash that can be named. MD5 is read so that it can be refused by its name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hash {
    Md5,
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

/// A padding or scheme of signatures, as far as it is independent of the hash.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scheme {
    Pkcs1,
    Pss { salt_bytes: u16 },
    Ecdsa,
}

/// What a `signatureAlgorithm` says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SignatureAlgorithm {
    pub(crate) scheme: Scheme,
    /// `None` if it names a kind of key only.
    pub(crate) hash: Option<Hash>,
}

/// Why a key does not verify a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum KeyError {
    /// An RSA modulus shorter than 2048 bits.
    Weak,
    /// The algorithm, the kind of key, or the two together.
    Unsupported,
    /// The signature is not that key's over that digest.
    Wrong,
}

static DIGESTS: [(Oid<'static>, Hash); 5] = [
    (oid!(1.2.840.113549.2.5), Hash::Md5),
    (oid!(1.3.14.3.2.26), Hash::Sha1),
    (oid!(2.16.840.1.101.3.4.2.1), Hash::Sha256),
    (oid!(2.16.840.1.101.3.4.2.2), Hash::Sha384),
    (oid!(2.16.840.1.101.3.4.2.3), Hash::Sha512),
];

/// PKCS#1 v1.5 (RFC 8017) and ECDSA (X9.62). Those that name a kind of key only go with the hash of
/// `digestAlgorithm`: OpenSSL writes `rsaEncryption`, .NET `id-ecPublicKey`.
static SIGNATURES: [(Oid<'static>, Scheme, Option<Hash>); 11] = [
    (oid!(1.2.840.113549.1.1.1), Scheme::Pkcs1, None),
    (oid!(1.2.840.113549.1.1.4), Scheme::Pkcs1, Some(Hash::Md5)),
    (oid!(1.2.840.113549.1.1.5), Scheme::Pkcs1, Some(Hash::Sha1)),
    (
        oid!(1.2.840.113549.1.1.11),
        Scheme::Pkcs1,
        Some(Hash::Sha256),
    ),
    (
        oid!(1.2.840.113549.1.1.12),
        Scheme::Pkcs1,
        Some(Hash::Sha384),
    ),
    (
        oid!(1.2.840.113549.1.1.13),
        Scheme::Pkcs1,
        Some(Hash::Sha512),
    ),
    (oid!(1.2.840.10045.2.1), Scheme::Ecdsa, None),
    (oid!(1.2.840.10045.4.1), Scheme::Ecdsa, Some(Hash::Sha1)),
    (oid!(1.2.840.10045.4.3.2), Scheme::Ecdsa, Some(Hash::Sha256)),
    (oid!(1.2.840.10045.4.3.3), Scheme::Ecdsa, Some(Hash::Sha384)),
    (oid!(1.2.840.10045.4.3.4), Scheme::Ecdsa, Some(Hash::Sha512)),
];

const RSA_ENCRYPTION: Oid<'static> = oid!(1.2.840.113549.1.1.1);
const MGF1: Oid<'static> = oid!(1.2.840.113549.1.1.8);
const RSASSA_PSS: Oid<'static> = oid!(1.2.840.113549.1.1.10);
const EC_PUBLIC_KEY: Oid<'static> = oid!(1.2.840.10045.2.1);

impl Hash {
    /// Reads a `digestAlgorithm`.
    pub(crate) fn of(identifier: &AlgorithmIdentifier<'_>) -> Option<Self> {
        let known = DIGESTS
            .iter()
            .find(|(oid, _)| oid.as_bytes() == identifier.algorithm);
        match (known, &identifier.parameters) {
            (Some(&(_, hash)), None) => Some(hash),
            _ => None,
        }
    }

    /// As documents write it.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Md5 => "MD5",
            Self::Sha1 => "SHA-1",
            Self::Sha256 => "SHA-256",
            Self::Sha384 => "SHA-384",
            Self::Sha512 => "SHA-512",
        }
    }

    /// The digest of `bytes`; nothing for MD5, which is not computed.
    pub(crate) fn digest(self, bytes: &[u8]) -> Option<Digest> {
        self.algorithm()
            .map(|algorithm| digest::digest(algorithm, bytes))
    }

    /// How it is computed; nothing for MD5, which is not.
    pub(crate) const fn algorithm(self) -> Option<&'static digest::Algorithm> {
        match self {
            Self::Md5 => None,
            Self::Sha1 => Some(&digest::SHA1_FOR_LEGACY_USE_ONLY),
            Self::Sha256 => Some(&digest::SHA256),
            Self::Sha384 => Some(&digest::SHA384),
            Self::Sha512 => Some(&digest::SHA512),
        }
    }
}

impl SignatureAlgorithm {
    /// Reads a `signatureAlgorithm`. Parameters of ECDSA do not matter: .NET names the curve.
    pub(crate) fn of(identifier: &AlgorithmIdentifier<'_>) -> Result<Self, KeyError> {
        let parameters = identifier.parameters.as_deref();
        if identifier.algorithm == RSASSA_PSS.as_bytes() {
            let PssParameters { hash, salt_bytes } = PssParameters::of(parameters)?;
            return Ok(Self {
                scheme: Scheme::Pss { salt_bytes },
                hash: Some(hash),
            });
        }
        let known = SIGNATURES
            .iter()
            .find(|(oid, _, _)| oid.as_bytes() == identifier.algorithm);
        match known {
            Some((_, Scheme::Pkcs1, _)) if parameters.is_some() => Err(KeyError::Unsupported),
            Some(&(_, scheme, hash)) => Ok(Self { scheme, hash }),
            None => Err(KeyError::Unsupported),
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PssParameters {
    hash: Hash,
    salt_bytes: u16,
}

impl From<NotBer> for KeyError {
    fn from(_: NotBer) -> Self {
        Self::Unsupported
    }
}

impl PssParameters {
    /// The defaults of all fields.
    const DEFAULT: Self = Self {
        hash: Hash::Sha1,
        salt_bytes: 20,
    };

    /// Reads the DER of `RSASSA-PSS-params` (RFC 4055 §3.1). The mask must be MGF1 with the same
    /// hash: aws-lc takes no other, and no client sends one.
    fn of(parameters: Option<&[u8]>) -> Result<Self, KeyError> {
        let Some(parameters) = parameters else {
            return Ok(Self::DEFAULT);
        };
        let mut fields = Values::of(parameters).take(SEQUENCE)?.values();
        let hash = match fields.take_if(context(0))? {
            Some(tagged) => pss_hash(tagged)?,
            None => Self::DEFAULT.hash,
        };
        let mask_hash = match fields.take_if(context(1))? {
            Some(tagged) => mask_hash(tagged)?,
            None => Self::DEFAULT.hash,
        };
        let salt_bytes = match fields.take_if(context(2))? {
            Some(tagged) => small_number(tagged)?,
            None => Self::DEFAULT.salt_bytes,
        };
        let trailer = match fields.take_if(context(3))? {
            Some(tagged) => small_number(tagged)?,
            None => 1,
        };
        fields.end()?;
        if mask_hash != hash || trailer != 1 {
            return Err(KeyError::Unsupported);
        }
        Ok(Self { hash, salt_bytes })
    }
}

fn only<'a>(tagged: Value<'a>, identifier: u8) -> Result<Value<'a>, NotBer> {
    let mut values = tagged.values();
    let value = values.take(identifier)?;
    values.end()?;
    Ok(value)
}

fn pss_hash(tagged: Value<'_>) -> Result<Hash, KeyError> {
    let identifier = AlgorithmIdentifier::read(&only(tagged, SEQUENCE)?)?;
    Hash::of(&identifier).ok_or(KeyError::Unsupported)
}

/// The hash of MGF1.
fn mask_hash(tagged: Value<'_>) -> Result<Hash, KeyError> {
    let mut mask = only(tagged, SEQUENCE)?.values();
    let algorithm = mask.take(OBJECT_IDENTIFIER)?;
    let hash = AlgorithmIdentifier::read(&mask.take(SEQUENCE)?)?;
    mask.end()?;
    if algorithm.contents != MGF1.as_bytes() {
        return Err(KeyError::Unsupported);
    }
    Hash::of(&hash).ok_or(KeyError::Unsupported)
}

/// An INTEGER of at most 15 bits that is not negative.
fn small_number(tagged: Value<'_>) -> Result<u16, KeyError> {
    match only(tagged, INTEGER)?.contents {
        [low @ 0..0x80] => Ok(u16::from(*low)),
        [high @ 0..0x80, low] => Ok(u16::from_be_bytes([*high, *low])),
        _ => Err(KeyError::Unsupported),
    }
}

/// A public key of a supported kind.
#[derive(Debug, Clone)]
pub(crate) enum PublicKey {
    /// DER of an `RSAPublicKey` of 2048 to 8192 bits.
    Rsa {
        key: Box<[u8]>,
        only_pss: Option<OnlyPss>,
    },
    /// A point on a curve (SEC 1).
    Ec { curve: Curve, point: Box<[u8]> },
}

/// A key of the type `id-RSASSA-PSS` signs nothing else; it may pin the parameters.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OnlyPss(Option<PssParameters>);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Curve {
    P256,
    P384,
    P521,
}

impl Curve {
    const fn name(self) -> &'static str {
        match self {
            Self::P256 => "P-256",
            Self::P384 => "P-384",
            Self::P521 => "P-521",
        }
    }
}

static CURVES: [(Oid<'static>, Curve); 3] = [
    (oid!(1.2.840.10045.3.1.7), Curve::P256),
    (oid!(1.3.132.0.34), Curve::P384),
    (oid!(1.3.132.0.35), Curve::P521),
];

/// What aws-lc verifies with its parameters of 2048 to 8192 bits.
const RSA_BITS_MAX: usize = 8192;

impl PublicKey {
    /// Reads the key of a certificate.
    pub(crate) fn of(info: &SubjectPublicKeyInfo<'_>) -> Result<Self, KeyError> {
        let mut parts = Values::of(info.raw).take(SEQUENCE)?.values();
        let AlgorithmIdentifier {
            algorithm,
            parameters,
        } = AlgorithmIdentifier::read(&parts.take(SEQUENCE)?)?;
        let key = Box::from(info.subject_public_key.data.as_ref());
        if algorithm == RSA_ENCRYPTION.as_bytes() {
            return Self::rsa(key, None);
        }
        if algorithm == RSASSA_PSS.as_bytes() {
            let pinned = parameters.map(|der| PssParameters::of(Some(&der)));
            return Self::rsa(key, Some(OnlyPss(pinned.transpose()?)));
        }
        let named = parameters.as_deref().unwrap_or_default();
        let named = ber::contents(named, OBJECT_IDENTIFIER);
        match CURVES.iter().find(|(oid, _)| named == Some(oid.as_bytes())) {
            Some(&(_, curve)) if algorithm == EC_PUBLIC_KEY.as_bytes() => {
                Ok(Self::Ec { curve, point: key })
            }
            _ => Err(KeyError::Unsupported),
        }
    }

    /// Its kind and size, as `RSA 2048` and `P-256`.
    pub(crate) fn name(&self) -> String {
        match self {
            Self::Rsa { key, only_pss } => {
                let kind = only_pss.map_or("RSA", |_| "RSA-PSS");
                format!("{kind} {}", modulus_bits(key).unwrap_or_default())
            }
            Self::Ec { curve, .. } => curve.name().to_owned(),
        }
    }

    fn rsa(key: Box<[u8]>, only_pss: Option<OnlyPss>) -> Result<Self, KeyError> {
        match modulus_bits(&key).ok_or(KeyError::Unsupported)? {
            ..2048 => Err(KeyError::Weak),
            2048..=RSA_BITS_MAX => Ok(Self::Rsa { key, only_pss }),
            _ => Err(KeyError::Unsupported),
        }
    }

    /// Verifies a signature over a digest that was made with `hash`.
    pub(crate) fn verify(
        &self,
        scheme: Scheme,
        hash: Hash,
        digest: &Digest,
        signature: &[u8],
    ) -> Result<(), KeyError> {
        let verified = match (self, scheme) {
            (
                Self::Rsa {
                    key,
                    only_pss: None,
                },
                Scheme::Pkcs1,
            ) => pkcs1(hash)?.verify_digest_sig(key, digest, signature),
            (Self::Rsa { key, only_pss }, Scheme::Pss { salt_bytes }) => {
                if !only_pss.is_none_or(|only| only.admits(hash, salt_bytes)) {
                    return Err(KeyError::Unsupported);
                }
                let salt = RsaPssSaltLength::Custom(salt_bytes);
                let parameters = pss(hash)?.with_pss_salt_length(salt);
                parameters.verify_digest_sig(key, digest, signature)
            }
            (Self::Ec { curve, point }, Scheme::Ecdsa) => {
                return verify_ecdsa(*curve, point, hash, digest, signature);
            }
            _ => return Err(KeyError::Unsupported),
        };
        verified.map_err(|_| KeyError::Wrong)
    }
}

impl OnlyPss {
    fn admits(self, hash: Hash, salt_bytes: u16) -> bool {
        self.0
            .is_none_or(|pinned| pinned.hash == hash && pinned.salt_bytes <= salt_bytes)
    }
}

fn modulus_bits(key: &[u8]) -> Option<usize> {
    let ([], key) = RSAPublicKey::from_der(key).ok()? else {
        return None;
    };
    let zeros = key.modulus.iter().take_while(|&&octet| octet == 0).count();
    let significant = key.modulus.get(zeros..)?;
    let unused = significant.first()?.leading_zeros();
    significant
        .len()
        .checked_mul(8)?
        .checked_sub(usize::try_from(unused).ok()?)
}

const fn pkcs1(hash: Hash) -> Result<RsaParameters, KeyError> {
    match hash {
        Hash::Md5 => Err(KeyError::Unsupported),
        Hash::Sha1 => Ok(signature::RSA_PKCS1_2048_8192_SHA1_FOR_LEGACY_USE_ONLY),
        Hash::Sha256 => Ok(signature::RSA_PKCS1_2048_8192_SHA256),
        Hash::Sha384 => Ok(signature::RSA_PKCS1_2048_8192_SHA384),
        Hash::Sha512 => Ok(signature::RSA_PKCS1_2048_8192_SHA512),
    }
}

const fn pss(hash: Hash) -> Result<RsaParameters, KeyError> {
    match hash {
        Hash::Md5 | Hash::Sha1 => Err(KeyError::Unsupported),
        Hash::Sha256 => Ok(signature::RSA_PSS_2048_8192_SHA256),
        Hash::Sha384 => Ok(signature::RSA_PSS_2048_8192_SHA384),
        Hash::Sha512 => Ok(signature::RSA_PSS_2048_8192_SHA512),
    }
}

fn verify_ecdsa(
    curve: Curve,
    point: &[u8],
    hash: Hash,
    digest: &Digest,
    signature: &[u8],
) -> Result<(), KeyError> {
    let wrong = |_| KeyError::Wrong;
    let algorithm = match (curve, hash) {
        (_, Hash::Md5) => return Err(KeyError::Unsupported),
        (Curve::P256, Hash::Sha1) => &signature::ECDSA_P256_SHA1_ASN1,
        (Curve::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (Curve::P256, Hash::Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
        (Curve::P384, Hash::Sha1) => {
            let padded = left_padded_to_48_bytes(digest)?;
            let algorithm = &signature::ECDSA_P384_SHA384_ASN1;
            let verified = algorithm.verify_digest_sig(point, &padded, signature);
            return verified.map_err(wrong);
        }
        (Curve::P384, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (Curve::P384, Hash::Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
        (Curve::P521, Hash::Sha1) => &signature::ECDSA_P521_SHA1_ASN1,
        (Curve::P521, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (Curve::P521, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
        (Curve::P521, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
    };
    let verified = algorithm.verify_digest_sig(point, digest, signature);
    verified.map_err(wrong)
}

/// aws-lc-rs pairs P-384 with all hashes but SHA-1. ECDSA takes a digest no longer than the group
/// order as an integer (FIPS 186-5 §6.4.2), and zeros in front do not change that.
fn left_padded_to_48_bytes(digest: &Digest) -> Result<Digest, KeyError> {
    let mut padded = vec![0; 48_usize.saturating_sub(digest.as_ref().len())];
    padded.extend_from_slice(digest.as_ref());
    Digest::import_less_safe(&padded, &digest::SHA384).map_err(|_| KeyError::Unsupported)
}
