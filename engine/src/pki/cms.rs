//! CMS `SignedData` (RFC 5652) as a detached signature of one signer, in BER or DER.
//!
//! Whatever is read here, BouncyCastle reads as well: participants verify audits with it. Every
//! identifier octet is compared, sets keep the order in which they were sent (the first certificate
//! that matches counts), and certificates stay the exact bytes that were sent (they are hashed).

use std::borrow::Cow;

use x509_parser::asn1_rs::{FromDer as _, Oid, oid};
use x509_parser::time::ASN1Time;

use super::ber::identifier::{
    INTEGER, OBJECT_IDENTIFIER, OCTET_STRING, SEQUENCE, SET, context, context_primitive,
};
use super::ber::{self, Bounds, NotBer, Types, Value, Values};
use super::certificate::Certificate;
use super::structure::{AlgorithmIdentifier, Attribute, CertificateIdentity, Name};
use crate::limits;

/// Why bytes are not a detached signature of one signer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum CmsError {
    /// Not one well-formed `ContentInfo` with `SignedData`, or beyond the bounds.
    #[error("not well-formed CMS SignedData within the bounds")]
    Malformed,
    /// No `signerInfo`.
    #[error("no signerInfo")]
    NoSigner,
    /// More than one `signerInfo`.
    #[error("more than one signerInfo")]
    SeveralSigners,
    /// The content is inside (`eContent` is present).
    #[error("the content is inside the signature")]
    AttachedContent,
}

impl From<NotBer> for CmsError {
    fn from(_: NotBer) -> Self {
        Self::Malformed
    }
}

const BOUNDS: Bounds = Bounds {
    bytes_max: limits::CMS_BYTES_MAX,
    depth_max: limits::CMS_DEPTH_MAX,
    elements_max: limits::CMS_ELEMENTS_MAX,
};

const SIGNED_DATA: Oid<'static> = oid!(1.2.840.113549.1.7.2);
const CONTENT_TYPE: Oid<'static> = oid!(1.2.840.113549.1.9.3);
const MESSAGE_DIGEST: Oid<'static> = oid!(1.2.840.113549.1.9.4);
const SIGNING_TIME: Oid<'static> = oid!(1.2.840.113549.1.9.5);
const COUNTERSIGNATURE: Oid<'static> = oid!(1.2.840.113549.1.9.6);
const ALGORITHM_PROTECTION: Oid<'static> = oid!(1.2.840.113549.1.9.52);

/// Attributes that count only if they are signed (RFC 5652 §11, RFC 6211).
const SIGNED_ONLY: [Oid<'static>; 4] = [
    CONTENT_TYPE,
    MESSAGE_DIGEST,
    SIGNING_TIME,
    ALGORITHM_PROTECTION,
];

/// A `SignedData` with one signer and no content.
#[derive(Debug)]
pub struct SignedMessage<'a> {
    /// Contents of the `eContentType`.
    content_type: &'a [u8],
    /// In the order in which they were sent.
    certificates: Vec<EmbeddedCertificate<'a>>,
    signer: SignerInfo<'a>,
}

#[derive(Debug)]
struct EmbeddedCertificate<'a> {
    der: &'a [u8],
    identity: CertificateIdentity<'a>,
}

/// What the signer says about its signature.
#[derive(Debug)]
pub(crate) struct SignerInfo<'a> {
    identifier: SignerIdentifier<'a>,
    pub(crate) digest_algorithm: AlgorithmIdentifier<'a>,
    pub(crate) signature_algorithm: AlgorithmIdentifier<'a>,
    pub(crate) signed_attributes: Option<SignedAttributes>,
    signature: Cow<'a, [u8]>,
}

#[derive(Debug)]
enum SignerIdentifier<'a> {
    /// The issuer's name, contents of the serial number.
    IssuerAndSerial(Name<'a>, &'a [u8]),
    KeyIdentifier(Cow<'a, [u8]>),
}

/// Signed attributes: what the signature covers when they are there.
#[derive(Debug)]
pub(crate) struct SignedAttributes {
    /// As a DER SET OF (RFC 5652 §5.4), whatever encoding and order was sent.
    pub(crate) der: Vec<u8>,
}

/// An attribute is there more than once, does not have one value, or its value is of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttributeError;

impl From<NotBer> for AttributeError {
    fn from(_: NotBer) -> Self {
        Self
    }
}

