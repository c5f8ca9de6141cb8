//! Which parts of a batch signature are neither signed nor decisive: a change there, and only
//! there, leaves the signature good. Found by a walk over BER of its own.

use std::ops::Range;

/// A part by its name in RFC 5652, and where it stands.
pub(crate) type Part = (&'static str, Range<usize>);

const SEQUENCE: u8 = 0x30;
const CONTEXT_0: u8 = 0xa0;
const CONTEXT_1: u8 = 0xa1;

struct Element {
    identifier: u8,
    whole: Range<usize>,
    contents: Range<usize>,
}

/// The element that begins at a position.
fn element(message: &[u8], start: usize) -> Element {
    let (length, header) = match message[start + 1] {
        0x80 => (None, 2),
        long @ 0x81.. => {
            let octets = &message[start + 2..][..usize::from(long - 0x80)];
            let length = octets.iter().fold(0, |sum, &o| sum << 8 | usize::from(o));
            (Some(length), octets.len() + 2)
        }
        short => (Some(usize::from(short)), 2),
    };
    let first = start + header;
    let (last, end) = match length {
        Some(length) => (first + length, first + length),
        None => {
            let mut at = first;
            while message[at..at + 2] != [0, 0] {
                at = element(message, at).whole.end;
            }
            (at, at + 2)
        }
    };
    Element {
        identifier: message[start],
        whole: start..end,
        contents: first..last,
    }
}

fn children(message: &[u8], parent: &Element) -> Vec<Element> {
    let mut all = Vec::new();
    let mut at = parent.contents.start;
    while at < parent.contents.end {
        let child = element(message, at);
        at = child.whole.end;
        all.push(child);
    }
    all
}

/// The unsigned parts of a message with one signer, whose certificate is given.
pub(crate) fn unsigned_parts(message: &[u8], certificate: &[u8]) -> Vec<Part> {
    let content_info = children(message, &element(message, 0));
    let signed_data = children(message, &children(message, &content_info[1])[0]);
    let [version, digest_algorithms, encapsulated, .., signer_infos] = signed_data.as_slice()
    else {
        panic!("not SignedData");
    };
    let mut parts = vec![
        ("version", version.contents.clone()),
        ("digestAlgorithms", digest_algorithms.whole.clone()),
    ];
    for field in &signed_data[3..signed_data.len() - 1] {
        match field.identifier {
            CONTEXT_0 => parts.extend(other_certificates(message, field, certificate)),
            _ => parts.push(("crls", field.contents.clone())),
        }
    }
    let content_type = children(message, encapsulated)[0].contents.clone();
    let signer = &children(message, signer_infos)[0];
    parts.extend(parts_of_signer(message, signer, content_type));
    parts
}

/// All certificates but the signer's. If that is there twice, either copy will do.
fn other_certificates(message: &[u8], set: &Element, certificate: &[u8]) -> Vec<Part> {
    let all = children(message, set);
    let is_signers = |member: &Element| message[member.whole.clone()] == *certificate;
    let copies = all.iter().filter(|member| is_signers(member)).count();
    assert!(copies > 0, "the signer's certificate is inside");
    let others = all
        .into_iter()
        .filter(|member| copies > 1 || !is_signers(member));
    others
        .map(|other| ("another certificate", other.whole))
        .collect()
}

fn parts_of_signer(message: &[u8], signer: &Element, content_type: Range<usize>) -> Vec<Part> {
    let fields = children(message, signer);
    let mut parts = vec![("version of the signer", fields[0].contents.clone())];
    if fields[1].identifier == SEQUENCE {
        // Compared without letter case and type of string.
        let issuer = children(message, &fields[1])[0].contents.clone();
        parts.push(("name of the issuer", issuer));
    }
    if fields[3].identifier != CONTEXT_0 {
        // The content is signed, and digestAlgorithm tells with which hash.
        parts.push(("eContentType", content_type));
        parts.push(("signatureAlgorithm", fields[3].contents.clone()));
    }
    let unsigned = fields.iter().filter(|field| field.identifier == CONTEXT_1);
    parts.extend(unsigned.map(|field| ("unsignedAttrs", field.contents.clone())));
    parts
}
