use std::sync::Arc;

use super::*;
use crate::domain::{CertificateKind, Country, Thumbprint, UnixMillis};

const ANCHOR: &str = include_str!("../../tests/fixtures/vectors/pki/trust-anchor/trust-anchor.pem");
const ROGUE: &str = include_str!("../../tests/fixtures/vectors/pki/bad/rogue-anchor.pem");
const DE: &str = include_str!("../../tests/fixtures/vectors/pki/DE/DE-signing.pem");
const DE_SIGNATURE: &str = include_str!("../../tests/fixtures/vectors/pki/DE/DE-signing.sig");
const DE_THUMBPRINT: &str = include_str!("../../tests/fixtures/vectors/pki/DE/DE-signing.sha256");
const ES: &str = include_str!("../../tests/fixtures/vectors/pki/ES/ES-signing.pem");

fn anchor() -> TrustAnchor {
    TrustAnchor::from_pem(ANCHOR).unwrap()
}

fn row() -> CertificateRow {
    CertificateRow {
        thumbprint: Thumbprint::parse_hex(DE_THUMBPRINT).unwrap(),
        country: Country::parse("DE").unwrap(),
        kind: CertificateKind::Signing,
        pem: Arc::from(DE),
        operator_signature: Arc::from(DE_SIGNATURE),
        revoked_at: None,
    }
}

fn find(trust: &Trust) -> &Arc<ListedCertificate> {
    trust
        .find(&row().thumbprint, CertificateKind::Signing)
        .unwrap()
}

/// Loads the row with a change; says whether it is intact.
fn is_intact(change: impl FnOnce(&mut CertificateRow)) -> bool {
    let mut row = row();
    change(&mut row);
    let trust = Trust::load([row], &anchor(), None);
    trust.certificates().all(|listed| listed.intact)
}

#[test]
fn lists_an_intact_row_with_its_validity() {
    let trust = Trust::load([row()], &anchor(), None);
    let listed = find(&trust);
    assert!(listed.intact && !listed.is_revoked());
    // 2020-01-01T00:00:00Z and 2040-01-01T00:00:00Z, as openssl x509 -dates prints them.
    let (start, end) = (1_577_836_800_000, 2_208_988_800_000);
    assert_eq!(listed.not_before, UnixMillis(start));
    assert_eq!(listed.not_after, UnixMillis(end));
    for (now, valid) in [
        (start - 1, false),
        (start, true),
        (end + 999, true),
        (end + 1000, false),
    ] {
        assert_eq!(listed.is_valid_at(UnixMillis(now)), valid, "{now}");
    }
    let other_kind = trust.find(&row().thumbprint, CertificateKind::Authentication);
    assert!(other_kind.is_none());
}

#[test]
fn does_not_trust_a_row_that_was_tampered_with() {
    assert!(is_intact(|_| {}));
    assert!(!is_intact(|row| row.pem = Arc::from(ES)));
    assert!(!is_intact(|row| row.pem = Arc::from(DE.trim_end())));
    assert!(!is_intact(|row| row.pem = Arc::from("")));
    assert!(!is_intact(|row| row.thumbprint.0[31] ^= 1));
    assert!(!is_intact(|row| row.operator_signature = Arc::from("")));
    assert!(!is_intact(
        |row| row.operator_signature = Arc::from("no base64")
    ));
    let rogue = TrustAnchor::from_pem(ROGUE).unwrap();
    assert!(!find(&Trust::load([row()], &rogue, None)).intact);
}

#[test]
fn checks_unchanged_rows_once() {
    let first = Trust::load([row()], &anchor(), None);
    let second = Trust::load([row()], &anchor(), Some(&first));
    assert!(Arc::ptr_eq(find(&first), find(&second)));
    let other_anchor = TrustAnchor::from_pem(ROGUE).unwrap();
    let third = Trust::load([row()], &other_anchor, Some(&second));
    assert!(!find(&third).intact);
}

#[test]
fn sees_a_revocation_and_a_removal() {
    let first = Trust::load([row()], &anchor(), None);
    let revoked = CertificateRow {
        revoked_at: Some(UnixMillis(1)),
        ..row()
    };
    let second = Trust::load([revoked], &anchor(), Some(&first));
    assert!(find(&second).is_revoked() && find(&second).intact);
    assert!(!find(&first).is_revoked());
    let third = Trust::load([], &anchor(), Some(&second));
    assert_eq!(third.certificates().count(), 0);
}

#[test]
fn signs_what_the_anchor_verifies() {
    let rsa = include_str!("../../tests/fixtures/vectors/keys/TEST-ONLY-trust-anchor.key.pem");
    // PKCS#1 v1.5 is deterministic: the signature is the one that OpenSSL made.
    assert_eq!(sign(rsa, DE).as_deref(), Ok(DE_SIGNATURE));
    let p256 = include_str!("../../tests/fixtures/vectors/keys/TEST-ONLY-ES-signing.key.pem");
    let signature = sign(p256, DE).unwrap();
    let p256_anchor = TrustAnchor::from_pem(ES).unwrap();
    assert!(p256_anchor.verify(DE.as_bytes(), &signature));
    assert!(p256_anchor.verify(DE.as_bytes(), &format!("{signature}\n")));
    assert!(!p256_anchor.verify(ES.as_bytes(), &signature));
    assert!(!anchor().verify(DE.as_bytes(), &signature));
}

#[test]
fn refuses_keys_that_cannot_sign_or_vouch() {
    let ed25519 = include_str!("../../tests/fixtures/vectors/keys/TEST-ONLY-DE-ed25519.key.pem");
    assert_eq!(sign(ed25519, DE), Err(SignError::Key));
    for text in ["", DE, &ed25519.replace("PRIVATE", "EC PRIVATE")] {
        assert_eq!(sign(text, DE), Err(SignError::NotPkcs8));
    }
    let weak = include_str!("../../tests/fixtures/vectors/pki/special/DE-rsa1024.pem");
    assert_eq!(
        TrustAnchor::from_pem(weak).unwrap_err(),
        TrustAnchorError::Key
    );
    let not = TrustAnchor::from_pem("").unwrap_err();
    assert_eq!(not, TrustAnchorError::NotACertificate);
}
