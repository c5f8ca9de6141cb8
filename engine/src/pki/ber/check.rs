//! Bounds on what is read, checked before anything is.

use super::value::{
    CONSTRUCTED, END_OF_CONTENTS, Header, LONG_NUMBER, NotBer, identifier, read_header, split,
};

/// What a value may be made of.
#[derive(Debug, Clone, Copy)]
pub(in crate::pki) struct Bounds {
    pub(in crate::pki) bytes_max: usize,
    pub(in crate::pki) depth_max: usize,
    pub(in crate::pki) elements_max: usize,
}

/// Whether the universal types of the values are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(in crate::pki) enum Types {
    /// No: the code that reads a value checks its type.
    Any,
    /// BouncyCastle, which participants verify with, reads a message as a tree before it looks
    /// for anything in it, and refuses it for one value anywhere that it cannot read.
    ReadableByBouncyCastle,
}

/// A constructed value whose contents are being walked.
struct Open {
    /// How much of the input remains where it ends at the latest.
    end: usize,
    indefinite: bool,
    /// An OCTET STRING in segments, which are OCTET STRINGs.
    segments: bool,
}

/// Checks that the bytes are exactly one value within the bounds, each constructed value filled
/// exactly by its contents. Walks once, without recursion: hostile nesting costs no stack.
pub(in crate::pki) fn check(bytes: &[u8], bounds: &Bounds, types: Types) -> Result<(), NotBer> {
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
        if types == Types::ReadableByBouncyCastle {
            check_type(&header, contents, open.last())?;
        }
        rest = contents;
        if !header.constructed {
            rest = split(contents, header.length.ok_or(NotBer)?)?.1;
        } else if open.len() < bounds.depth_max {
            open.push(Open {
                end,
                indefinite: header.length.is_none(),
                segments: header.identifier == [identifier::OCTET_STRING_IN_SEGMENTS],
            });
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

/// Leaves every constructed value that ends here; returns what follows.
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

/// Checks that a value has a type, form and contents that BouncyCastle 1.78 reads. `after` begins
/// with its contents.
///
/// Stricter than BouncyCastle where nobody sends it: EXTERNAL, and BIT STRINGs in segments.
fn check_type(header: &Header<'_>, after: &[u8], outer: Option<&Open>) -> Result<(), NotBer> {
    let &first = header.identifier.first().ok_or(NotBer)?;
    let is_octets = matches!(
        first,
        identifier::OCTET_STRING | identifier::OCTET_STRING_IN_SEGMENTS
    );
    let readable = if outer.is_some_and(|outer| outer.segments) && !is_octets {
        false
    } else if !identifier::is_universal(first) {
        // Long identifiers are for numbers that a short one has no room for.
        header
            .identifier
            .get(1)
            .is_none_or(|&next| (LONG_NUMBER..0x80).contains(&next) || next > 0x80)
    } else if first & CONSTRUCTED != 0 {
        matches!(
            first,
            identifier::SEQUENCE | identifier::SET | identifier::OCTET_STRING_IN_SEGMENTS
        )
    } else {
        let length = header.length.ok_or(NotBer)?;
        is_readable_primitive(first, split(after, length)?.0)
    };
    if readable { Ok(()) } else { Err(NotBer) }
}

fn is_readable_primitive(first: u8, contents: &[u8]) -> bool {
    match first {
        identifier::BOOLEAN => contents.len() == 1,
        identifier::INTEGER => is_shortest_integer(contents),
        identifier::BIT_STRING => match contents {
            [0] => true,
            [unused, _, ..] => *unused < 8,
            _ => false,
        },
        identifier::NULL => contents.is_empty(),
        identifier::OBJECT_IDENTIFIER | 0x0d => is_object_identifier(contents),
        // ENUMERATED.
        0x0a => is_shortest_integer(contents) && contents.first().is_some_and(|&sign| sign < 0x80),
        identifier::UTC_TIME => begins_with_digits(contents, 2),
        identifier::GENERALIZED_TIME => begins_with_digits(contents, 4),
        // BMPString.
        0x1e => contents.len().is_multiple_of(2),
        identifier::OCTET_STRING => true,
        // ObjectDescriptor and character strings.
        0x07 | 0x0c | 0x12..=0x16 | 0x19..=0x1c => true,
        _ => false,
    }
}

/// Without a first octet that only repeats the sign (X.690 §8.3.2).
fn is_shortest_integer(contents: &[u8]) -> bool {
    match contents {
        [] => false,
        [_] => true,
        [first, second, ..] => !matches!((first, second), (0x00, 0x00..0x80) | (0xff, 0x80..)),
    }
}

/// Subidentifiers that are whole and have no leading zeros (X.690 §8.19.2).
fn is_object_identifier(contents: &[u8]) -> bool {
    let ends = |octet: &u8| octet & 0x80 == 0;
    contents.last().is_some_and(ends)
        && contents
            .split_inclusive(ends)
            .all(|s| s.first() != Some(&0x80))
}

fn begins_with_digits(contents: &[u8], count: usize) -> bool {
    contents
        .get(..count)
        .is_some_and(|digits| digits.iter().all(u8::is_ascii_digit))
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
            assert_eq!(check(whole, &BOUNDS, Types::Any), Ok(()), "{whole:02x?}");
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
            assert_eq!(
                check(broken, &BOUNDS, Types::Any),
                Err(NotBer),
                "{broken:02x?}"
            );
        }
        assert_eq!(check(&[0x24; 50_000], &BOUNDS, Types::Any), Err(NotBer));
    }

    fn readable(bytes: &[u8]) -> bool {
        check(bytes, &BOUNDS, Types::ReadableByBouncyCastle).is_ok()
    }

    #[test]
    fn takes_only_types_that_bouncy_castle_reads() {
        for good in [
            &[0x05, 0x00][..],
            &[0x01, 0x01, 0x00],
            &[0x02, 0x01, 0x80],
            &[0x02, 0x02, 0x00, 0x80],
            &[0x03, 0x01, 0x00],
            &[0x03, 0x02, 0x07, 0x80],
            &[0x06, 0x02, 0x81, 0x01],
            &[0x0c, 0x00],
            &[0x17, 0x02, b'2', b'1'],
            &[0x24, 0x03, 0x04, 0x01, 0x00],
            &[0x24, 0x80, 0x24, 0x02, 0x04, 0x00, 0, 0],
            &[0x31, 0x02, 0x45, 0x00],
            &[0x9f, 0x1f, 0x00],
        ] {
            assert!(readable(good), "{good:02x?}");
        }
        for bad in [
            // Forms that the types do not have.
            &[0x10, 0x00][..],
            &[0x11, 0x00],
            &[0x25, 0x00],
            &[0x26, 0x00],
            &[0x2c, 0x00],
            &[0x23, 0x00],
            // Numbers without a type, or in more octets than it takes.
            &[0x09, 0x00],
            &[0x0e, 0x00],
            &[0x0f, 0x00],
            &[0x1d, 0x00],
            &[0x32, 0x00],
            &[0x1f, 0x22, 0x00],
            &[0x9f, 0x1e, 0x00],
            &[0x9f, 0x80, 0x22, 0x00],
            // Contents that the types do not have.
            &[0x01, 0x00],
            &[0x02, 0x00],
            &[0x02, 0x02, 0x00, 0x7f],
            &[0x02, 0x02, 0xff, 0x80],
            &[0x03, 0x00],
            &[0x03, 0x01, 0x01],
            &[0x03, 0x02, 0x08, 0x00],
            &[0x05, 0x01, 0x00],
            &[0x06, 0x00],
            &[0x06, 0x01, 0x80],
            &[0x06, 0x02, 0x80, 0x01],
            &[0x0a, 0x01, 0x80],
            &[0x17, 0x02, b'D', b'E'],
            &[0x18, 0x03, b'2', b'0', b'2'],
            &[0x1e, 0x01, 0x00],
            // Segments that are not OCTET STRINGs.
            &[0x24, 0x02, 0x0c, 0x00],
            &[0x24, 0x80, 0x80, 0x00, 0, 0],
        ] {
            assert!(!readable(bad), "{bad:02x?}");
            // Wherever it stands.
            let length = u8::try_from(bad.len()).unwrap();
            for outer in [0x30, 0x31, 0xa1] {
                assert!(!readable(&[&[outer, length], bad].concat()), "{bad:02x?}");
            }
        }
    }

    proptest! {
        #[test]
        fn survives_any_bytes(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            if check(&bytes, &BOUNDS, Types::Any).is_ok() {
                let _der = crate::pki::ber::to_der(&bytes);
            }
        }
    }
}
