//! PL: Java, Spring `WebClient` on Netty; BouncyCastle.

use super::{Client, lines, others_upload};
use crate::support::backend::Upload;
use crate::support::batch::{Key, fresh_keys, from_json, signed_bytes, to_protobuf};
use crate::support::cms::BOUNCY_CASTLE;
use crate::support::pki::member;
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

impl Client<'_> {
    fn pl_upload(&mut self, tag: &str, keys: &[Key]) -> Answer {
        let body = to_protobuf(keys);
        let signer = &member("PL").signing;
        let signature = BOUNCY_CASTLE.sign_base64(signer, &signed_bytes(keys), self.world.now());
        let (host, length) = (self.host(), body.len());
        let lines = lines![
            "POST /diagnosiskeys/upload HTTP/1.1",
            "user-agent: ReactorNetty/0.9.12.RELEASE",
            "host: {host}",
            "accept: application/json;version=1.0",
            "Content-Type: application/protobuf;version=1.0",
            "batchTag: {tag}",
            "batchSignature: {signature}",
            "content-length: {length}",
        ];
        self.ask(&lines, &body)
    }

    /// `tag`, or how the library may write an absent one.
    fn pl_download(&mut self, date: &str, tag: Option<&str>) -> Answer {
        let host = self.host();
        let mut lines = lines![
            "GET /diagnosiskeys/download/{date} HTTP/1.1",
            "user-agent: ReactorNetty/0.9.12.RELEASE",
            "host: {host}",
            "Accept: application/json; version=1.0",
        ]
        .to_vec();
        lines.extend(tag.map(|tag| format!("batchTag: {tag}")));
        self.ask(&lines, b"")
    }
}

pub(super) fn takes_a_missing_tag_for_no_data(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = Client::connect(&world, "PL");
    // Errors raise nothing on the first call: without a tag there is no data.
    for (date, status) in [("2021-06-01", 404), ("2021-05-01", 410), ("yesterday", 400)] {
        for tag in [None, Some(""), Some("null")] {
            let answer = client.pl_download(date, tag).expect(status);
            assert_eq!(answer.any_case("batchTag"), None);
        }
    }
    // A key of an unknown report type among them.
    let mut keys = fresh_keys("DE", world.now(), 2);
    keys[1].report_type = 0;
    Upload::of(&world, "DE", keys).store(&world);
    world.cut();
    others_upload(&world, &[("PL", 1)]);
    others_upload(&world, &[("ES", 3)]);
    // The first call looks at the headers only; then that tag is fetched, and the links followed.
    let first = client.pl_download("2021-06-01", Some("")).expect(200);
    let (mut tag, mut counts) = (first.any_case("batchTag").unwrap().to_owned(), Vec::new());
    loop {
        let answer = client.pl_download("2021-06-01", Some(&tag)).expect(200);
        // Nothing beside `keys`, and a `reportType` in every key, or it crashes.
        counts.push(from_json(&answer.body).len());
        match answer.any_case("nextBatchTag") {
            None | Some("null") => break,
            Some(next) => tag = next.to_owned(),
        }
    }
    assert_eq!(counts, [2, 0, 3]);
}

pub(super) fn uploads_and_takes_a_taken_tag_for_success(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = Client::connect(&world, "PL");
    let keys = fresh_keys("PL", world.now(), 8);
    client.pl_upload("a8Fk20XbQ1", &keys).expect(201);
    // Any 2xx or 409 is success; otherwise it is stored for another try.
    client
        .pl_upload("a8Fk20XbQ1", &fresh_keys("PL", world.now(), 1))
        .expect(409);
    client.pl_upload("b9Gl31YcR2", &keys).expect(207);
    client
        .pl_upload("b9Gl31YcR2", &fresh_keys("PL", world.now(), 1))
        .expect(201);
}
