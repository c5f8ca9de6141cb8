//! CZ: Go's `net/http`, which writes header names its own way; mozilla's pkcs7 with SHA-1.

use super::{Client, at, lines, others_upload, positions};
use crate::support::batch::{Key, fresh_keys, from_json, signed_bytes, to_protobuf};
use crate::support::cms::MOZILLA;
use crate::support::pki::member;
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

impl Client<'_> {
    fn cz_upload(&mut self, tag: &str, keys: &[Key]) -> Answer {
        let mut keys = keys.to_vec();
        // It sorts the visited countries before it sends.
        keys.iter_mut().for_each(|key| key.visited.sort());
        let body = to_protobuf(&keys);
        let signer = &member("CZ").signing;
        let signature = MOZILLA.sign_base64(signer, &signed_bytes(&keys), self.world.now());
        let (host, length) = (self.host(), body.len());
        let lines = lines![
            "POST /diagnosiskeys/upload HTTP/1.1",
            "Host: {host}",
            "User-Agent: Go-http-client/1.1",
            "Content-Length: {length}",
            "Batchsignature: {signature}",
            "Batchtag: {tag}",
            "Content-Type: application/protobuf; version=1.0",
            "Accept-Encoding: gzip",
        ];
        self.ask(&lines, &body)
    }

    fn cz_download(&mut self, date: &str, tag: &str) -> Answer {
        let host = self.host();
        let lines = lines![
            "GET /diagnosiskeys/download/{date} HTTP/1.1",
            "Host: {host}",
            "User-Agent: Go-http-client/1.1",
            "Accept: application/json; version=1.0",
            "Batchtag: {tag}",
            "Accept-Encoding: gzip",
        ];
        self.ask(&lines, b"")
    }
}

pub(super) fn uploads_with_sha1_and_headers_as_go_writes_them(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = Client::connect(&world, "CZ");
    let keys = fresh_keys("CZ", world.now(), 20);
    client.cz_upload("20210601-1a2b3c4", &keys).expect(201);
    // 409s are done, 201s are tried again.
    let mut mixed = fresh_keys("CZ", world.now(), 4);
    mixed[1] = keys[5].clone();
    let answer = client.cz_upload("20210601-2b3c4d5", &mixed).expect(207);
    assert_eq!(positions(&answer, "409"), [1]);
    let again = at(&mixed, &positions(&answer, "201"));
    client.cz_upload("20210601-3c4d5e6", &again).expect(201);
    let mut bad = fresh_keys("CZ", world.now(), 1);
    bad[0].risk_level = 9;
    client.cz_upload("20210601-4d5e6f7", &bad).expect(400);
    // Where the operator has not listed the country, SHA-1 is refused.
    let strict = World::with(databases, kind, |options| {
        options.engine.legacy_sha1.clear();
    });
    let answer = Client::connect(&strict, "CZ").cz_upload("20210601-1a2b3c4", &keys);
    let answer = answer.expect_error(400, "Invalid signature");
    assert_eq!(answer.json()["reason"], "weak_digest");
}

pub(super) fn guesses_tags_until_one_is_missing(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    others_upload(&world, &[("DE", 2)]);
    others_upload(&world, &[("CZ", 1)]);
    others_upload(&world, &[("IE", 3), ("CZ", 1)]);
    let mut client = Client::connect(&world, "CZ");
    let mut counts = Vec::new();
    for number in 1.. {
        let tag = format!("20210601-{number}");
        let answer = client.cz_download("2021-06-01", &tag);
        if answer.status == 404 {
            answer.expect_error(404, "Could not find batch with given BatchTag");
            break;
        }
        let answer = answer.expect(200);
        assert_eq!(answer.any_case("Batchtag"), Some(tag.as_str()));
        // It was its own batch if there are no keys.
        counts.push(from_json(&answer.body).len());
    }
    assert_eq!(counts, [2, 0, 3]);
}
