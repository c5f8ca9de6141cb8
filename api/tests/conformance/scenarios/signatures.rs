//! Signatures and canonical bytes, compared with other implementations.

use engine::domain::UnixMillis;
use time::PrimitiveDateTime;
use time::macros::format_description;

use crate::support::batch::{from_json, from_protobuf, signed_bytes};
use crate::support::cms::{BOUNCY_CASTLE, JSRSASIGN, MOZILLA};
use crate::support::pki::{Identity, fixture, read};
use crate::support::vectors;
use crate::support::vectors::{Vector, accepts, refuses};
use crate::support::world::{Databases, Kind};

pub(super) fn checks_the_validity_of_signers_at_the_time_of_the_upload(
    databases: &Databases,
    kind: Kind,
) {
    let world = vectors::world(databases, kind);
    for (number, reason) in [
        ("601", Some("cert_expired")),
        ("602", Some("cert_not_yet_valid")),
        ("603", None),
        ("604", Some("cert_expired")),
        ("605", None),
        ("607", None),
        ("608", None),
        ("610", Some("signing_time_invalid")),
        ("611", Some("signing_time_invalid")),
    ] {
        let vector = Vector::read(number);
        world.move_to(UnixMillis(vector.verification_time()));
        match reason {
            None => accepts(&world, &[number]),
            Some(reason) => refuses(&world, reason, &[number]),
        }
    }
}

/// The simulated clients' signatures have the structure of the real ones: rebuilt from the same
/// content, they are identical byte for byte.
pub(super) fn signs_as_bouncy_castle_and_openssl_do(_: &Databases, _: Kind) {
    let vector = Vector::read("001");
    let signer = Identity::new(
        "DE",
        read("vectors/pki/DE/DE-signing.pem"),
        &read("vectors/keys/TEST-ONLY-DE-signing.key.pem"),
    );
    let content = vector.bytes("canonical.bin");
    // One minute before the verification time.
    let at = UnixMillis(vector.verification_time() - 60_000);
    let made = BOUNCY_CASTLE.sign_base64(&signer, &content, at);
    assert_eq!(made.as_bytes(), vector.bytes("signature.b64"));
    for (file, shape) in [
        ("ie-sha256-digest-sha1-signature", JSRSASIGN),
        ("cz-sha1-rsa", MOZILLA),
    ] {
        let theirs = std::fs::read(fixture(&format!("legacy/{file}.der"))).unwrap();
        let at = signing_time(&theirs);
        assert_eq!(shape.sign(&signer, &content, at), theirs, "{file}");
    }
}

/// The first `UTCTime` behind the identifier of the attribute.
fn signing_time(cms: &[u8]) -> UnixMillis {
    let identifier = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];
    let at = cms
        .windows(9)
        .position(|window| window == identifier)
        .unwrap();
    let text = std::str::from_utf8(&cms[at + 13..at + 25]).unwrap();
    let format = format_description!("[year][month][day][hour][minute][second]");
    let time = PrimitiveDateTime::parse(&format!("20{text}"), format).unwrap();
    let time = time.assume_utc();
    UnixMillis(u64::try_from(time.unix_timestamp()).unwrap() * 1000)
}

/// The tests' canonical form agrees with other implementations.
pub(super) fn writes_canonical_bytes_as_others_do(_: &Databases, _: Kind) {
    for number in [
        "001", "005", "204", "210", "211", "213", "214", "215", "216", "221",
    ] {
        let vector = Vector::read(number);
        let keys = from_protobuf(&vector.bytes("batch.pb"));
        assert_eq!(
            signed_bytes(&keys),
            vector.bytes("canonical.bin"),
            "{number}"
        );
        assert_eq!(from_json(&vector.bytes("batch.json")), keys, "{number}");
    }
}
