//! The identities of keys: keyed hashes of their canonical texts.

use std::fmt;

use siphasher::sip128::SipHasher24;

use super::secret::{SECRET_BYTES, derive};
use crate::domain::KeyIdentity;

const IDENTITY_LABEL: &[u8] = b"efgs key identity, SipHash-2-4-128";

/// Makes key identities: SipHash-2-4 with 128 bits of output, keyed with the installation's secret.
#[derive(Clone, Copy)]
pub struct IdentityHasher(SipHasher24);

impl IdentityHasher {
    pub(super) fn new(secret: &[u8; SECRET_BYTES]) -> Self {
        let derived = derive(secret, IDENTITY_LABEL);
        let key = derived.first_chunk().expect("half of 32 bytes are 16");
        Self(SipHasher24::new_with_key(key))
    }

    /// The identity of a key, from its canonical text.
    #[inline]
    pub fn identify(&self, canonical_text: &[u8]) -> KeyIdentity {
        KeyIdentity(without_zero_head(self.0.hash(canonical_text).as_bytes()))
    }
}

/// Does not show the key.
impl fmt::Debug for IdentityHasher {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("IdentityHasher(..)")
    }
}

/// The set of identities marks its empty places with zero: one hash in 2⁶⁴ gives way.
#[inline]
fn without_zero_head(mut hash: [u8; 16]) -> [u8; 16] {
    if let Some(head) = hash.first_chunk_mut::<8>()
        && u64::from_ne_bytes(*head) == 0
    {
        *head = 1u64.to_le_bytes();
    }
    hash
}

#[cfg(test)]
mod tests {
    use super::*;

    /// `vectors_sip128` of the reference implementation (veorq/SipHash): key 00 to 0f, input of
    /// 0, 1 and 63 bytes that count from 00. OpenSSL agrees: `printf '' | openssl mac -macopt
    /// hexkey:000102030405060708090a0b0c0d0e0f -macopt size:16 SIPHASH`.
    #[test]
    fn hashes_as_the_reference_implementation_does() {
        let key = [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15];
        let hasher = IdentityHasher(SipHasher24::new_with_key(&key));
        let input: Vec<u8> = (0..63).collect();
        for (bytes, expected) in [
            (0, 0xa3_81_7f_04_ba_25_a8_e6_6d_f6_72_14_c7_55_02_93_u128),
            (1, 0xda_87_c1_d8_6b_99_af_44_34_76_59_11_9b_22_fc_45),
            (63, 0x51_50_d1_77_2f_50_83_4a_50_3e_06_9a_97_3f_bd_7c),
        ] {
            let hash = hasher.identify(&input[..bytes]);
            assert_eq!(hash.0, expected.to_be_bytes(), "{bytes} bytes");
        }
    }

    #[test]
    fn gives_no_identity_whose_first_half_is_zero() {
        let mut hash = [0; 16];
        hash[15] = 5;
        let head = without_zero_head(hash);
        assert_eq!((head[0], head[15]), (1, 5));
        hash[7] = 1;
        assert_eq!(without_zero_head(hash), hash);
    }
}
