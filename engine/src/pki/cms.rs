//! CMS `SignedData` (RFC 5652) as a detached signature of one signer, in BER or DER.
//!
//! The structures are our own and not `rasn-cms`', for three reasons: certificates stay the exact
//! bytes that were sent (they are hashed); sets keep the sent order (the first certificate that
//! matches counts); and what does not matter is not parsed (revocation lists, unsigned attributes).

use rasn::types::{Any, ObjectIdentifier, OctetString};
use rasn::{AsnType, Decode, Decoder};
use x509_parser::asn1_rs::{self, FromDer as _, Oid, Tag, oid};
use x509_parser::time::ASN1Time;
use x509_parser::x509::AlgorithmIdentifier;

use super::ber::{self, Bounds, NotBer};
use super::certificate::Certificate;
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

const SEQUENCE: u8 = 0x30;
const SIGNED_DATA: &[u32] = &[1, 2, 840, 113_549, 1, 7, 2];
const CONTENT_TYPE: Oid<'static> = oid!(1.2.840.113549.1.9.3);
const MESSAGE_DIGEST: Oid<'static> = oid!(1.2.840.113549.1.9.4);
const SIGNING_TIME: Oid<'static> = oid!(1.2.840.113549.1.9.5);
const ALGORITHM_PROTECTION: Oid<'static> = oid!(1.2.840.113549.1.9.52);

/// A `SignedData` with one signer and no content.
#[derive(Debug)]
pub struct SignedMessage {
    /// DER of the `eContentType`.
    content_type: Vec<u8>,
    /// As sent, in the sent order. Other formats of certificates may be among them.
    certificates: Vec<Vec<u8>>,
    signer: SignerInfo,
}

/// What the signer says about its signature.
#[derive(Debug)]
pub(crate) struct SignerInfo {
    identifier: SignerIdentifier,
    digest_algorithm: Vec<u8>,
    signature_algorithm: Vec<u8>,
    pub(crate) signed_attributes: Option<SignedAttributes>,
    pub(crate) signature: Vec<u8>,
}

#[derive(Debug)]
enum SignerIdentifier {
    /// DER of the issuer's name, contents of the serial number.
    IssuerAndSerial(Vec<u8>, Vec<u8>),
    KeyIdentifier(Vec<u8>),
}

/// Signed attributes: what the signature covers when they are there.
#[derive(Debug)]
pub(crate) struct SignedAttributes {
    /// As a DER SET OF (RFC 5652 §5.4), whatever the encoding and order that was sent.
    pub(crate) der: Vec<u8>,
    attributes: Vec<asn1::Attribute>,
}

/// An attribute is there more than once, has not one value, or its value is of another type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AttributeError;

impl SignedMessage {
    /// Reads the decoded batch signature.
    ///
    /// # Errors
    /// [`CmsError`].
    pub fn parse(bytes: &[u8]) -> Result<Self, CmsError> {
        ber::check(bytes, &BOUNDS)?;
        let content_info: asn1::ContentInfo =
            rasn::ber::decode(bytes).map_err(|_| CmsError::Malformed)?;
        if *content_info.content_type != *SIGNED_DATA {
            return Err(CmsError::Malformed);
        }
        let asn1::SignedData {
            content_info,
            certificates,
            mut signer_infos,
            ..
        } = content_info.content;
        // SecReq-019: the batch itself must not travel inside the signature.
        if content_info.content.is_some() {
            return Err(CmsError::AttachedContent);
        }
        let signer = match (signer_infos.pop(), signer_infos.is_empty()) {
            (None, _) => return Err(CmsError::NoSigner),
            (Some(_), false) => return Err(CmsError::SeveralSigners),
            (Some(only), true) => SignerInfo::parse(only.as_bytes())?,
        };
        let certificates = certificates.unwrap_or_default();
        Ok(Self {
            content_type: ber::to_der(content_info.content_type.as_bytes())?,
            certificates: certificates.into_iter().map(Any::into_bytes).collect(),
            signer,
        })
    }

    /// The first embedded certificate that is the signer's, as the reference chooses it. Those that
    /// cannot be read are passed over: a strange certificate of a chain is nobody's concern.
    pub fn signer_certificate(&self) -> Option<Certificate<'_>> {
        let certificates = self.certificates.iter();
        certificates
            .filter_map(|der| Certificate::from_der(der).ok())
            .find(|certificate| self.signer.identifier.matches(certificate))
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

    pub(crate) const fn signer(&self) -> &SignerInfo {
        &self.signer
    }

    /// DER of the type of the content that was signed.
    pub(crate) fn content_type(&self) -> &[u8] {
        &self.content_type
    }
}

