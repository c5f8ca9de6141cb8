//! Tests of sealing, of identities and of the key file.

use proptest::prelude::*;

use super::*;

/// Bytes 0 to 31, and 32 times 7.
const TEXT: &str = "# test\n\
    identity AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8=  # one\n\
    \n\
    sealing 3 BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n";

fn keys() -> Keys {
    Keys::parse(TEXT).unwrap()
}

#[test]
fn opens_what_it_sealed() {
    let keys = keys();
    for plain in [&b""[..], b"x", &[9; 100_000]] {
        let sealed = keys.seal(plain, b"place");
        assert_eq!(sealed.len(), plain.len() + SEAL_OVERHEAD_BYTES);
        assert_eq!(sealed[..4], [0, 0, 0, 3]);
        assert_eq!(keys.unseal(sealed, b"place").unwrap(), plain);
    }
}

#[test]
fn seals_in_one_allocation() {
    let sealed = keys().seal(&[1; 5000], b"");
    assert_eq!(sealed.capacity(), sealed.len());
}

#[test]
fn never_seals_alike() {
    let keys = keys();
    assert_ne!(keys.seal(b"same", b""), keys.seal(b"same", b""));
}

#[test]
fn refuses_every_changed_bit_and_every_truncation() {
    let keys = keys();
    let sealed = keys.seal(b"sixteen byte key", b"place");
    for at in 0..sealed.len() * 8 {
        let mut changed = sealed.clone();
        changed[at / 8] ^= 1 << (at % 8);
        let refused = keys.unseal(changed, b"place").unwrap_err();
        let of_id = at / 8 < KEY_ID_BYTES;
        assert_eq!(matches!(refused, UnsealError::UnknownKey(_)), of_id, "{at}");
    }
    for end in 0..sealed.len() {
        assert!(keys.unseal(sealed[..end].to_vec(), b"place").is_err());
    }
}

#[test]
fn refuses_another_place_and_another_key() {
    let keys = keys();
    let sealed = keys.seal(b"x", b"place");
    assert_eq!(
        keys.unseal(sealed.clone(), b"elsewhere"),
        Err(UnsealError::Broken)
    );
    let others = Keys::generate_text().replace("sealing 1", "sealing 3");
    let others = Keys::parse(&others).unwrap();
    assert_eq!(others.unseal(sealed, b"place"), Err(UnsealError::Broken));
}

#[test]
fn takes_renewed_keys_in_all_clones_if_they_open_what_is_stored() {
    let keys = keys();
    let clone = keys.clone();
    let sealed = clone.seal(b"x", b"");
    let rotated = Keys::add_sealing_key_text(TEXT).unwrap();
    let renewed = Keys::parse(&rotated).unwrap();
    keys.check_renewal(&renewed, |_| false).unwrap();
    keys.renew(&renewed);
    assert_eq!(clone.newest_sealing_key(), 4);
    assert_eq!(clone.unseal(sealed, b"").unwrap(), b"x");
    assert_eq!(renewed.unseal(clone.seal(b"y", b""), b"").unwrap(), b"y");
    let other_identity = TEXT.replace("AAEC", "BBEC");
    let other_secret = rotated.replace("BwcH", "BwcI");
    for (text, says) in [
        (TEXT, "sealing key 4 is missing"),
        (&other_secret, "sealing key 3 is missing or another"),
        (&other_identity, "the identity key is another one"),
    ] {
        let refused = keys
            .check_renewal(&Keys::parse(text).unwrap(), |_| false)
            .unwrap_err();
        assert!(refused.to_string().contains(says), "{refused}");
    }
}

#[test]
fn opens_old_batches_after_a_rotation_and_seals_with_the_new_key() {
    let old = keys();
    let text = Keys::add_sealing_key_text(TEXT.trim_end()).unwrap();
    let new = Keys::parse(&text).unwrap();
    assert!(text.starts_with(TEXT), "nothing is lost");
    assert_eq!((old.newest_sealing_key(), new.newest_sealing_key()), (3, 4));
    assert_eq!(new.unseal(old.seal(b"x", b""), b"").unwrap(), b"x");
    let sealed = new.seal(b"x", b"");
    assert_eq!(old.unseal(sealed, b""), Err(UnsealError::UnknownKey(4)));
    assert_eq!(old.identify(b"x"), new.identify(b"x"));
    assert_eq!(old.identity_check(), new.identity_check());
    assert_eq!(old.sealing_checks()[0], new.sealing_checks()[0]);
}

