//! The frame of every BER value: identifier, length, contents. Bounds what may be parsed, and
//! turns BER into DER, as signed attributes are signed (RFC 5652 §5.4).

/// The bytes are not one BER value within the bounds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotBer;

/// Longest identifier: a tag number of 28 bits. Real ones take one byte.
const IDENTIFIER_BYTES_MAX: usize = 5;
/// Bit of the first identifier byte: the contents are values themselves.
const CONSTRUCTED: u8 = 0x20;
const END_OF_CONTENTS: [u8; 2] = [0, 0];
/// Identifier of a SET or SET OF.
const SET: u8 = 0x31;
/// Identifier of a primitive BIT STRING.
pub(super) const BIT_STRING: u8 = 0x03;
/// Identifier of a primitive OCTET STRING.
pub(super) const OCTET_STRING: u8 = 0x04;
/// Identifier of an INTEGER.
pub(super) const INTEGER: u8 = 0x02;
/// Identifier of an OBJECT IDENTIFIER.
pub(super) const OBJECT_IDENTIFIER: u8 = 0x06;

/// Identifier and length of a value.
struct Header<'a> {
    identifier: &'a [u8],
    constructed: bool,
    /// `None`: indefinite, the contents end with two zero bytes.
    length: Option<usize>,
}

fn read_header(bytes: &[u8]) -> Result<(Header<'_>, &[u8]), NotBer> {
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

fn split_identifier(bytes: &[u8]) -> Result<(&[u8], &[u8]), NotBer> {
    let length = match bytes {
        // The end of contents is no value.
        [] | [0, ..] => return Err(NotBer),
        [first, more @ ..] if first & 0x1f == 0x1f => {
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
fn long_length(octets: &[u8]) -> Result<usize, NotBer> {
    octets.iter().try_fold(0usize, |length, &octet| {
        let shifted = length.checked_mul(256).ok_or(NotBer)?;
        Ok(shifted | usize::from(octet))
    })
}

fn split(bytes: &[u8], at: usize) -> Result<(&[u8], &[u8]), NotBer> {
    bytes.split_at_checked(at).ok_or(NotBer)
}

/// What a value may be made of.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bounds {
    pub(super) bytes_max: usize,
    pub(super) depth_max: usize,
    pub(super) elements_max: usize,
}

/// A constructed value whose contents are being walked.
struct Open {
    /// How much of the input remains where it ends at the latest.
    end: usize,
    indefinite: bool,
}

/// Checks that the bytes are exactly one value within the bounds, each constructed value filled
/// exactly by its contents. Walks once, without recursion: hostile nesting costs no stack.
pub(super) fn check(bytes: &[u8], bounds: &Bounds) -> Result<(), NotBer> {
    if bytes.len() > bounds.bytes_max {
        return Err(NotBer);
    }
    let mut open: Vec<Open> = Vec::with_capacity(bounds.depth_max);
    let mut rest = bytes;
    for _ in 0..bounds.elements_max {
        let (header, contents) = read_header(rest)?;
        let limit = open.last().map_or(0, |outer| outer.end);
        let end = match header.length {
            Some(length) => contents.len().checked_sub(length).ok_or(NotBer)?,
            None => limit,
        };
        if contents.len() < limit || end < limit {
            return Err(NotBer);
        }
        rest = contents;
        if !header.constructed {
            rest = split(contents, header.length.ok_or(NotBer)?)?.1;
        } else if open.len() < bounds.depth_max {
            let indefinite = header.length.is_none();
            open.push(Open { end, indefinite });
        } else {
            return Err(NotBer);
        }
        rest = close_ended(&mut open, rest);
        if open.is_empty() {
            return if rest.is_empty() { Ok(()) } else { Err(NotBer) };
        }
    }
    Err(NotBer)
}

/// Leaves every constructed value that ends here; gives what follows.
fn close_ended<'a>(open: &mut Vec<Open>, mut rest: &'a [u8]) -> &'a [u8] {
    while let Some(innermost) = open.last() {
        let after = rest.strip_prefix(&END_OF_CONTENTS);
        match (innermost.indefinite, after) {
            (false, _) if rest.len() == innermost.end => {}
            // The two zero bytes must lie within the enclosing value.
            (true, Some(after)) if after.len() >= innermost.end => rest = after,
            _ => break,
        }
        open.pop();
    }
    rest
}

/// The contents of bytes that are exactly one primitive value with this identifier.
pub(super) fn contents(bytes: &[u8], identifier: u8) -> Option<&[u8]> {
    let (header, rest) = read_header(bytes).ok()?;
    (header.identifier == [identifier] && header.length == Some(rest.len())).then_some(rest)
}

/// The DER of one BER value that passed [`check`]: definite shortest lengths, strings in one
/// piece, sets in order.
///
/// Values of a type that needs more than that (a BOOLEAN other than 0xff) are left as they are.
pub(super) fn to_der(bytes: &[u8]) -> Result<Vec<u8>, NotBer> {
    let mut der = Vec::with_capacity(bytes.len());
    let rest = push_der(&mut der, bytes)?;
    if rest.is_empty() {
        Ok(der)
    } else {
        Err(NotBer)
    }
}

/// The DER of a SET OF with these members, given in DER.
pub(super) fn set_of(mut members: Vec<Vec<u8>>) -> Vec<u8> {
    members.sort_unstable();
    value(SET, &members.concat())
}

/// The DER of a value with these contents.
pub(super) fn value(identifier: u8, contents: &[u8]) -> Vec<u8> {
    let mut der = Vec::new();
    push_value(&mut der, &[identifier], contents);
    der
}

/// Appends the DER of the first value of `bytes`; gives what follows it. Recursion is bounded by
/// the depth that [`check`] let pass.
fn push_der<'a>(der: &mut Vec<u8>, bytes: &'a [u8]) -> Result<&'a [u8], NotBer> {
    let (header, rest) = read_header(bytes)?;
    if !header.constructed {
        let (contents, rest) = split(rest, header.length.ok_or(NotBer)?)?;
        push_value(der, header.identifier, contents);
        return Ok(rest);
    }
    let (mut children, rest) = children_to_der(&header, rest)?;
    match header.identifier {
        [SET] => children.sort_unstable(),
        [identifier] if is_string(*identifier) => {
            let joined = join_segments(&children, *identifier & !CONSTRUCTED)?;
            push_value(der, &[*identifier & !CONSTRUCTED], &joined);
            return Ok(rest);
        }
        _ => {}
    }
    push_value(der, header.identifier, &children.concat());
    Ok(rest)
}

