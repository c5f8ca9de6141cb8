//! BER values, read by their identifier octets (X.690 §8).

use std::borrow::Cow;

/// The bytes are not BER values of the expected types within the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pki) struct NotBer;

/// Identifier octets: class, form and number of a type.
pub(in crate::pki) mod identifier {
    pub(crate) const BOOLEAN: u8 = 0x01;
    pub(crate) const INTEGER: u8 = 0x02;
    /// Primitive.
    pub(crate) const BIT_STRING: u8 = 0x03;
    /// Primitive.
    pub(crate) const OCTET_STRING: u8 = 0x04;
    /// An OCTET STRING in segments.
    pub(crate) const OCTET_STRING_IN_SEGMENTS: u8 = 0x24;
    pub(crate) const NULL: u8 = 0x05;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;

    /// A context-specific tag on a primitive value.
    pub(crate) const fn context_primitive(number: u8) -> u8 {
        0x80 | number
    }

    /// A context-specific tag on a constructed value.
    pub(crate) const fn context(number: u8) -> u8 {
        0xa0 | number
    }

    /// Whether the type is one of X.680's own, and not tagged.
    pub(crate) const fn is_universal(identifier: u8) -> bool {
        identifier & 0xc0 == 0
    }
}

/// Longest identifier: a tag number of 28 bits. Real ones take one byte.
pub(super) const IDENTIFIER_BYTES_MAX: usize = 5;
/// Bit of the first identifier octet: the contents are values themselves.
pub(super) const CONSTRUCTED: u8 = 0x20;
/// Bits of the first identifier octet that say that the tag number follows.
pub(super) const LONG_NUMBER: u8 = 0x1f;
pub(super) const END_OF_CONTENTS: [u8; 2] = [0, 0];

/// Identifier and length of a value.
pub(super) struct Header<'a> {
    pub(super) identifier: &'a [u8],
    pub(super) constructed: bool,
    /// `None`: indefinite, the contents end with two zero bytes.
    pub(super) length: Option<usize>,
}

pub(super) fn read_header(bytes: &[u8]) -> Result<(Header<'_>, &[u8]), NotBer> {
    let (identifier, rest) = split_identifier(bytes)?;
    let constructed = identifier.first().is_some_and(|b| b & CONSTRUCTED != 0);
    let (&first, rest) = rest.split_first().ok_or(NotBer)?;
    let (length, rest) = match first {
        0..0x80 => (Some(usize::from(first)), rest),
        0x80 if constructed => (None, rest),
        0x80 | 0xff => return Err(NotBer),
        _ => {
            let (octets, rest) = split(rest, usize::from(first & 0x7f))?;
            (Some(long_length(octets)?), rest)
        }
    };
    let header = Header {
        identifier,
        constructed,
        length,
    };
    Ok((header, rest))
}

pub(super) fn split_identifier(bytes: &[u8]) -> Result<(&[u8], &[u8]), NotBer> {
    let length = match bytes {
        // The end of contents is not a value.
        [] | [0, ..] => return Err(NotBer),
        [first, more @ ..] if first & LONG_NUMBER == LONG_NUMBER => {
            let last = more.iter().position(|octet| octet & 0x80 == 0);
            last.ok_or(NotBer)?.saturating_add(2)
        }
        _ => 1,
    };
    if length > IDENTIFIER_BYTES_MAX {
        return Err(NotBer);
    }
    split(bytes, length)
}

/// A length in the long form. Leading zeros are legal BER.
pub(super) fn long_length(octets: &[u8]) -> Result<usize, NotBer> {
    octets.iter().try_fold(0usize, |length, &octet| {
        let shifted = length.checked_mul(256).ok_or(NotBer)?;
        Ok(shifted | usize::from(octet))
    })
}

pub(super) fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8]), NotBer> {
    bytes.split_at_checked(at).ok_or(NotBer)
}

/// One value, as it was sent.
#[derive(Debug, Clone, Copy)]
pub(in crate::pki) struct Value<'a> {
    /// Identifier, length and contents.
    pub(in crate::pki) whole: &'a [u8],
    /// The contents, without the octets that end those of indefinite length.
    pub(in crate::pki) contents: &'a [u8],
}

impl<'a> Value<'a> {
    /// The identifier octet; the first one of a long identifier, which no type has that is read
    /// here.
    pub(in crate::pki) fn identifier(&self) -> u8 {
        self.whole.first().copied().unwrap_or_default()
    }

