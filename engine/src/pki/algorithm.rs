//! Signature algorithms (decision 8): which are read, and which key verifies what.

use aws_lc_rs::digest::{self, Digest};
use aws_lc_rs::signature::{self, RsaParameters, RsaPssSaltLength, VerificationAlgorithm};
use x509_parser::asn1_rs::{Any, FromDer as _, Oid, oid};
use x509_parser::public_key::RSAPublicKey;
use x509_parser::signature_algorithm::RsaSsaPssParams;
use x509_parser::x509::{AlgorithmIdentifier, SubjectPublicKeyInfo};

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
    /// `None` for bare `rsaEncryption`.
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

/// PKCS#1 v1.5 (RFC 8017) and ECDSA (X9.62). `id-ecPublicKey` is not among them: the reference
/// refuses it as signature algorithm.
static SIGNATURES: [(Oid<'static>, Scheme, Option<Hash>); 10] = [
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
    /// Reads a `digestAlgorithm`; its parameters (NULL or nothing) do not matter.
    pub(crate) fn of(identifier: &AlgorithmIdentifier<'_>) -> Option<Self> {
        let known = DIGESTS.iter().find(|(oid, _)| *oid == identifier.algorithm);
        known.map(|&(_, hash)| hash)
    }

    /// The digest of `bytes`; nothing for MD5, which is not computed.
    pub(crate) fn digest(self, bytes: &[u8]) -> Option<Digest> {
        self.algorithm()
            .map(|algorithm| digest::digest(algorithm, bytes))
    }

    const fn algorithm(self) -> Option<&'static digest::Algorithm> {
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
    /// Reads a `signatureAlgorithm`.
    pub(crate) fn of(identifier: &AlgorithmIdentifier<'_>) -> Result<Self, KeyError> {
        if identifier.algorithm == RSASSA_PSS {
            let PssParameters { hash, salt_bytes } =
                PssParameters::of(identifier.parameters.as_ref())?;
            return Ok(Self {
                scheme: Scheme::Pss { salt_bytes },
                hash: Some(hash),
            });
        }
        let known = SIGNATURES
            .iter()
            .find(|(oid, _, _)| *oid == identifier.algorithm);
        let &(_, scheme, hash) = known.ok_or(KeyError::Unsupported)?;
        Ok(Self { scheme, hash })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct PssParameters {
    hash: Hash,
    salt_bytes: u16,
}

impl PssParameters {
    /// Reads `RSASSA-PSS-params` (RFC 4055 §3.1). The mask must be MGF1 with the same hash: aws-lc
    /// takes no other, and no client sends one.
    fn of(parameters: Option<&Any<'_>>) -> Result<Self, KeyError> {
        let Some(parameters) = parameters else {
            // The defaults of all fields.
            return Ok(Self {
                hash: Hash::Sha1,
                salt_bytes: 20,
            });
        };
        let parameters =
            RsaSsaPssParams::try_from(parameters).map_err(|_| KeyError::Unsupported)?;
        let mask = parameters
            .mask_gen_algorithm()
            .map_err(|_| KeyError::Unsupported)?;
        let hash_oid = parameters.hash_algorithm_oid();
        if mask.mgf != MGF1 || mask.hash != *hash_oid || parameters.trailer_field() != 1 {
            return Err(KeyError::Unsupported);
        }
        let hash = DIGESTS.iter().find(|(oid, _)| oid == hash_oid);
        Ok(Self {
            hash: hash.ok_or(KeyError::Unsupported)?.1,
            salt_bytes: u16::try_from(parameters.salt_length())
                .map_err(|_| KeyError::Unsupported)?,
        })
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
        let AlgorithmIdentifier {
            algorithm,
            parameters,
        } = &info.algorithm;
        let key = Box::from(info.subject_public_key.data.as_ref());
        if *algorithm == RSA_ENCRYPTION {
            return Self::rsa(key, None);
        }
        if *algorithm == RSASSA_PSS {
            let pinned = parameters.as_ref().map(|any| PssParameters::of(Some(any)));
            return Self::rsa(key, Some(OnlyPss(pinned.transpose()?)));
        }
        let named = parameters.as_ref().and_then(|any| any.as_oid().ok());
        match CURVES.iter().find(|(oid, _)| named.as_ref() == Some(oid)) {
            Some(&(_, curve)) if *algorithm == EC_PUBLIC_KEY => Ok(Self::Ec { curve, point: key }),
            _ => Err(KeyError::Unsupported),
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
                verify_ecdsa(*curve, point, hash, digest, signature)?
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
) -> Result<Result<(), aws_lc_rs::error::Unspecified>, KeyError> {
    let algorithm = match (curve, hash) {
        (_, Hash::Md5) => return Err(KeyError::Unsupported),
        (Curve::P256, Hash::Sha1) => &signature::ECDSA_P256_SHA1_ASN1,
        (Curve::P256, Hash::Sha256) => &signature::ECDSA_P256_SHA256_ASN1,
        (Curve::P256, Hash::Sha384) => &signature::ECDSA_P256_SHA384_ASN1,
        (Curve::P256, Hash::Sha512) => &signature::ECDSA_P256_SHA512_ASN1,
        (Curve::P384, Hash::Sha1) => {
            let padded = left_padded_to_48_bytes(digest)?;
            let algorithm = &signature::ECDSA_P384_SHA384_ASN1;
            return Ok(algorithm.verify_digest_sig(point, &padded, signature));
        }
        (Curve::P384, Hash::Sha256) => &signature::ECDSA_P384_SHA256_ASN1,
        (Curve::P384, Hash::Sha384) => &signature::ECDSA_P384_SHA384_ASN1,
        (Curve::P384, Hash::Sha512) => &signature::ECDSA_P384_SHA512_ASN1,
        (Curve::P521, Hash::Sha1) => &signature::ECDSA_P521_SHA1_ASN1,
        (Curve::P521, Hash::Sha256) => &signature::ECDSA_P521_SHA256_ASN1,
        (Curve::P521, Hash::Sha384) => &signature::ECDSA_P521_SHA384_ASN1,
        (Curve::P521, Hash::Sha512) => &signature::ECDSA_P521_SHA512_ASN1,
    };
    Ok(algorithm.verify_digest_sig(point, digest, signature))
}

/// aws-lc-rs pairs P-384 with all hashes but SHA-1. ECDSA takes a digest no longer than the group
/// order as an integer (FIPS 186-5 §6.4.2), and zeros in front do not change that.
fn left_padded_to_48_bytes(digest: &Digest) -> Result<Digest, KeyError> {
    let mut padded = vec![0; 48_usize.saturating_sub(digest.as_ref().len())];
    padded.extend_from_slice(digest.as_ref());
    Digest::import_less_safe(&padded, &digest::SHA384).map_err(|_| KeyError::Unsupported)
}