/// The DER of each value in a constructed one, and what follows it.
fn children_to_der<'a>(
    header: &Header<'_>,
    rest: &'a [u8],
) -> Result<(Vec<Vec<u8>>, &'a [u8]), NotBer> {
    let (mut inner, after) = match header.length {
        Some(length) => split(rest, length)?,
        None => (rest, rest),
    };
    let mut children = Vec::new();
    loop {
        match (header.length, inner.strip_prefix(&END_OF_CONTENTS)) {
            (Some(_), _) if inner.is_empty() => return Ok((children, after)),
            (None, Some(after)) => return Ok((children, after)),
            _ => {
                let mut child = Vec::new();
                inner = push_der(&mut child, inner)?;
                children.push(child);
            }
        }
    }
}

/// Whether a constructed value is a string in pieces: OCTET STRING, the character strings, times.
/// A BIT STRING in pieces (never seen) stays in pieces: what was signed then does not verify.
const fn is_string(identifier: u8) -> bool {
    matches!(identifier, 0x24 | 0x2c | 0x32..=0x3e)
}

fn join_segments(segments: &[Vec<u8>], whole: u8) -> Result<Vec<u8>, NotBer> {
    let mut joined = Vec::new();
    for segment in segments {
        // Segments are OCTET STRINGs, or strings of the same type (X.690 §8.21.3).
        let octets = contents(segment, OCTET_STRING).or_else(|| contents(segment, whole));
        joined.extend_from_slice(octets.ok_or(NotBer)?);
    }
    Ok(joined)
}