impl<'a> SignedMessage<'a> {
    /// Reads the decoded batch signature.
    ///
    /// # Errors
    /// [`CmsError`].
    pub fn parse(bytes: &'a [u8]) -> Result<Self, CmsError> {
        ber::check(bytes, &BOUNDS, Types::ReadableByBouncyCastle)?;
        let mut signed_data = signed_data(bytes)?;
        signed_data.take(INTEGER)?;
        check_digest_algorithms(signed_data.take(SET)?)?;
        let mut content_info = signed_data.take(SEQUENCE)?.values();
        let content_type = content_info.take(OBJECT_IDENTIFIER)?.contents;
        let content = content_info.take_if(context(0))?;
        content_info.end()?;
        let certificates = signed_data.take_if(context(0))?;
        // Revocation lists are not looked at.
        signed_data.take_if(context(1))?;
        let mut signer_infos = signed_data.take(SET)?.values();
        signed_data.end()?;

        // SecReq-019: the batch itself must not travel inside the signature.
        if content.is_some() {
            return Err(CmsError::AttachedContent);
        }
        let certificates = certificates.map(read_certificates).transpose()?;
        let signer = signer_infos.next_value()?.ok_or(CmsError::NoSigner)?;
        if signer_infos.next_value()?.is_some() {
            return Err(CmsError::SeveralSigners);
        }
        Ok(Self {
            content_type,
            certificates: certificates.unwrap_or_default(),
            signer: SignerInfo::read(&signer)?,
        })
    }

    /// The first embedded certificate that is the signer's, as the reference chooses it.
    pub fn signer_certificate(&self) -> Option<Certificate<'a>> {
        let mut certificates = self.certificates.iter();
        let signers = |found: &&EmbeddedCertificate<'_>| self.signer.identifier.matches(found);
        Certificate::from_der(certificates.find(signers)?.der).ok()
    }

    /// The signature value.
    pub fn signature(&self) -> &[u8] {
        &self.signer.signature
    }

    /// What the signature covers: the DER of the signed attributes; nothing if there are none and
    /// it covers the content itself.
    pub fn signed_attributes(&self) -> Option<&[u8]> {
        let attributes = self.signer.signed_attributes.as_ref();
        attributes.map(|attributes| attributes.der.as_slice())
    }

    pub(crate) const fn signer(&self) -> &SignerInfo<'a> {
        &self.signer
    }

    /// Contents of the OBJECT IDENTIFIER of the type of the content that was signed.
    pub(crate) const fn content_type(&self) -> &[u8] {
        self.content_type
    }
}

/// The parts of the `SignedData` in a `ContentInfo`.
fn signed_data(bytes: &[u8]) -> Result<Values<'_>, NotBer> {
    let mut content_info = Values::of(bytes).take(SEQUENCE)?.values();
    let content_type = content_info.take(OBJECT_IDENTIFIER)?;
    let mut content = content_info.take(context(0))?.values();
    content_info.end()?;
    let signed_data = content.take(SEQUENCE)?.values();
    content.end()?;
    if content_type.contents == SIGNED_DATA.as_bytes() {
        Ok(signed_data)
    } else {
        Err(NotBer)
    }
}

/// The message's `digestAlgorithms` decide nothing.
fn check_digest_algorithms(set: Value<'_>) -> Result<(), NotBer> {
    let mut algorithms = set.values();
    while let Some(algorithm) = algorithms.take_if(SEQUENCE)? {
        AlgorithmIdentifier::read(&algorithm)?;
    }
    algorithms.end()
}

