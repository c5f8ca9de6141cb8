//! DE: Java, `OpenFeign` and Apache `HttpClient`; BouncyCastle.

use std::collections::HashSet;

use super::{Client, at, lines, others_upload, positions};
use crate::support::backend::Upload;
use crate::support::batch::{Key, fresh_keys, from_protobuf, signed_bytes, to_protobuf};
use crate::support::cms::BOUNCY_CASTLE;
use crate::support::pki::member;
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

impl Client<'_> {
    fn de_upload(&mut self, tag: &str, keys: &[Key]) -> Answer {
        let mut keys = keys.to_vec();
        keys.sort_by(|a, b| a.key_data.cmp(&b.key_data));
        let body = to_protobuf(&keys);
        let content = signed_bytes(&keys);
        let signer = &member("DE").signing;
        let signature = BOUNCY_CASTLE.sign_base64(signer, &content, self.world.now());
        assert!(
            signature.starts_with("MIAGCSqGSIb3DQEHAqCAMIACAQEx"),
            "{signature}"
        );
        let (host, length) = (self.host(), body.len());
        let lines = lines![
            "POST /diagnosiskeys/upload HTTP/1.1",
            "Accept: application/json; version=1.0",
            "batchSignature: {signature}",
            "batchTag: {tag}",
            "Content-Type: application/protobuf; version=1.0",
            "X-SSL-Client-DN: C=DE",
            "X-SSL-Client-SHA256: 69c697c045b4cdaa441a28af0ec1cc4128153b9ddc796b66bfa04b02ea3e103e",
            "Content-Length: {length}",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: Apache-HttpClient/4.5.13 (Java/17.0.1)",
            "Accept-Encoding: gzip,deflate",
        ];
        self.ask(&lines, &body)
    }

    fn de_get(&mut self, path: &str, accept: &str, tag: Option<&str>) -> Answer {
        let host = self.host();
        let mut lines = lines![
            "GET {path} HTTP/1.1",
            "Accept: {accept}",
            "X-SSL-Client-DN: C=DE",
            "X-SSL-Client-SHA256: 69c697c045b4cdaa441a28af0ec1cc4128153b9ddc796b66bfa04b02ea3e103e",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: Apache-HttpClient/4.5.13 (Java/17.0.1)",
            "Accept-Encoding: gzip,deflate",
        ]
        .to_vec();
        if let Some(tag) = tag {
            lines.insert(2, format!("batchTag: {tag}"));
        }
        self.ask(&lines, b"")
    }
}

pub(super) fn uploads_and_sends_the_rest_under_another_tag(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = Client::connect(&world, "DE");
    let keys = fresh_keys("DE", world.now(), 140);
    let answer = client.de_upload("2021-6-1-+/8Ab==-1", &keys).expect(201);
    assert_eq!(
        (answer.body.len(), answer.any_case("Content-Type")),
        (0, None)
    );
    assert_eq!(answer.any_case("batchtag"), Some("2021-6-1-+/8Ab==-1"));

    // Two keys are known already. 409s count as sent; 201s and 500s are queued again (#1391).
    let mut mixed = fresh_keys("DE", world.now(), 10);
    mixed[3] = keys[0].clone();
    mixed[7] = keys[1].clone();
    mixed.sort_by(|a, b| a.key_data.cmp(&b.key_data));
    let answer = client.de_upload("2021-6-1-abcdEA==-2", &mixed).expect(207);
    let again = [positions(&answer, "201"), positions(&answer, "500")].concat();
    assert_eq!((again.len(), positions(&answer, "409").len()), (8, 2));
    client
        .de_upload("2021-6-1-qrstEA==-3", &at(&mixed, &again))
        .expect(201);

    // CH took its client from DE's.
    world.cut();
    let mut other = Client::connect(&world, "CH");
    let tag = Some("20210601-1");
    let path = "/diagnosiskeys/download/2021-06-01";
    let found = other
        .de_get(path, "application/protobuf; version=1.0", tag)
        .expect(200);
    assert_eq!(from_protobuf(&found.body).len(), 148);
}

pub(super) fn downloads_by_following_links(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    others_upload(&world, &[("IT", 2), ("ES", 2)]);
    Upload::fresh(&world, "DE", 1).store(&world);
    world.cut();
    others_upload(&world, &[("DE", 1), ("NL", 3)]);

    let mut client = Client::connect(&world, "DE");
    let accept = "application/protobuf; version=1.0";
    // A date without batches is logged, and the run continues.
    client
        .de_get("/diagnosiskeys/download/2021-06-02", accept, None)
        .expect(404);
    let path = "/diagnosiskeys/download/2021-06-01";
    let (mut seen, mut counts, mut next) = (HashSet::new(), Vec::new(), None);
    loop {
        let answer = client.de_get(path, accept, next.as_deref()).expect(200);
        let tag = answer
            .any_case("batchtag")
            .expect("a missing header is an error")
            .to_owned();
        assert!(seen.insert(tag.clone()), "{tag} again");
        // An empty body is a batch without keys (#819).
        counts.push(from_protobuf(&answer.body).len());
        // With BATCH_AUDIT_ENABLED it fetches the audit, too.
        let audit = format!("/diagnosiskeys/audit/download/2021-06-01/{tag}");
        client
            .de_get(&audit, "application/json; version=1.0", None)
            .expect(200);
        next = match answer.any_case("nextbatchtag") {
            None | Some("null") => break,
            Some(tag) => Some(tag.to_owned()),
        };
    }
    assert_eq!(counts, [4, 0, 3]);
}
