//! NL: .NET's `HttpClient`; a signing service; the tag is the hash of the content.

use super::{Client, lines, others_upload};
use crate::support::batch::{Key, fresh_keys, from_protobuf, signed_bytes, to_protobuf};
use crate::support::cms::SERVICE;
use crate::support::pki::{member, sha256};
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

impl Client<'_> {
    fn nl_upload(&mut self, keys: &[Key]) -> Answer {
        let body = to_protobuf(keys);
        let content = signed_bytes(keys);
        let tag: String = sha256(&content)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let signature = SERVICE.sign_base64(&member("NL").signing, &content, self.world.now());
        let (host, length) = (self.host(), body.len());
        let hash = member("NL").authentication.hex();
        let lines = lines![
            "POST /diagnosiskeys/upload HTTP/1.1",
            "Host: {host}",
            "BatchTag: {tag}",
            "BatchSignature: {signature}",
            "X-SSL-Client-SHA256: {hash}",
            "X-SSL-Client-DN: C=NL,O=EFGStestNL",
            "Accept: application/json; version=1.0",
            "Content-Type: application/protobuf; version=1.0",
            "Content-Length: {length}",
        ];
        let answer = self.ask(&lines, &body);
        if answer.status == 201 {
            assert_eq!(answer.any_case("batchTag"), Some(tag.as_str()));
        }
        answer
    }

    fn nl_download(&mut self, tag: &str) -> Answer {
        // The day is that of the tag.
        let date = format!("{}-{}-{}", &tag[..4], &tag[4..6], &tag[6..8]);
        let host = self.host();
        let hash = member("NL").authentication.hex();
        let mut lines = lines![
            "GET /diagnosiskeys/download/{date} HTTP/1.1",
            "Host: {host}",
            "X-SSL-Client-SHA256: {hash}",
            "X-SSL-Client-DN: C=NL,O=EFGStestNL",
            "Accept: application/protobuf; version=1.0",
        ]
        .to_vec();
        if tag.len() > 8 {
            lines.push(format!("BatchTag: {tag}"));
        }
        self.ask(&lines, b"")
    }
}

pub(super) fn sends_an_upload_again_whose_answer_was_lost(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = Client::connect(&world, "NL");
    let keys = fresh_keys("NL", world.now(), 30);
    client.nl_upload(&keys).expect(201);
    // It never saw that answer: five times it tries the same, and a 409 would be one for ever.
    client.raw = world.tls("NL");
    for _ in 0..5 {
        client.nl_upload(&keys).expect(201);
    }
    // Final answers.
    client.nl_upload(&keys[..29]).expect(207);
    let mut bad = fresh_keys("NL", world.now(), 1);
    bad[0].key_data.pop();
    client.nl_upload(&bad).expect(400);
    world.cut();
    let found = Client::connect(&world, "DE")
        .nl_download("20210601")
        .expect(200);
    assert_eq!(from_protobuf(&found.body), keys);
}

pub(super) fn resumes_at_its_last_tag(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    others_upload(&world, &[("DE", 1)]);
    let mut client = Client::connect(&world, "NL");
    // The first time by the day alone.
    let first = client.nl_download("20210601").expect(200);
    assert_eq!(first.any_case("nextBatchTag"), Some("null"));
    let last = first.any_case("batchTag").unwrap().to_owned();
    // Nothing new, then its own, then of others, on a later day.
    client.nl_download(&last).expect(200);
    others_upload(&world, &[("NL", 2)]);
    world.pass_days(1);
    others_upload(&world, &[("IT", 3)]);
    let (mut tag, mut counts) = (last, Vec::new());
    loop {
        let answer = client.nl_download(&tag).expect(200);
        counts.push(from_protobuf(&answer.body).len());
        assert_eq!(answer.any_case("batchTag"), Some(tag.as_str()));
        match answer.any_case("nextBatchTag").unwrap() {
            "null" => break,
            next => tag = next.to_owned(),
        }
    }
    assert_eq!(counts, [1, 0, 3]);
    // 404 stops it, 410 takes it to the next day.
    client.nl_download("20210602-2").expect(404);
    client.nl_download("20210530-1").expect(410);
}