/// The certificates of a `CertificateSet`; formats other than X.509 are passed over.
fn read_certificates(set: Value<'_>) -> Result<Vec<EmbeddedCertificate<'_>>, NotBer> {
    let mut certificates = Vec::new();
    let mut members = set.values();
    while let Some(member) = members.next_value()? {
        match member.identifier() {
            SEQUENCE => certificates.push(EmbeddedCertificate {
                der: member.whole,
                identity: CertificateIdentity::read(&member)?,
            }),
            other if (context(0)..=context(3)).contains(&other) => {}
            _ => return Err(NotBer),
        }
    }
    Ok(certificates)
}

impl<'a> SignerInfo<'a> {
    fn read(value: &Value<'a>) -> Result<Self, NotBer> {
        if value.identifier() != SEQUENCE {
            return Err(NotBer);
        }
        let mut parts = value.values();
        parts.take(INTEGER)?;
        let identifier = SignerIdentifier::read(&parts.take_any()?)?;
        let digest_algorithm = AlgorithmIdentifier::read(&parts.take(SEQUENCE)?)?;
        let signed_attributes = parts.take_if(context(0))?;
        let signature_algorithm = AlgorithmIdentifier::read(&parts.take(SEQUENCE)?)?;
        let signature = parts.take_octets()?;
        if let Some(attributes) = parts.take_if(context(1))? {
            check_unsigned_attributes(attributes)?;
        }
        parts.end()?;
        Ok(Self {
            identifier,
            digest_algorithm,
            signature_algorithm,
            signed_attributes: signed_attributes.map(SignedAttributes::read).transpose()?,
            signature,
        })
    }
}

impl<'a> SignerIdentifier<'a> {
    fn read(value: &Value<'a>) -> Result<Self, NotBer> {
        if value.identifier() != SEQUENCE {
            let identifier = ber::octets(value, context_primitive(0))?;
            return Ok(Self::KeyIdentifier(identifier));
        }
        let mut parts = value.values();
        let issuer = Name::read(&parts.take(SEQUENCE)?)?;
        let serial = parts.take(INTEGER)?.contents;
        parts.end()?;
        Ok(Self::IssuerAndSerial(issuer, serial))
    }

    fn matches(&self, certificate: &EmbeddedCertificate<'_>) -> bool {
        match self {
            Self::IssuerAndSerial(issuer, serial) => certificate.identity.is_issued(issuer, serial),
            Self::KeyIdentifier(identifier) => certificate.identity.has_key_identifier(identifier),
        }
    }
}

/// Unsigned attributes decide nothing, but BouncyCastle reads them and refuses a message for these.
fn check_unsigned_attributes(set: Value<'_>) -> Result<(), NotBer> {
    let mut attributes = set.values();
    while let Some(attribute) = attributes.take_if(SEQUENCE)? {
        let Attribute { kind, mut values } = Attribute::read(&attribute)?;
        let signed_only = SIGNED_ONLY.iter().any(|oid| oid.as_bytes() == kind);
        if signed_only || values.next_value()?.is_none() {
            return Err(NotBer);
        }
    }
    attributes.end()
}

impl SignedAttributes {
    fn read(set: Value<'_>) -> Result<Self, NotBer> {
        let mut members = Vec::new();
        let mut attributes = set.values();
        while let Some(attribute) = attributes.take_if(SEQUENCE)? {
            Attribute::read(&attribute)?;
            members.push(ber::to_der(attribute.whole)?);
        }
        attributes.end()?;
        Ok(Self {
            der: ber::set_of(members),
        })
    }

    /// The only value of the only attribute of that kind.
    fn only(&self, kind: &Oid<'_>) -> Result<Option<Value<'_>>, AttributeError> {
        let mut found = None;
        let mut attributes = Values::of(&self.der).take(SET)?.values();
        while let Some(attribute) = attributes.next_value()? {
            let mut attribute = Attribute::read(&attribute)?;
            if attribute.kind != kind.as_bytes() {
                continue;
            }
            let value = attribute.values.take_any()?;
            attribute.values.end()?;
            if found.replace(value).is_some() {
                return Err(AttributeError);
            }
        }
        Ok(found)
    }

    /// Contents of the `contentType` attribute's value.
    pub(crate) fn content_type(&self) -> Result<&[u8], AttributeError> {
        let value = self.only(&CONTENT_TYPE)?.ok_or(AttributeError)?;
        ber::contents(value.whole, OBJECT_IDENTIFIER).ok_or(AttributeError)
    }

    /// The digest in the `messageDigest` attribute.
    pub(crate) fn message_digest(&self) -> Result<&[u8], AttributeError> {
        let value = self.only(&MESSAGE_DIGEST)?.ok_or(AttributeError)?;
        ber::contents(value.whole, OCTET_STRING).ok_or(AttributeError)
    }

    /// The `signingTime` attribute, in seconds since the Unix epoch, if there is one.
    pub(crate) fn signing_time(&self) -> Result<Option<i64>, AttributeError> {
        let Some(value) = self.only(&SIGNING_TIME)? else {
            return Ok(None);
        };
        match ASN1Time::from_der(value.whole) {
            Ok(([], time)) => Ok(Some(time.timestamp())),
            _ => Err(AttributeError),
        }
    }

    /// Checks that no countersignature is among them (RFC 5652 §11.4).
    pub(crate) fn check_countersignature(&self) -> Result<(), AttributeError> {
        match self.only(&COUNTERSIGNATURE)? {
            None => Ok(()),
            Some(_) => Err(AttributeError),
        }
    }

    /// Checks the `cmsAlgorithmProtection` attribute (RFC 6211), if there is one, against what the
    /// signer says outside the attributes.
    pub(crate) fn check_algorithm_protection(
        &self,
        signer: &SignerInfo<'_>,
    ) -> Result<(), AttributeError> {
        let Some(value) = self.only(&ALGORITHM_PROTECTION)? else {
            return Ok(());
        };
        if value.identifier() != SEQUENCE {
            return Err(AttributeError);
        }
        let mut protected = value.values();
        let digest_algorithm = AlgorithmIdentifier::read(&protected.take(SEQUENCE)?)?;
        let signature_algorithm = AlgorithmIdentifier::read(&protected.take(context(1))?)?;
        protected.end()?;
        let matches = digest_algorithm == signer.digest_algorithm
            && signature_algorithm == signer.signature_algorithm;
        if matches { Ok(()) } else { Err(AttributeError) }
    }
}