#[test]
fn seals_with_a_standby_key_only_after_the_second_step() {
    let first = Keys::add_standby_key_text(TEXT).unwrap();
    let second = Keys::add_sealing_key_text(&first).unwrap();
    let (waiting, rotated) = (Keys::parse(&first).unwrap(), Keys::parse(&second).unwrap());
    assert_eq!(waiting.newest_sealing_key(), 3);
    assert_eq!(rotated.newest_sealing_key(), 4);
    assert_eq!(waiting.unseal(rotated.seal(b"x", b""), b"").unwrap(), b"x");
    assert_eq!(waiting.sealing_checks(), rotated.sealing_checks());
    assert_eq!(first.replace("standby 4", "sealing 4"), second);
}

#[test]
fn refuses_to_rotate_past_the_last_id() {
    let text = TEXT.replace("sealing 3", "sealing 4294967295");
    assert!(Keys::add_sealing_key_text(&text).is_err());
}

/// `printf 'efgs key identity, SipHash-2-4-128' | openssl dgst -sha256 -mac HMAC -macopt
/// hexkey:0001…1f`, its first 16 bytes as key of the MAC above over `canonical`.
#[test]
fn derives_the_hash_key_from_the_identity_secret() {
    let expected = 0x40_94_93_c6_98_fc_b7_d7_89_59_14_9b_d7_58_f2_5d_u128;
    assert_eq!(keys().identify(b"canonical").0, expected.to_be_bytes());
    assert_eq!(
        keys().identity_hasher().identify(b"canonical"),
        keys().identify(b"canonical")
    );
}

#[test]
fn distinguishes_keys_by_their_check_values() {
    let others = Keys::parse(&Keys::generate_text()).unwrap();
    assert_ne!(keys().identity_check(), others.identity_check());
    assert_ne!(keys().sealing_checks()[0].1, others.sealing_checks()[0].1);
    assert_eq!(keys().sealing_checks()[0].0, 3);
}

#[test]
fn says_which_line_is_wrong_and_shows_none_of_it() {
    let (identity, sealing) = TEXT.split_once("\n\n").unwrap();
    for (text, says) in [
        (TEXT.replace("sealing", "standby"), "lack a line `sealing"),
        (String::new(), "lack the line `identity"),
        (identity.to_owned(), "lack a line `sealing"),
        (sealing.to_owned(), "lack the line `identity"),
        (
            format!("{TEXT}{sealing}"),
            "line 5 of the encryption keys repeats",
        ),
        (
            format!("{TEXT}secret"),
            "line 5 of the encryption keys must be",
        ),
        (format!("{TEXT}sealing x {}", "A".repeat(43)), "line 5"),
        (format!("{TEXT}sealing 4 c2VjcmV0"), "line 5"),
        (format!("{TEXT}sealing 4 secret!"), "line 5"),
    ] {
        let message = Keys::parse(&text).unwrap_err().to_string();
        assert!(message.contains(says), "{message}");
        assert!(
            !message.contains("secret") && !message.contains("c2Vj"),
            "{message}"
        );
    }
}

#[test]
fn never_shows_keys() {
    let keys = keys();
    let shown = format!("{keys:?} {:?}", keys.identity_hasher());
    assert_eq!(shown, "Keys(..) IdentityHasher(..)");
}

#[test]
fn generates_what_it_can_read() {
    let text = Keys::generate_text();
    assert!(Keys::parse(&text).is_ok());
    assert_ne!(text, Keys::generate_text());
}

proptest! {
    #[test]
    fn opens_no_random_bytes(sealed in prop::collection::vec(any::<u8>(), 0..200)) {
        prop_assert!(keys().unseal(sealed, b"").is_err());
    }

    #[test]
    fn parses_any_text_without_panic(text in ".{0,200}") {
        let _outcome = Keys::parse(&text);
    }
}
