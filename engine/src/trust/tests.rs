use std::sync::Arc;

use super::*;
use crate::domain::{CertificateKind, Country, Thumbprint, UnixMillis};

const ANCHOR: &str = include_str!("../../tests/fixtures/vectors/pki/trust-anchor/trust-anchor.pem");
const ROGUE: &str = include_str!("../../tests/fixtures/vectors/pki/bad/rogue-anchor.pem");
const DE: &str = include_str!("../../tests/fixtures/vectors/pki/DE/DE-signing.pem");
const DE_SIGNATURE: &str = include_str!("../../tests/fixtures/vectors/pki/DE/DE-signing.sig");
const DE_THUMBPRINT: &str = include_str!("../../tests/fixtures/vectors/pki/DE/DE-signing.sha256");
const ES: &str = include_str!("../../tests/fixtures/vectors/pki/ES/ES-signing.pem");

fn anchor() -> TrustAnchors {
    TrustAnchors::from_pem(ANCHOR).unwrap()
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

/// Loads the row with a change; returns its fault.
fn fault(change: impl FnOnce(&mut CertificateRow)) -> Option<RowFault> {
    let mut row = row();
    change(&mut row);
    let trust = Trust::load([row], &anchor(), None);
    trust.certificates().next().unwrap().fault
}

#[test]
fn lists_an_intact_row_with_its_validity() {
    let trust = Trust::load([row()], &anchor(), None);
    let listed = find(&trust);
    assert!(listed.is_intact() && !listed.is_revoked());
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
    assert_eq!(fault(|_| {}), None);
    for pem in ["", "AAAA"] {
        let change = |row: &mut CertificateRow| row.pem = Arc::from(pem);
        assert_eq!(fault(change), Some(RowFault::NotACertificate));
    }
    let change = |row: &mut CertificateRow| row.pem = Arc::from(ES);
    assert_eq!(fault(change), Some(RowFault::Thumbprint));
    let change = |row: &mut CertificateRow| row.thumbprint.0[31] ^= 1;
    assert_eq!(fault(change), Some(RowFault::Thumbprint));
    let not_signed = Some(RowFault::OperatorSignature);
    assert_eq!(fault(|row| row.pem = Arc::from(DE.trim_end())), not_signed);
    for signature in ["", "no base64"] {
        let change = |row: &mut CertificateRow| row.operator_signature = Arc::from(signature);
        assert_eq!(fault(change), not_signed);
    }
    let rogue = TrustAnchors::from_pem(ROGUE).unwrap();
    let trust = Trust::load([row()], &rogue, None);
    assert_eq!(find(&trust).fault, not_signed);
}

#[test]
fn does_not_trust_a_row_that_makes_one_country_another() {
    let change = |row: &mut CertificateRow| row.country = Country::parse("FR").unwrap();
    assert_eq!(fault(change), Some(RowFault::Country));
    // It was trusted before its country was changed.
    let mut changed = row();
    change(&mut changed);
    let before = Trust::load([row()], &anchor(), None);
    let after = Trust::load([changed], &anchor(), Some(&before));
    assert_eq!(find(&after).fault, Some(RowFault::Country));
}

#[test]
fn checks_unchanged_rows_once() {
    let first = Trust::load([row()], &anchor(), None);
    let second = Trust::load([row()], &anchor(), Some(&first));
    assert!(Arc::ptr_eq(find(&first), find(&second)));
    let other_anchor = TrustAnchors::from_pem(ROGUE).unwrap();
    let third = Trust::load([row()], &other_anchor, Some(&second));
    assert!(!find(&third).is_intact());
}

#[test]
fn sees_a_revocation_and_a_removal() {
    let first = Trust::load([row()], &anchor(), None);
    let revoked = CertificateRow {
        revoked_at: Some(UnixMillis(1)),
        ..row()
    };
    let second = Trust::load([revoked], &anchor(), Some(&first));
    assert!(find(&second).is_revoked() && find(&second).is_intact());
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
    let p256_anchor = TrustAnchors::from_pem(ES).unwrap();
    assert!(p256_anchor.verify(DE.as_bytes(), &signature));
    assert!(p256_anchor.verify(DE.as_bytes(), &format!("{signature}\n")));
    assert!(!p256_anchor.verify(ES.as_bytes(), &signature));
    assert!(!anchor().verify(DE.as_bytes(), &signature));
}

#[test]
fn refuses_keys_that_cannot_sign_or_be_an_anchor() {
    let ed25519 = include_str!("../../tests/fixtures/vectors/keys/TEST-ONLY-DE-ed25519.key.pem");
    assert_eq!(sign(ed25519, DE), Err(SignError::Key));
    for text in ["", DE, &ed25519.replace("PRIVATE", "EC PRIVATE")] {
        assert_eq!(sign(text, DE), Err(SignError::NotPkcs8));
    }
    let weak = include_str!("../../tests/fixtures/vectors/pki/special/DE-rsa1024.pem");
    assert_eq!(
        TrustAnchors::from_pem(weak).unwrap_err(),
        TrustAnchorError::Key
    );
    let not = TrustAnchors::from_pem("").unwrap_err();
    assert_eq!(not, TrustAnchorError::NotACertificate);
}