impl SignerInfo {
    fn parse(bytes: &[u8]) -> Result<Self, CmsError> {
        let asn1::SignerInfo {
            signer,
            digest_algorithm,
            signed_attributes,
            signature_algorithm,
            signature,
            ..
        } = rasn::ber::decode(bytes).map_err(|_| CmsError::Malformed)?;
        let signed_attributes = signed_attributes.as_deref().map(SignedAttributes::parse);
        let this = Self {
            identifier: SignerIdentifier::parse(signer)?,
            digest_algorithm: ber::to_der(digest_algorithm.as_bytes())?,
            signature_algorithm: ber::to_der(signature_algorithm.as_bytes())?,
            signed_attributes: signed_attributes.transpose()?,
            signature: signature.to_vec(),
        };
        this.digest_algorithm()?;
        this.signature_algorithm()?;
        Ok(this)
    }

    pub(crate) fn digest_algorithm(&self) -> Result<AlgorithmIdentifier<'_>, CmsError> {
        algorithm_identifier(&self.digest_algorithm)
    }

    pub(crate) fn signature_algorithm(&self) -> Result<AlgorithmIdentifier<'_>, CmsError> {
        algorithm_identifier(&self.signature_algorithm)
    }
}

fn algorithm_identifier(der: &[u8]) -> Result<AlgorithmIdentifier<'_>, CmsError> {
    match AlgorithmIdentifier::from_der(der) {
        Ok(([], identifier)) => Ok(identifier),
        _ => Err(CmsError::Malformed),
    }
}

impl SignerIdentifier {
    fn parse(identifier: asn1::SignerIdentifier) -> Result<Self, CmsError> {
        match identifier {
            asn1::SignerIdentifier::IssuerAndSerial(asn1::IssuerAndSerial { issuer, serial }) => {
                let serial = ber::to_der(serial.as_bytes())?;
                let serial = ber::contents(&serial, ber::INTEGER).ok_or(CmsError::Malformed)?;
                Ok(Self::IssuerAndSerial(
                    ber::to_der(issuer.as_bytes())?,
                    serial.to_vec(),
                ))
            }
            asn1::SignerIdentifier::KeyIdentifier(identifier) => {
                Ok(Self::KeyIdentifier(identifier.to_vec()))
            }
        }
    }

    fn matches(&self, certificate: &Certificate<'_>) -> bool {
        match self {
            Self::IssuerAndSerial(issuer, serial) => certificate.is_issued(issuer, serial),
            Self::KeyIdentifier(identifier) => certificate.has_key_identifier(identifier),
        }
    }
}

impl SignedAttributes {
    fn parse(attributes: &[Any]) -> Result<Self, CmsError> {
        let members = attributes.iter().map(|any| ber::to_der(any.as_bytes()));
        let members = members.collect::<Result<Vec<_>, _>>()?;
        let attributes = members.iter().map(|der| rasn::der::decode(der));
        Ok(Self {
            attributes: attributes
                .collect::<Result<_, _>>()
                .map_err(|_| CmsError::Malformed)?,
            der: ber::set_of(members),
        })
    }

    /// The only value of the only attribute of that kind, in DER.
    fn only(&self, kind: &Oid<'_>) -> Result<Option<&[u8]>, AttributeError> {
        let mut found = self.attributes.iter().filter(|attribute| {
            let oid = ber::contents(attribute.kind.as_bytes(), ber::OBJECT_IDENTIFIER);
            oid == Some(kind.as_bytes())
        });
        match (found.next(), found.next()) {
            (None, _) => Ok(None),
            (Some(asn1::Attribute { values, .. }), None) => match values.as_slice() {
                [value] => Ok(Some(value.as_bytes())),
                _ => Err(AttributeError),
            },
            _ => Err(AttributeError),
        }
    }

    /// DER of the `contentType` attribute's value.
    pub(crate) fn content_type(&self) -> Result<&[u8], AttributeError> {
        self.only(&CONTENT_TYPE)?.ok_or(AttributeError)
    }

    /// The digest in the `messageDigest` attribute.
    pub(crate) fn message_digest(&self) -> Result<&[u8], AttributeError> {
        let value = self.only(&MESSAGE_DIGEST)?.ok_or(AttributeError)?;
        ber::contents(value, ber::OCTET_STRING).ok_or(AttributeError)
    }

    /// The `signingTime` attribute, in seconds since the Unix epoch, if there is one.
    pub(crate) fn signing_time(&self) -> Result<Option<i64>, AttributeError> {
        let Some(value) = self.only(&SIGNING_TIME)? else {
            return Ok(None);
        };
        match ASN1Time::from_der(value) {
            Ok(([], time)) => Ok(Some(time.timestamp())),
            _ => Err(AttributeError),
        }
    }

