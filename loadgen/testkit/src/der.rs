//! A small writer of DER, and of the indefinite lengths that BouncyCastle writes.

/// Universal and context tags that a `SignedData` needs.
pub(crate) mod tag {
    pub(crate) const INTEGER: u8 = 0x02;
    pub(crate) const OCTET_STRING: u8 = 0x04;
    pub(crate) const OBJECT_IDENTIFIER: u8 = 0x06;
    pub(crate) const UTC_TIME: u8 = 0x17;
    pub(crate) const GENERALIZED_TIME: u8 = 0x18;
    pub(crate) const SEQUENCE: u8 = 0x30;
    pub(crate) const SET: u8 = 0x31;
    pub(crate) const CONTEXT_0: u8 = 0xa0;
    pub(crate) const CONTEXT_1: u8 = 0xa1;
    pub(crate) const CONTEXT_2: u8 = 0xa2;
}

/// Object identifiers, as the content of their DER.
pub(crate) mod oid {
    /// 1.2.840.113549.1.7.1
    pub(crate) const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
    /// 1.2.840.113549.1.7.2
    pub(crate) const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
    /// 1.2.840.113549.1.9.3
    pub(crate) const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
    /// 1.2.840.113549.1.9.4
    pub(crate) const MESSAGE_DIGEST: &[u8] =
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
    /// 1.2.840.113549.1.9.5
    pub(crate) const SIGNING_TIME: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];
    /// 2.16.840.1.101.3.4.2.1
    pub(crate) const SHA256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
    /// 1.2.840.113549.1.1.1, which is what BouncyCastle and OpenSSL name in a `SignerInfo`.
    pub(crate) const RSA_ENCRYPTION: &[u8] =
        &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];
    /// 1.2.840.113549.1.1.10
    pub(crate) const RSA_PSS: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0a];
    /// 1.2.840.113549.1.1.8
    pub(crate) const MGF1: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x08];
    /// 1.2.840.10045.4.3.2
    pub(crate) const ECDSA_WITH_SHA256: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04, 0x03, 0x02];
}

/// DER of NULL.
pub(crate) const NULL: &[u8] = &[0x05, 0x00];

/// One element of definite length around the concatenated `parts`.
pub(crate) fn element(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut out = Vec::with_capacity(length + 6);
    out.push(tag);
    push_length(&mut out, length);
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out
}

/// One element of indefinite length around the concatenated `parts`: BER, not DER.
pub(crate) fn indefinite(tag: u8, parts: &[&[u8]]) -> Vec<u8> {
    let mut out = vec![tag, 0x80];
    parts.iter().for_each(|part| out.extend_from_slice(part));
    out.extend_from_slice(&[0, 0]);
    out
}

fn push_length(out: &mut Vec<u8>, length: usize) {
    let bytes = length.to_be_bytes();
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let significant = &bytes[length.leading_zeros() as usize / 8..];
            out.push(0x80 | u8::try_from(significant.len()).expect("a length has 8 bytes at most"));
            out.extend_from_slice(significant);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_short_and_long_lengths() {
        // X.690 §8.1.3.4 and §8.1.3.5.
        assert_eq!(element(tag::OCTET_STRING, &[b"ab", b"c"]), b"\x04\x03abc");
        assert_eq!(element(4, &[&[7; 127]])[..2], [4, 127]);
        assert_eq!(element(4, &[&[7; 128]])[..3], [4, 0x81, 128]);
        assert_eq!(element(4, &[&[7; 435]])[..4], [4, 0x82, 0x01, 0xb3]);
        assert_eq!(
            indefinite(tag::SEQUENCE, &[NULL]),
            b"\x30\x80\x05\x00\x00\x00"
        );
    }
}
