//! Digests: kinds that must not be confused.

use std::fmt;

/// SHA-256 over a certificate's DER: 32 bytes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Thumbprint(pub [u8; 32]);

/// SHA-256 over an upload's ordered canonical text. Tells a replay from a different content under
/// a taken upload tag (decision 3).
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct ContentDigest(pub [u8; 32]);

/// Keyed 128-bit hash of one key's canonical text. Reveals nothing about the key without the
/// installation's identity key.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct KeyIdentity(pub [u8; 16]);

/// SHA-256 over the columns that identify a row of the log or a download batch: what a gateway
/// remembers of it outside the database.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct RowDigest(pub [u8; 32]);

impl ContentDigest {
    /// 64 lower-case hexadecimal digits, for the uploader itself: not `Display`, which would bring
    /// it into log lines.
    pub fn to_hex(&self) -> String {
        Thumbprint(self.0).to_string()
    }
}

impl RowDigest {
    /// A digest as SHA-256 gives it.
    pub(crate) fn of(sha256: &[u8]) -> Self {
        Self(sha256.try_into().expect("SHA-256 gives 32 bytes"))
    }

    /// Reads 64 hexadecimal digits.
    pub(crate) fn parse_hex(text: &str) -> Option<Self> {
        Thumbprint::parse_hex(text)
            .ok()
            .map(|Thumbprint(bytes)| Self(bytes))
    }
}

/// 64 lower-case hexadecimal digits.
impl fmt::Display for RowDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&Thumbprint(self.0), f)
    }
}

impl fmt::Debug for RowDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a thumbprint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a thumbprint is 64 hexadecimal digits")]
pub struct ThumbprintError;

impl Thumbprint {
    /// Reads 64 hexadecimal digits, in any letter case.
    ///
    /// # Errors
    /// When the text is anything else.
    pub fn parse_hex(text: &str) -> Result<Self, ThumbprintError> {
        let digits = text.as_bytes();
        if digits.len() != 64 {
            return Err(ThumbprintError);
        }
        let mut bytes = [0; 32];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let high = (pair[0] as char).to_digit(16).ok_or(ThumbprintError)?;
            let low = (pair[1] as char).to_digit(16).ok_or(ThumbprintError)?;
            *byte = u8::try_from(high * 16 + low).map_err(|_| ThumbprintError)?;
        }
        Ok(Self(bytes))
    }

    /// The form that the reference stores and emits: lower-case hex without leading zero digits,
    /// padded to 64 only when 63 remain (wire §4.1, defect A-1). FI compares it.
    pub fn legacy_hex(&self) -> String {
        let full = self.to_string();
        match full.trim_start_matches('0') {
            stripped if stripped.len() >= 63 => full,
            stripped => stripped.to_owned(),
        }
    }
}

/// 64 lower-case hexadecimal digits.
impl fmt::Display for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

impl fmt::Debug for Thumbprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Does not show the digest: it is derived from key data.
impl fmt::Debug for ContentDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ContentDigest(..)")
    }
}

/// Does not show the identity: it is derived from key data.
impl fmt::Debug for KeyIdentity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("KeyIdentity(..)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_hex_of_any_case_and_writes_lower_case() {
        let text = "00aB".repeat(16);
        assert_eq!(
            Thumbprint::parse_hex(&text).unwrap().to_string(),
            "00ab".repeat(16)
        );
        for text in ["", "0", &"g0".repeat(32), &"00".repeat(31), &"é".repeat(32)] {
            assert_eq!(
                Thumbprint::parse_hex(text),
                Err(ThumbprintError),
                "{text:?}"
            );
        }
    }

    #[test]
    fn strips_leading_zeros_in_the_legacy_form_as_the_reference_does() {
        let hex = |text: String| Thumbprint::parse_hex(&text).unwrap().legacy_hex();
        assert_eq!(hex("ab".repeat(32)), "ab".repeat(32));
        assert_eq!(
            hex(format!("0{}", "a".repeat(63))),
            format!("0{}", "a".repeat(63))
        );
        assert_eq!(hex(format!("00{}", "a".repeat(62))), "a".repeat(62));
        assert_eq!(hex(format!("000{}", "a".repeat(61))), "a".repeat(61));
    }
}
