//! FI: Java, `RestTemplate` and Apache `HttpClient`; BouncyCastle, and a development signer that
//! draws random signed serial numbers.

use engine::domain::{CertificateKind, UnixMillis};
use x509_parser::prelude::{FromDer as _, X509Certificate};

use super::{Client, Entry, at, entries, lines, others_upload, positions};
use crate::support::batch::{Key, fresh_keys, from_protobuf, signed_bytes, to_protobuf};
use crate::support::cms::{BOUNCY_CASTLE, legacy_thumbprint, verify_operator};
use crate::support::pki::{ANCHOR, Listed, der, negative_serial};
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

/// 2030-06-01T12:00:00Z: the certificate with the negative serial number is valid then.
const NOON_2030: UnixMillis = UnixMillis(1_906_545_600_000);

fn world(databases: &Databases, kind: Kind) -> World {
    World::with(databases, kind, |options| {
        options.now = NOON_2030;
        let signing = Listed::new(CertificateKind::Signing, &negative_serial());
        options.listed.push(signing);
    })
}

impl Client<'_> {
    fn fi_upload(&mut self, tag: &str, keys: &[Key]) -> Answer {
        let body = to_protobuf(keys);
        let content = signed_bytes(keys);
        let now = self.world.now();
        let signature = BOUNCY_CASTLE.sign_base64(&negative_serial(), &content, now);
        let (host, length) = (self.host(), body.len());
        let lines = lines![
            // Its base URL ends in /diagnosiskeys already.
            "POST /diagnosiskeys/upload/ HTTP/1.1",
            "Accept: application/json; version=1.0",
            "Content-Type: application/protobuf; version=1.0",
            "batchTag: {tag}",
            "batchSignature: {signature}",
            "Content-Length: {length}",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: Apache-HttpClient/4.5.13 (Java/11.0.11)",
            "Accept-Encoding: gzip,deflate",
        ];
        self.ask(&lines, &body)
    }

    fn fi_get(&mut self, path: &str, accept: &str, tag: Option<&str>) -> Answer {
        let host = self.host();
        let mut lines = lines![
            "GET {path} HTTP/1.1",
            "Accept: {accept}",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: Apache-HttpClient/4.5.13 (Java/11.0.11)",
            "Accept-Encoding: gzip,deflate",
        ]
        .to_vec();
        if let Some(tag) = tag {
            lines.insert(2, format!("batchTag: {tag}"));
        }
        self.ask(&lines, b"")
    }
}

pub(super) fn sends_the_rest_under_the_same_tag_until_nothing_is_left(
    databases: &Databases,
    kind: Kind,
) {
    let world = world(databases, kind);
    let mut client = Client::connect(&world, "FI");
    let known = fresh_keys("FI", world.now(), 2);
    client.fi_upload("20300601-fi-41", &known).expect(201);
    // All three members have to be there; the 201s are sent at once under the same tag.
    let mut keys = fresh_keys("FI", world.now(), 5);
    keys[4] = known[0].clone();
    let answer = client.fi_upload("20300601-fi-42", &keys).expect(207);
    assert_eq!(positions(&answer, "500"), [0_usize; 0]);
    assert_eq!(positions(&answer, "409"), [4]);
    let rest = at(&keys, &positions(&answer, "201"));
    let answer = client.fi_upload("20300601-fi-42", &rest).expect(201);
    assert_eq!(answer.any_case("batchTag"), Some("20300601-fi-42"));
    // When every key was known, it sends a batch without keys: zero bytes. A 400 would make it
    // repeat for ever.
    let answer = client.fi_upload("20300601-fi-43", &known).expect(207);
    let rest = at(&known, &positions(&answer, "201"));
    assert!(rest.is_empty());
    client.fi_upload("20300601-fi-43", &rest).expect(201);
}

pub(super) fn imports_by_slicing_the_whole_list(databases: &Databases, kind: Kind) {
    let world = world(databases, kind);
    let mut client = Client::connect(&world, "FI");
    // Its own upload comes first.
    let own = fresh_keys("FI", world.now(), 3);
    client.fi_upload("20300601-fi-44", &own).expect(201);
    let tag = others_upload(&world, &[("DE", 2), ("IT", 4), ("DE", 1)]);

    // By callback it knows the tag and the date; once a day it asks for yesterday without a tag.
    let protobuf = "application/protobuf; version=1.0";
    let path = "/diagnosiskeys/download/2030-06-01";
    let answer = client.fi_get(path, protobuf, Some(&tag)).expect(200);
    assert_eq!(answer.any_case("batchTag"), Some(tag.as_str()));
    let audit = format!("/diagnosiskeys/audit/download/2030-06-01/{tag}");
    let audit = client
        .fi_get(&audit, "application/json; version=1.0", None)
        .expect(200);
    let audit = entries(&audit);
    assert_eq!(audit.last().unwrap().country, "FI");

    // Straight through the list, entry by entry, its own included: they find nothing left.
    let keys = from_protobuf(&answer.body);
    let mut rest = keys.as_slice();
    let mut verified = 0;
    for entry in &audit {
        let (slice, others) = rest.split_at(entry.amount.min(rest.len()));
        rest = others;
        if slice.is_empty() {
            assert_eq!(entry.country, "FI");
            continue;
        }
        check_entry(entry, slice, &world);
        verified += slice.len();
    }
    assert_eq!((verified, rest.len()), (7, 0));

    world.pass_days(1);
    let daily = client.fi_get(path, protobuf, None).expect(200);
    assert_eq!(daily.body, answer.body);
    assert_eq!(daily.any_case("nextBatchTag"), Some("null"));
    // A day without batches ends the run.
    let path = "/diagnosiskeys/download/2030-06-02";
    client.fi_get(path, protobuf, None).expect(404);
}

/// Validity, thumbprint, batch signature, operator's signature, origin.
fn check_entry(entry: &Entry, slice: &[Key], world: &World) {
    let pem = entry.text("signingCertificate");
    let certificate = der(pem);
    let (_, parsed) = X509Certificate::from_der(&certificate).unwrap();
    let now = i64::try_from(world.now().seconds()).unwrap();
    let validity = parsed.validity();
    assert!((validity.not_before.timestamp()..validity.not_after.timestamp()).contains(&now));
    let thumbprint = entry.text("uploaderSigningThumbprint");
    assert_eq!(thumbprint, legacy_thumbprint(&certificate));
    entry.check_signature(slice);
    // With the signature algorithm of the anchor's own certificate, which is SHA-256 with RSA.
    let signature = entry.text("signingCertificateOperatorSignature");
    verify_operator(&der(&ANCHOR.pem), pem, signature).unwrap();
    assert!(slice.iter().all(|key| key.origin == entry.country));
    // One null member anywhere would refuse the whole answer.
    assert_eq!(entry.json.as_object().unwrap().len(), 10);
    assert!(
        entry
            .json
            .as_object()
            .unwrap()
            .values()
            .all(|value| !value.is_null())
    );
}