    /// Checks the `cmsAlgorithmProtection` attribute (RFC 6211), if there is one, against what the
    /// signer says outside the attributes.
    pub(crate) fn check_algorithm_protection(
        &self,
        signer: &SignerInfo,
    ) -> Result<(), AttributeError> {
        let Some(value) = self.only(&ALGORITHM_PROTECTION)? else {
            return Ok(());
        };
        let protected: asn1::AlgorithmProtection =
            rasn::der::decode(value).map_err(|_| AttributeError)?;
        let signature_algorithm = protected.signature_algorithm.ok_or(AttributeError)?;
        let signature_algorithm = ber::value(SEQUENCE, signature_algorithm.as_bytes());
        let digest_algorithm = protected.digest_algorithm.as_bytes();
        let matches = protected.mac_algorithm.is_none()
            && same_algorithm(digest_algorithm, &signer.digest_algorithm)
            && same_algorithm(&signature_algorithm, &signer.signature_algorithm);
        if matches { Ok(()) } else { Err(AttributeError) }
    }
}

/// NULL and no parameters are the same (signers write either, for the same algorithm).
fn same_algorithm(one: &[u8], other: &[u8]) -> bool {
    let (Ok(one), Ok(other)) = (algorithm_identifier(one), algorithm_identifier(other)) else {
        return false;
    };
    let parameters = |any: &Option<asn1_rs::Any<'_>>| {
        let any = any.as_ref().filter(|any| any.tag() != Tag::Null);
        any.map(|any| (any.tag(), any.data.to_vec()))
    };
    one.algorithm == other.algorithm && parameters(&one.parameters) == parameters(&other.parameters)
}

#[allow(
    dead_code,
    reason = "fields that are read over keep their place in the structure"
)]
mod asn1 {
    //! The structures of RFC 5652. `Any` is a value with its identifier and length, as sent;
    //! under a context tag it is the contents, not looked at.

    use super::{Any, AsnType, Decode, Decoder, ObjectIdentifier, OctetString};

    #[derive(Debug, AsnType, Decode)]
    pub(super) struct ContentInfo {
        pub(super) content_type: ObjectIdentifier,
        #[rasn(tag(explicit(0)))]
        pub(super) content: SignedData,
    }

    #[derive(Debug, AsnType, Decode)]
    pub(super) struct SignedData {
        pub(super) version: rasn::types::Integer,
        #[rasn(tag(universal, 17))]
        pub(super) digest_algorithms: Vec<Any>,
        pub(super) content_info: EncapsulatedContentInfo,
        #[rasn(tag(0))]
        pub(super) certificates: Option<Vec<Any>>,
        #[rasn(tag(1))]
        pub(super) revocation_lists: Option<Any>,
        #[rasn(tag(universal, 17))]
        pub(super) signer_infos: Vec<Any>,
    }

    #[derive(Debug, AsnType, Decode)]
    pub(super) struct EncapsulatedContentInfo {
        pub(super) content_type: Any,
        #[rasn(tag(explicit(0)))]
        pub(super) content: Option<Any>,
    }

    #[derive(Debug, AsnType, Decode)]
    pub(super) struct SignerInfo {
        pub(super) version: rasn::types::Integer,
        pub(super) signer: SignerIdentifier,
        pub(super) digest_algorithm: Any,
        #[rasn(tag(0))]
        pub(super) signed_attributes: Option<Vec<Any>>,
        pub(super) signature_algorithm: Any,
        pub(super) signature: OctetString,
        #[rasn(tag(1))]
        pub(super) unsigned_attributes: Option<Any>,
    }

    #[derive(Debug, AsnType, Decode)]
    #[rasn(choice)]
    pub(super) enum SignerIdentifier {
        IssuerAndSerial(IssuerAndSerial),
        #[rasn(tag(0))]
        KeyIdentifier(OctetString),
    }

    #[derive(Debug, AsnType, Decode)]
    pub(super) struct IssuerAndSerial {
        pub(super) issuer: Any,
        pub(super) serial: Any,
    }

    #[derive(Debug, AsnType, Decode)]
    pub(super) struct Attribute {
        pub(super) kind: Any,
        #[rasn(tag(universal, 17))]
        pub(super) values: Vec<Any>,
    }

    /// RFC 6211.
    #[derive(Debug, AsnType, Decode)]
    pub(super) struct AlgorithmProtection {
        pub(super) digest_algorithm: Any,
        #[rasn(tag(1))]
        pub(super) signature_algorithm: Option<Any>,
        #[rasn(tag(2))]
        pub(super) mac_algorithm: Option<Any>,
    }
}
