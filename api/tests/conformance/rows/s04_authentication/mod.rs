//! §4: authentication.

mod rows;

use std::sync::LazyLock;

use engine::admin::sign_with_trust_anchor;
use engine::domain::CertificateKind;
use rcgen::{CertificateParams, IsCa, Issuer, KeyPair, SerialNumber, date_time_ymd};

use super::Section;
use crate::World;
use crate::support::backend::{Upload, ask};
use crate::support::pki::{
    Identity, Listed, authentication, member, params, read, rsa_key, self_signed,
};
use crate::support::raw::{Answer, Request};
use crate::support::world::{Databases, Kind};

pub(super) const SECTION: Section = Section {
    name: "s04_authentication",
    heading: "§4 Authentication",
    rows: rows::ROWS,
    prepare,
};

/// The same certificates, signed by an anchor whose own certificate a CA has issued, with another
/// kind of key.
pub(super) const ISSUED_ANCHOR: Section = Section {
    name: "s04_issued_anchor",
    heading: "§4.3 Certificate rows, with an anchor that a CA has issued",
    rows: rows::ISSUED_ANCHOR_ROWS,
    prepare: prepare_issued_anchor,
};

struct Special {
    /// Its thumbprint begins with a zero byte.
    zero: Identity,
    revoked: Identity,
    expired: Identity,
    future: Identity,
    /// Signed by another anchor.
    tampered: Identity,
    tampered_signing: Identity,
    /// Listed for both purposes.
    both: Identity,
}

static SPECIAL: LazyLock<Special> = LazyLock::new(|| Special {
    zero: with_zero_byte(),
    revoked: authentication("DE", |_| {}),
    expired: authentication("DE", |params| params.not_after = date_time_ymd(2021, 6, 1)),
    future: authentication("DE", |params| params.not_before = date_time_ymd(2021, 6, 2)),
    tampered: signed_by_rogue(authentication("DE", |_| {})),
    tampered_signing: signed_by_rogue(rsa("DE", 7)),
    both: rsa("DE", 8),
});

fn rsa(country: &str, serial: u8) -> Identity {
    let (key, _) = rsa_key("DE-special");
    self_signed(country, &key, |params| {
        params.serial_number = Some(SerialNumber::from(vec![serial]));
    })
}

/// One certificate in 256 has such a thumbprint: serial numbers are tried until one does.
fn with_zero_byte() -> Identity {
    let key = KeyPair::generate().unwrap();
    let mut serials = (1_u16..).map(|serial| {
        self_signed("DE", &key, |params: &mut CertificateParams| {
            params.serial_number = Some(SerialNumber::from(serial.to_be_bytes().to_vec()));
        })
    });
    serials.find(|made| made.hex().starts_with("00")).unwrap()
}

static ROGUE: LazyLock<(String, String)> = LazyLock::new(|| {
    let key_pem = read("vectors/keys/TEST-ONLY-rogue-anchor.key.pem");
    let (key, _) = rsa_key("rogue-anchor");
    (params("DE").self_signed(&key).unwrap().pem(), key_pem)
});

fn signed_by_rogue(identity: Identity) -> Identity {
    Identity {
        operator_signature: sign_with_trust_anchor(&ROGUE.1, &identity.pem).unwrap(),
        ..identity
    }
}

fn prepare(databases: &Databases, kind: Kind) -> World {
    use CertificateKind::{Authentication, Signing};
    let rogue = |kind, identity| Listed {
        anchor: ROGUE.0.clone(),
        ..Listed::new(kind, identity)
    };
    let world = World::with(databases, kind, |options| {
        options.listed.extend([
            Listed::new(Authentication, &SPECIAL.zero),
            Listed::new(Authentication, &SPECIAL.revoked).revoked(),
            Listed::new(Authentication, &SPECIAL.expired),
            Listed::new(Authentication, &SPECIAL.future),
            rogue(Authentication, &SPECIAL.tampered),
            rogue(Signing, &SPECIAL.tampered_signing),
            Listed::new(Authentication, &SPECIAL.both),
            Listed::new(Signing, &SPECIAL.both),
        ]);
    });
    Upload::fresh(&world, "IT", 1).store(&world);
    world.cut();
    world
}

fn prepare_issued_anchor(databases: &Databases, kind: Kind) -> World {
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let (anchor_key, _) = rsa_key("trust-anchor");
    let issuer = Issuer::from_params(&ca, &ca_key);
    let anchor = params("DE").signed_by(&anchor_key, &issuer).unwrap().pem();
    World::with(databases, kind, |options| options.anchor = anchor)
}

/// Requests a download with these two headers.
fn claim(world: &World, thumbprint: impl AsRef<[u8]>, name: impl AsRef<[u8]>) -> Answer {
    let request = Request::get("/diagnosiskeys/download/2021-06-01")
        .with("X-SSL-Client-SHA256", thumbprint)
        .with("X-SSL-Client-DN", name);
    ask(world, &request)
}

const UNKNOWN: &str = "Client is not authorized to access the service";
const NO_COUNTRY: &str = "Client Certificate must contain country property";

fn hex() -> String {
    member("DE").authentication.hex()
}

/// DE's thumbprint is accepted in this form.
#[track_caller]
fn spelled(world: &World, thumbprint: &str) {
    claim(world, thumbprint, "C=DE").expect(200);
}

/// An invalid thumbprint counts as missing.
#[track_caller]
fn unreadable(world: &World, thumbprint: &str) {
    let answer = claim(world, thumbprint, "C=DE").expect(403);
    assert_eq!(answer.code(), "no_forwarded_identity");
    assert!(answer.json()["message"].is_null());
}

/// The subject name's country is DE.
#[track_caller]
fn says_de(world: &World, name: &str) {
    claim(world, hex(), name).expect(200);
}

/// The subject name has no country.
#[track_caller]
fn says_nothing(world: &World, name: &str) {
    claim(world, hex(), name).expect_error(400, NO_COUNTRY);
}
