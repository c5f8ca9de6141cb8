//! IE: Node with axios; jsrsasign, whose signatures name and use SHA-1 over attributes with
//! SHA-256.

use super::{Client, lines, others_upload};
use crate::support::batch::{Key, fresh_keys, from_json, signed_bytes, to_json};
use crate::support::cms::JSRSASIGN;
use crate::support::pki::member;
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

impl Client<'_> {
    fn ie_upload(&mut self, tag: u32, keys: &[Key]) -> Answer {
        let body = to_json(keys);
        let signer = &member("IE").signing;
        let signature = JSRSASIGN.sign_base64(signer, &signed_bytes(keys), self.world.now());
        let (host, length) = (self.host(), body.len());
        let lines = lines![
            "POST /diagnosiskeys/upload HTTP/1.1",
            "Accept: application/json, text/plain, */*",
            "Content-Type: application/json; version=1.0",
            "batchTag: {tag}",
            "batchSignature: {signature}",
            "User-Agent: axios/0.21.1",
            "Content-Length: {length}",
            "Host: {host}",
            "Connection: close",
        ];
        self.raw = self.world.tls(self.country);
        self.ask(&lines, &body)
    }

    fn ie_download(&mut self, date: &str, tag: Option<&str>) -> Answer {
        let host = self.host();
        let mut lines = lines![
            "GET /diagnosiskeys/download/{date} HTTP/1.1",
            "Accept: application/json; version=1.0",
            "User-Agent: axios/0.21.1",
            "Host: {host}",
            "Connection: close",
        ]
        .to_vec();
        if let Some(tag) = tag {
            lines.insert(2, format!("batchTag: {tag}"));
        }
        self.raw = self.world.tls(self.country);
        self.ask(&lines, b"")
    }
}

/// Always `CONFIRMED_TEST`, 27 countries, days clamped to 0 to 14.
fn irish_keys(world: &World, count: usize) -> Vec<Key> {
    let countries =
        "AT BE BG HR CY CZ DK EE FI FR DE GR HU IT LV LT LU MT NL PL PT RO SK SI ES SE NO";
    let mut keys = fresh_keys("IE", world.now(), count);
    for (key, days) in keys.iter_mut().zip((0..15).cycle()) {
        key.visited = countries.split(' ').map(str::to_owned).collect();
        key.days_since_onset = days;
    }
    keys
}

pub(super) fn uploads_json_with_a_mixed_signature(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = Client::connect(&world, "IE");
    let keys = irish_keys(&world, 1000);
    let answer = client.ie_upload(1, &keys).expect(201);
    assert_eq!(
        answer
            .header("Connection")
            .map(str::to_lowercase)
            .as_deref(),
        Some("close")
    );
    client.raw.until_closed();
    // Any 2xx is committed, a 207, too. Anything else rolls back; next time has the next number.
    client.ie_upload(2, &keys[..3]).expect(207);
    let mut bad = irish_keys(&world, 2);
    bad[1].rolling_period = 0;
    client.ie_upload(2, &bad).expect(400);
    client.ie_upload(3, &irish_keys(&world, 2)).expect(201);
    // Another backend reads them in the order they were sent.
    world.cut();
    let mut other = Client::connect(&world, "CZ");
    let found = other.ie_download("2021-06-01", None).expect(200);
    assert_eq!(from_json(&found.body)[..1000], keys);
}

pub(super) fn downloads_today_from_its_last_tag(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = Client::connect(&world, "IE");
    // Nothing today: it ends.
    client.ie_download("2021-06-01", None).expect(404);
    others_upload(&world, &[("DE", 2)]);
    others_upload(&world, &[("IE", 2)]);
    let first = client.ie_download("2021-06-01", None).expect(200);
    assert_eq!(from_json(&first.body).len(), 2);
    let next = first.any_case("nextbatchtag").unwrap().to_owned();
    // Its own batch: no keys, which it does not remember.
    let own = client.ie_download("2021-06-01", Some(&next)).expect(200);
    assert!(from_json(&own.body).is_empty());
    assert_eq!(own.any_case("nextbatchtag"), Some("null"));
    // Later it begins with the last tag that it remembers.
    others_upload(&world, &[("ES", 3)]);
    let last = first.any_case("batchtag").unwrap().to_owned();
    let (mut tag, mut kept) = (last, 0);
    loop {
        let answer = client.ie_download("2021-06-01", Some(&tag)).expect(200);
        let keys = from_json(&answer.body);
        // Only confirmed tests with 16 bytes are kept.
        kept += keys
            .iter()
            .filter(|key| key.report_type == 1 && key.key_data.len() == 16)
            .count();
        match answer.any_case("nextbatchtag") {
            None | Some("null") => break,
            Some(next) => tag = next.to_owned(),
        }
    }
    assert_eq!(kept, 5);
}
