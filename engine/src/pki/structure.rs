//! The structures that CMS messages are made of (X.509, RFC 5280, RFC 5652), each read by the
//! identifier octets of all its parts: what has another class, form or number is not read.

use std::borrow::Cow;

use super::ber::identifier::{
    BIT_STRING, BOOLEAN, GENERALIZED_TIME, INTEGER, NULL, OBJECT_IDENTIFIER, OCTET_STRING,
    SEQUENCE, SET, UTC_TIME, context, context_primitive, is_universal,
};
use super::ber::{self, NotBer, Value, Values};

/// An `AlgorithmIdentifier`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AlgorithmIdentifier<'a> {
    /// Contents of the OBJECT IDENTIFIER.
    pub(crate) algorithm: &'a [u8],
    /// DER of the parameters. NULL counts as none: signers write either for the same algorithm.
    pub(crate) parameters: Option<Cow<'a, [u8]>>,
}

impl<'a> AlgorithmIdentifier<'a> {
    /// Reads the parts of a SEQUENCE, or of what is tagged in place of one.
    pub(super) fn read(value: &Value<'a>) -> Result<Self, NotBer> {
        let mut parts = value.values();
        let algorithm = parts.take(OBJECT_IDENTIFIER)?.contents;
        let parameters = match parts.next_value()? {
            None => None,
            Some(value) if value.identifier() == NULL => None,
            Some(value) if is_universal(value.identifier()) => {
                Some(Cow::Owned(ber::to_der(value.whole)?))
            }
            Some(_) => return Err(NotBer),
        };
        parts.end()?;
        Ok(Self {
            algorithm,
            parameters,
        })
    }
}

/// An `Attribute` of a signer.
#[derive(Debug)]
pub(super) struct Attribute<'a> {
    /// Contents of the OBJECT IDENTIFIER.
    pub(super) kind: &'a [u8],
    pub(super) values: Values<'a>,
}

impl<'a> Attribute<'a> {
    pub(super) fn read(value: &Value<'a>) -> Result<Self, NotBer> {
        let mut parts = value.values();
        let kind = parts.take(OBJECT_IDENTIFIER)?.contents;
        let values = parts.take(SET)?.values();
        parts.end()?;
        Ok(Self { kind, values })
    }
}

/// A `Name`: its attributes in order.
#[derive(Debug)]
pub(super) struct Name<'a> {
    whole: &'a [u8],
    attributes: Vec<NameAttribute<'a>>,
}

#[derive(Debug)]
struct NameAttribute<'a> {
    /// The relative distinguished name that it is part of, counted from zero.
    part: usize,
    kind: &'a [u8],
    value: Value<'a>,
}

impl<'a> Name<'a> {
    /// Reads a SEQUENCE of SETs of pairs.
    pub(super) fn read(value: &Value<'a>) -> Result<Self, NotBer> {
        let mut attributes = Vec::new();
        let mut parts = value.values();
        for part in 0.. {
            let Some(relative) = parts.take_if(SET)? else {
                break;
            };
            let mut pairs = relative.values();
            while let Some(pair) = pairs.take_if(SEQUENCE)? {
                let mut pair = pair.values();
                let kind = pair.take(OBJECT_IDENTIFIER)?.contents;
                let value = pair.take_any()?;
                pair.end()?;
                if !is_universal(value.identifier()) {
                    return Err(NotBer);
                }
                attributes.push(NameAttribute { part, kind, value });
            }
            pairs.end()?;
        }
        parts.end()?;
        Ok(Self {
            whole: value.whole,
            attributes,
        })
    }

    /// Whether the names match, as bytes or as text: signers re-encode them (`PrintableString`
    /// becomes `UTF8String`), and BouncyCastle compares them so.
    fn matches(&self, other: &Name<'_>) -> bool {
        self.whole == other.whole
            || self.attributes.len() == other.attributes.len()
                && self
                    .attributes
                    .iter()
                    .zip(&other.attributes)
                    .all(|(one, two)| one.matches(two))
    }
}

impl NameAttribute<'_> {
    fn matches(&self, other: &NameAttribute<'_>) -> bool {
        let same_value = match (text(&self.value), text(&other.value)) {
            (Some(one), Some(two)) => one == two,
            (None, None) => self.value.whole == other.value.whole,
            _ => false,
        };
        self.part == other.part && self.kind == other.kind && same_value
    }
}

