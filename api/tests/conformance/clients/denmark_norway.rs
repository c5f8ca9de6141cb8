//! DK and NO: .NET Core's `HttpClient`; BouncyCastle for C#. NO's copy claims to be DK, too.

use super::{Client, lines, others_upload};
use crate::support::batch::{Key, fresh_keys, from_json, signed_bytes, to_protobuf};
use crate::support::cms::BOUNCY_CASTLE_CSHARP;
use crate::support::pki::member;
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

/// The settings of both, including their mistakes.
const CLAIM: &str = "C=DK";
const FINGERPRINT: &str = "7f5d3e1c9b0a8f6e4d2c1b3a5f7e9d8c6b4a2f1e3d5c7b9a8f6e4d2c1b3a5f7e";

impl Client<'_> {
    fn dk_upload(&mut self, keys: &[Key]) -> Answer {
        let mut keys = keys.to_vec();
        // Sorted for signing, and sent so.
        keys.sort_by_cached_key(|key| signed_bytes(std::slice::from_ref(key)));
        let body = to_protobuf(&keys);
        let signer = &member(self.country).signing;
        let now = self.world.now();
        let signature = BOUNCY_CASTLE_CSHARP.sign_base64(signer, &signed_bytes(&keys), now);
        let (host, length, tag) = (self.host(), body.len(), now.0);
        let lines = lines![
            "POST /diagnosiskeys/upload HTTP/1.1",
            "Host: {host}",
            "Accept: application/json; version=1.0",
            "X-SSL-Client-SHA256: {FINGERPRINT}",
            "X-SSL-Client-DN: {CLAIM}",
            // These are headers of the content, behind those of the request.
            "batchTag: {tag}",
            "batchSignature: {signature}",
            "Content-Type: application/protobuf; version=1.0",
            "Content-Length: {length}",
        ];
        self.ask(&lines, &body)
    }

    fn dk_download(&mut self, date: &str, tag: Option<&str>) -> Answer {
        let host = self.host();
        let mut lines = lines![
            "GET /diagnosiskeys/download/{date} HTTP/1.1",
            "Host: {host}",
            "Accept: application / json; version = 1.0",
            "X-SSL-Client-SHA256: {FINGERPRINT}",
            "X-SSL-Client-DN: {CLAIM}",
        ]
        .to_vec();
        lines.extend(tag.map(|tag| format!("batchTag: {tag}")));
        self.ask(&lines, b"")
    }
}

/// 200 and 404 are both parsed: a batch, or an object whose message is this literally.
fn parse(answer: &Answer) -> Option<Vec<Key>> {
    match answer.status {
        200 => Some(from_json(&answer.body)),
        404 => {
            let message = "Could not find any batches for given date";
            assert_eq!(answer.json()["message"], message, "the job fails");
            None
        }
        _ => panic!("the job fails: {answer:?}"),
    }
}

pub(super) fn uploads_under_the_time_as_tag(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    for country in ["DK", "NO"] {
        let mut client = Client::connect(&world, country);
        let keys = fresh_keys(country, world.now(), 12);
        // Never 200, which means that the server is down.
        let answer = client.dk_upload(&keys).expect(201);
        assert_eq!(answer.any_case("batchTag"), Some("1622548800000"));
        world.clock.advance_millis(1);
        client.dk_upload(&keys).expect(207);
        world.clock.set(crate::support::world::NOON);
    }
    world.cut();
    // Each is authenticated as itself, whatever it claims.
    let seen = |country| {
        let keys = parse(&Client::connect(&world, country).dk_download("2021-06-01", None));
        let origins = keys.unwrap().into_iter().map(|key| key.origin);
        origins.collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(seen("NO"), ["DK".to_owned()].into());
    assert_eq!(seen("DK"), ["NO".to_owned()].into());
    assert_eq!(seen("DE"), ["DK".to_owned(), "NO".to_owned()].into());
}

pub(super) fn asks_for_its_last_tag_again(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    for country in ["DK", "NO"] {
        let mut client = Client::connect(&world, country);
        assert_eq!(parse(&client.dk_download(&world.today(), None)), None);
        let tag = others_upload(&world, &[("DE", 2), (country, 1)]);
        let first = client.dk_download(&world.today(), None);
        assert_eq!(parse(&first).unwrap().len(), 2);
        assert_eq!(first.any_case("nextBatchTag"), Some("null"));
        // It asks for the last tag again, and looks at its successor only.
        let again = client.dk_download(&world.today(), Some(&tag));
        assert_eq!(again.body, first.body);
        // Its own batch has no keys, but is a batch.
        let own = others_upload(&world, &[(country, 1)]);
        let again = client.dk_download(&world.today(), Some(&tag));
        assert_eq!(again.any_case("nextBatchTag"), Some(own.as_str()));
        let empty = client.dk_download(&world.today(), Some(&own));
        assert!(parse(&empty).unwrap().is_empty());
        world.pass_days(1);
    }
}