fn push_value(der: &mut Vec<u8>, identifier: &[u8], contents: &[u8]) {
    der.extend_from_slice(identifier);
    match u8::try_from(contents.len()) {
        Ok(short @ 0..0x80) => der.push(short),
        _ => {
            let octets = contents.len().to_be_bytes();
            let zeros = octets.iter().take_while(|&&octet| octet == 0).count();
            let significant = octets.get(zeros..).unwrap_or_default();
            der.push(0x80 | u8::try_from(significant.len()).unwrap_or(u8::MAX));
            der.extend_from_slice(significant);
        }
    }
    der.extend_from_slice(contents);
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const BOUNDS: Bounds = Bounds {
        bytes_max: 1 << 20,
        depth_max: 4,
        elements_max: 8,
    };

    #[test]
    fn accepts_one_whole_value_within_its_bounds() {
        for whole in [
            &[0x05, 0x00][..],
            &[0x30, 0x80, 0x30, 0x80, 0, 0, 0, 0],
            &[0x30, 0x80, 0x04, 0x01, 0x00, 0x00, 0x00],
            &[0x30, 0x04, 0x30, 0x80, 0, 0],
            &[0x30, 0x82, 0x00, 0x02, 0x05, 0x00],
            &[
                0x30, 0x80, 0x30, 0x80, 0x30, 0x80, 0x30, 0x00, 0, 0, 0, 0, 0, 0,
            ],
        ] {
            assert_eq!(check(whole, &BOUNDS), Ok(()), "{whole:02x?}");
        }
    }

    #[test]
    fn refuses_what_is_cut_overlong_too_deep_or_followed_by_more() {
        for broken in [
            &[][..],
            &[0x30],
            &[0x30, 0x02, 0x05],
            &[0x05, 0x00, 0x00],
            &[0x30, 0x80],
            &[0x30, 0x80, 0x00],
            &[0x04, 0x80, 0x00, 0x00],
            &[0x04, 0xff],
            &[0x00, 0x00],
            &[0x30, 0x02, 0x00, 0x00],
            // A value that reaches beyond the one around it.
            &[0x30, 0x03, 0x04, 0x02, 0x00, 0x00],
            // An end of contents that lies half outside.
            &[0x30, 0x80, 0x30, 0x03, 0x30, 0x80, 0x00, 0x00, 0x00],
            // Deeper than four.
            &[0x30, 0x08, 0x30, 0x06, 0x30, 0x04, 0x30, 0x02, 0x30, 0x00],
            // More than eight values.
            &[0x30, 0x10, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0, 5, 0],
            &[0x1f, 0x81, 0x81, 0x81, 0x81, 0x01, 0x00],
        ] {
            assert_eq!(check(broken, &BOUNDS), Err(NotBer), "{broken:02x?}");
        }
        assert_eq!(check(&[0x24; 50_000], &BOUNDS), Err(NotBer));
    }

    #[test]
    fn writes_definite_shortest_lengths_joined_strings_and_ordered_sets() {
        for (ber, der) in [
            (
                &[0x30, 0x80, 0x05, 0x00, 0, 0][..],
                &[0x30, 0x02, 0x05, 0x00][..],
            ),
            (&[0x04, 0x82, 0x00, 0x01, 0x07], &[0x04, 0x01, 0x07]),
            (
                &[
                    0x24, 0x80, 0x04, 0x01, 0x01, 0x24, 0x03, 0x04, 0x01, 0x02, 0, 0,
                ],
                &[0x04, 0x02, 0x01, 0x02],
            ),
            (
                &[0x31, 0x06, 0x02, 0x01, 0x07, 0x02, 0x01, 0x03],
                &[0x31, 0x06, 0x02, 0x01, 0x03, 0x02, 0x01, 0x07],
            ),
            (
                &[0xa0, 0x80, 0xa1, 0x80, 0, 0, 0, 0],
                &[0xa0, 0x02, 0xa1, 0x00],
            ),
        ] {
            assert_eq!(to_der(ber).as_deref(), Ok(der), "{ber:02x?}");
        }
        let long = [&[0x04, 0x83, 0x00, 0x01, 0x00][..], &[7; 256]].concat();
        let expected = [&[0x04, 0x82, 0x01, 0x00][..], &[7; 256]].concat();
        assert_eq!(to_der(&long), Ok(expected));
    }

    proptest! {
        #[test]
        fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if check(&bytes, &BOUNDS).is_ok() {
                let _der = to_der(&bytes);
            }
        }
    }
}
