//! Rows of a reference database with columns that anybody may have written, for fuzzing.

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::column::{Columns, VECTOR};
use super::upload::{VerificationContext, read_upload};
use crate::domain::{Country, UnixMillis};
use crate::seal::Keys;
use crate::store::ReferenceKey;
use crate::trust::Trust;

const PASSWORD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";

/// Reads the plain contents of a key's eight columns, parted by line breaks, as an import does: once
/// encrypted, as the reference stores them, and once as they are.
///
/// # Panics
/// When a key is taken whose hash is not there.
pub fn columns(trust: &Trust, keys: &Keys, bytes: &[u8]) {
    let opened = Columns::new(PASSWORD).expect("32 characters");
    let encrypted = |column: &[u8]| encrypt(column);
    let plain = |column: &[u8]| String::from_utf8_lossy(column).into_owned();
    for write in [&encrypted as &dyn Fn(&[u8]) -> String, &plain] {
        let mut columns = bytes.split(|byte| *byte == b'\n');
        let payload = std::array::from_fn(|_| columns.next().map(write).unwrap_or_default());
        let row = ReferenceKey {
            id: 1,
            created_at: UnixMillis(0),
            payload_hash: String::new(),
            payload,
        };
        let context = VerificationContext {
            country: Country::parse("DE").expect("a country"),
            batch_signature: "",
            trust,
            keys,
        };
        let read = read_upload(&[row], &opened, &context);
        assert!(read.is_err(), "the hash is missing");
    }
}

fn encrypt(plain: &[u8]) -> String {
    let key = UnboundCipherKey::new(&AES_256, PASSWORD.as_bytes()).expect("a key");
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).expect("CBC");
    let mut bytes = plain.to_vec();
    let context = EncryptionContext::Iv128(FixedLength::from(VECTOR));
    key.less_safe_encrypt(&mut bytes, context)
        .expect("encrypted");
    STANDARD.encode(bytes)
}