/// The text of a character string, letter case and spaces made even; nothing for other types, and
/// for characters that depend on the type.
fn text(value: &Value<'_>) -> Option<String> {
    let text = std::str::from_utf8(value.contents).ok()?;
    let readable = match value.identifier() {
        // UTF8String.
        0x0c => true,
        // Numeric, Printable, T61, Videotex, IA5, Graphic, Visible and General strings.
        0x12..=0x16 | 0x19..=0x1b => text.is_ascii(),
        _ => false,
    };
    readable.then(|| {
        let words: Vec<_> = text.split(' ').filter(|word| !word.is_empty()).collect();
        words.join(" ").to_ascii_lowercase()
    })
}

/// What a signer identifier is compared with in a certificate that came with a message.
#[derive(Debug)]
pub(super) struct CertificateIdentity<'a> {
    issuer: Name<'a>,
    /// Contents of the INTEGER.
    serial: &'a [u8],
    /// The subject key identifier, if the extension is there.
    key_identifier: Option<&'a [u8]>,
}

/// Extension `subjectKeyIdentifier`, 2.5.29.14.
const SUBJECT_KEY_IDENTIFIER: &[u8] = &[0x55, 0x1d, 0x0e];

impl<'a> CertificateIdentity<'a> {
    /// Reads a `Certificate`. BouncyCastle refuses a message with one, whoever's, that it cannot
    /// read.
    pub(super) fn read(value: &Value<'a>) -> Result<Self, NotBer> {
        let mut parts = value.values();
        let mut signed = parts.take(SEQUENCE)?.values();
        AlgorithmIdentifier::read(&parts.take(SEQUENCE)?)?;
        parts.take(BIT_STRING)?;
        parts.end()?;

        if let Some(version) = signed.take_if(context(0))? {
            check_only(version, INTEGER)?;
        }
        let serial = signed.take(INTEGER)?.contents;
        AlgorithmIdentifier::read(&signed.take(SEQUENCE)?)?;
        let issuer = Name::read(&signed.take(SEQUENCE)?)?;
        check_validity(&signed.take(SEQUENCE)?)?;
        let _subject = Name::read(&signed.take(SEQUENCE)?)?;
        let mut key = signed.take(SEQUENCE)?.values();
        AlgorithmIdentifier::read(&key.take(SEQUENCE)?)?;
        key.take(BIT_STRING)?;
        key.end()?;
        signed.take_if(context_primitive(1))?;
        signed.take_if(context_primitive(2))?;
        let key_identifier = match signed.take_if(context(3))? {
            Some(extensions) => read_extensions(&extensions)?,
            None => None,
        };
        signed.end()?;
        Ok(Self {
            issuer,
            serial,
            key_identifier,
        })
    }

    /// Whether this is the certificate with that issuer and serial number (contents of the
    /// INTEGER). It only says which certificate is meant; nothing is trusted for it.
    pub(super) fn is_issued(&self, issuer: &Name<'_>, serial: &[u8]) -> bool {
        self.serial == serial && self.issuer.matches(issuer)
    }

    /// Whether the certificate has that subject key identifier as extension.
    pub(super) fn has_key_identifier(&self, identifier: &[u8]) -> bool {
        self.key_identifier == Some(identifier)
    }
}

fn check_only(tagged: Value<'_>, identifier: u8) -> Result<(), NotBer> {
    let mut values = tagged.values();
    values.take(identifier)?;
    values.end()
}

fn check_validity(validity: &Value<'_>) -> Result<(), NotBer> {
    let mut times = validity.values();
    for _ in 0..2 {
        if times.take_if(UTC_TIME)?.is_none() {
            times.take(GENERALIZED_TIME)?;
        }
    }
    times.end()
}

/// Reads all extensions; returns the subject key identifier.
fn read_extensions<'a>(tagged: &Value<'a>) -> Result<Option<&'a [u8]>, NotBer> {
    let mut tagged = tagged.values();
    let mut extensions = tagged.take(SEQUENCE)?.values();
    tagged.end()?;
    let mut found = None;
    while let Some(extension) = extensions.take_if(SEQUENCE)? {
        let mut parts = extension.values();
        let kind = parts.take(OBJECT_IDENTIFIER)?.contents;
        parts.take_if(BOOLEAN)?;
        let value = parts.take(OCTET_STRING)?.contents;
        parts.end()?;
        if kind == SUBJECT_KEY_IDENTIFIER && found.is_none() {
            found = ber::contents(value, OCTET_STRING);
        }
    }
    extensions.end()?;
    Ok(found)
}
