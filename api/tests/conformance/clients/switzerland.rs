//! CH: Java, `RestTemplate` and Apache `HttpClient`; BouncyCastle, with DE's signer code.

use super::{Client, lines, others_upload, positions};
use crate::support::batch::{Key, fresh_keys, from_protobuf, signed_bytes, to_protobuf};
use crate::support::cms::BOUNCY_CASTLE;
use crate::support::pki::member;
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

impl Client<'_> {
    fn ch_upload(&mut self, tag: &str, keys: &[Key]) -> Answer {
        let body = to_protobuf(keys);
        let signer = &member("CH").signing;
        let signature = BOUNCY_CASTLE.sign_base64(signer, &signed_bytes(keys), self.world.now());
        let (host, length) = (self.host(), body.len());
        let lines = lines![
            "POST /diagnosiskeys/upload HTTP/1.1",
            "Accept: application/json, application/*+json",
            "batchTag: {tag}",
            "batchSignature: {signature}",
            "Content-Type: application/protobuf;version=1.0",
            "Content-Length: {length}",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: dp3t-interops",
            "Accept-Encoding: gzip,deflate",
        ];
        self.ask(&lines, &body)
    }

    fn ch_download(&mut self, date: &str, tag: Option<&str>) -> Answer {
        let host = self.host();
        let mut lines = lines![
            "GET /diagnosiskeys/download/{date} HTTP/1.1",
            "Accept: application/protobuf;version=1.0",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: dp3t-interops",
            "Accept-Encoding: gzip,deflate",
        ]
        .to_vec();
        if let Some(tag) = tag {
            lines.insert(2, format!("batchTag: {tag}"));
        }
        self.ask(&lines, b"")
    }
}

pub(super) fn uploads_and_goes_through_every_retained_day(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = Client::connect(&world, "CH");
    let keys = fresh_keys("CH", world.now(), 4000);
    client.ch_upload("2021-6-1-Zm9vYg==-1", &keys).expect(201);
    // Everything but the 500s counts as uploaded.
    let answer = client
        .ch_upload("2021-6-1-Zm9vYg==-2", &keys[..2])
        .expect(207);
    assert_eq!(positions(&answer, "500").len(), 0);
    others_upload(&world, &[("DE", 1)]);
    world.pass_days(1);
    others_upload(&world, &[("DE", 2), ("PL", 3)]);

    // Days beyond retention are a 410, days to come a 404: nothing for that day.
    let mut found = Vec::new();
    for date in [
        "2021-05-30",
        "2021-05-31",
        "2021-06-01",
        "2021-06-02",
        "2021-06-03",
    ] {
        let mut last: Option<String> = None;
        loop {
            let answer = client.ch_download(date, last.as_deref());
            if matches!(answer.status, 404 | 410) {
                found.push((date, answer.status.into()));
                break;
            }
            let answer = answer.expect(200);
            found.push((date, from_protobuf(&answer.body).len()));
            let next = answer.any_case("nextBatchTag").unwrap();
            // It stops at null, at nothing, and at the tag that it has just fetched.
            if next == "null" || answer.any_case("batchTag") == Some(next) {
                break;
            }
            last = Some(next.to_owned());
        }
    }
    let expected = [
        ("2021-05-30", 410),
        ("2021-05-31", 1),
        ("2021-05-31", 5),
        ("2021-06-01", 1),
        ("2021-06-01", 5),
        ("2021-06-02", 5),
        ("2021-06-03", 404),
    ];
    assert_eq!(found, expected);
}
