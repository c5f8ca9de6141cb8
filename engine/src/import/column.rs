//! The reference's encrypted columns: base64 of AES-CBC with PKCS#7 padding, under a key that is
//! the characters of a password and an initialisation vector that is the same everywhere.

use aws_lc_rs::cipher::{
    AES_128, AES_192, AES_256, DecryptionContext, PaddedBlockDecryptingKey, UnboundCipherKey,
};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

/// Compiled into the reference.
pub(super) const VECTOR: &[u8; 16] = b"WnU2IQhlAAN@bK~L";

/// Opens encrypted columns.
pub(super) struct Columns(PaddedBlockDecryptingKey);

impl Columns {
    /// With a password of 16, 24 or 32 bytes; nothing with another one.
    pub(super) fn new(password: &str) -> Option<Self> {
        let algorithm = match password.len() {
            16 => &AES_128,
            24 => &AES_192,
            32 => &AES_256,
            _ => return None,
        };
        let key = UnboundCipherKey::new(algorithm, password.as_bytes()).ok()?;
        PaddedBlockDecryptingKey::cbc_pkcs7(key).ok().map(Self)
    }

    /// The plain bytes of a column; nothing of an empty one. Nothing at all if it does not open.
    pub(super) fn open(&self, column: &str) -> Option<Vec<u8>> {
        if column.is_empty() {
            return Some(Vec::new());
        }
        let mut bytes = STANDARD.decode(column).ok()?;
        let context = DecryptionContext::Iv128(FixedLength::from(VECTOR));
        let plain_bytes = self.0.decrypt(&mut bytes, context).ok()?.len();
        bytes.truncate(plain_bytes);
        Some(bytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The default password, with which the examples are written.
    const DEFAULT: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

    #[test]
    fn opens_what_the_reference_has_written() {
        let columns = Columns::new(DEFAULT).unwrap();
        let key_data: Vec<u8> = (0..16).collect();
        for (column, plain) in [
            ("BeEw9IG3F9mZf2YDCLUukA==", b"DE".as_slice()),
            ("st5C1+Bhi44vynEUun+27Q==", b"144"),
            ("W1wisII6FxLS/2OBOcc6xA==", b"CONFIRMED_TEST"),
            ("SQeJ/bfB/e6EulF/uhgLBg==", b"-3"),
            ("j4IvrTnsvkQDmLghCgC8/WjUO1gFRGvfyKS4C63NNro=", &key_data),
            ("gsuj+b7/4ToON3tviY637g==", b"DE,FR"),
            ("", b""),
        ] {
            assert_eq!(columns.open(column).as_deref(), Some(plain), "{column}");
        }
    }

    #[test]
    fn refuses_what_does_not_open() {
        let columns = Columns::new(DEFAULT).unwrap();
        for column in [
            "BeEw9IG3F9mZf2YDCLUukA",
            "!",
            "AAAA",
            "AAAAAAAAAAAAAAAAAAAAAA==",
        ] {
            assert_eq!(columns.open(column), None, "{column}");
        }
        for password in ["", "short", &"a".repeat(31)] {
            assert!(Columns::new(password).is_none());
        }
        let other = Columns::new(&"b".repeat(24)).unwrap();
        assert_eq!(other.open("BeEw9IG3F9mZf2YDCLUukA=="), None);
    }
}
