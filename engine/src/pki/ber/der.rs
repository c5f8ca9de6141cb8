//! From BER to DER.

use super::value::identifier::{OCTET_STRING, OCTET_STRING_IN_SEGMENTS, SET};
use super::value::{END_OF_CONTENTS, Header, NotBer, contents, read_header, split};

/// The DER of one BER value that passed [`super::check::check()`]: definite shortest lengths, OCTET STRINGs in one
/// piece, sets in order.
///
/// Values of a type that needs more than that (a BOOLEAN other than 0xff) are left as they are.
pub(in crate::pki) fn to_der(bytes: &[u8]) -> Result<Vec<u8>, NotBer> {
    let mut der = Vec::with_capacity(bytes.len());
    let rest = push_der(&mut der, bytes)?;
    if rest.is_empty() {
        Ok(der)
    } else {
        Err(NotBer)
    }
}

/// The DER of a SET OF with these members, given in DER.
pub(in crate::pki) fn set_of(mut members: Vec<Vec<u8>>) -> Vec<u8> {
    members.sort_unstable();
    let mut der = Vec::new();
    push_value(&mut der, &[SET], &members.concat());
    der
}

/// Appends the DER of the first value of `bytes`; returns what follows it. Recursion is bounded by
/// the depth that [`super::check::check()`] let pass.
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
        [OCTET_STRING_IN_SEGMENTS] => {
            push_value(der, &[OCTET_STRING], &join_segments(&children)?);
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

fn join_segments(segments: &[Vec<u8>]) -> Result<Vec<u8>, NotBer> {
    let mut joined = Vec::new();
    for segment in segments {
        let octets = contents(segment, OCTET_STRING).ok_or(NotBer)?;
        joined.extend_from_slice(octets);
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
    use super::*;

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
}