    /// The values in a constructed one.
    pub(in crate::pki) const fn values(&self) -> Values<'a> {
        Values(self.contents)
    }

    /// The first value of `bytes`, and what follows it. Recursion is bounded by the depth that
    /// [`check`](super::check::check) let pass.
    fn read(bytes: &'a [u8]) -> Result<(Self, &'a [u8]), NotBer> {
        let (header, after) = read_header(bytes)?;
        let (contents, rest) = match header.length {
            Some(length) => split(after, length)?,
            None => split_indefinite(after)?,
        };
        let (whole, _) = split(bytes, bytes.len().saturating_sub(rest.len()))?;
        Ok((Self { whole, contents }, rest))
    }
}

/// The contents up to the end of contents that closes them, and what follows it.
pub(super) fn split_indefinite(bytes: &[u8]) -> Result<(&[u8], &[u8]), NotBer> {
    let mut inner = bytes;
    loop {
        if let Some(rest) = inner.strip_prefix(&END_OF_CONTENTS) {
            let (contents, _) = split(bytes, bytes.len().saturating_sub(inner.len()))?;
            return Ok((contents, rest));
        }
        inner = Value::read(inner)?.1;
    }
}

/// Values one after another. Each is asked for by its identifier octet: class, form and number.
#[derive(Debug, Clone)]
pub(in crate::pki) struct Values<'a>(&'a [u8]);

impl<'a> Values<'a> {
    /// The values in `bytes`, which passed [`check`](super::check::check) or came from within such.
    pub(in crate::pki) const fn of(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    /// The next value, of any type; nothing at the end.
    pub(in crate::pki) fn next_value(&mut self) -> Result<Option<Value<'a>>, NotBer> {
        if self.0.is_empty() {
            return Ok(None);
        }
        let (value, rest) = Value::read(self.0)?;
        self.0 = rest;
        Ok(Some(value))
    }

    /// The next value, of any type.
    pub(in crate::pki) fn take_any(&mut self) -> Result<Value<'a>, NotBer> {
        self.next_value()?.ok_or(NotBer)
    }

    /// The next value, which must have this identifier octet.
    pub(in crate::pki) fn take(&mut self, identifier: u8) -> Result<Value<'a>, NotBer> {
        self.take_if(identifier)?.ok_or(NotBer)
    }

    /// The next value if it has this identifier octet.
    pub(in crate::pki) fn take_if(&mut self, identifier: u8) -> Result<Option<Value<'a>>, NotBer> {
        match self.0.first() {
            Some(&next) if next == identifier => self.next_value(),
            _ => Ok(None),
        }
    }

    /// The contents of the next value, an OCTET STRING in one piece or in segments.
    pub(in crate::pki) fn take_octets(&mut self) -> Result<Cow<'a, [u8]>, NotBer> {
        octets(&self.take_any()?, identifier::OCTET_STRING)
    }

    /// Checks that no value follows.
    pub(in crate::pki) const fn end(&self) -> Result<(), NotBer> {
        if self.0.is_empty() {
            Ok(())
        } else {
            Err(NotBer)
        }
    }
}

/// The octets of a value that has `primitive` as identifier octet, or the constructed form of it
/// with OCTET STRINGs as segments.
pub(in crate::pki) fn octets<'a>(
    value: &Value<'a>,
    primitive: u8,
) -> Result<Cow<'a, [u8]>, NotBer> {
    if value.identifier() == primitive {
        return Ok(Cow::Borrowed(value.contents));
    }
    if value.identifier() != primitive | CONSTRUCTED {
        return Err(NotBer);
    }
    let mut joined = Vec::with_capacity(value.contents.len());
    let mut segments = value.values();
    while let Some(segment) = segments.next_value()? {
        joined.extend_from_slice(&octets(&segment, identifier::OCTET_STRING)?);
    }
    Ok(Cow::Owned(joined))
}

/// The contents of bytes that are exactly one primitive value with this identifier octet.
pub(in crate::pki) fn contents(bytes: &[u8], identifier: u8) -> Option<&[u8]> {
    let (header, rest) = read_header(bytes).ok()?;
    (header.identifier == [identifier] && header.length == Some(rest.len())).then_some(rest)
}
