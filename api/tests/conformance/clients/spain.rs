//! ES: Java, `RestTemplate` and Apache `HttpClient`; BouncyCastle with the algorithm of the
//! certificate, RSASSA-PSS by its settings.

use super::{Client, entries, lines, others_upload};
use crate::support::batch::{Key, fresh_keys, from_protobuf, signed_bytes, to_protobuf};
use crate::support::cms::{BOUNCY_CASTLE_PSS, legacy_thumbprint};
use crate::support::pki::member;
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

const ACCEPT: &str = "text/plain, application/json, application/*+json, */*";

impl Client<'_> {
    fn es_upload(&mut self, tag: &str, keys: &[Key]) -> Answer {
        let body = to_protobuf(keys);
        let signer = &member("ES").signing;
        let content = signed_bytes(keys);
        let signature = BOUNCY_CASTLE_PSS.sign_base64(signer, &content, self.world.now());
        let hash = legacy_thumbprint(&member("ES").authentication.certificate);
        let (host, length) = (self.host(), body.len());
        let lines = lines![
            "POST /diagnosiskeys/upload HTTP/1.1",
            "Accept: {ACCEPT}",
            "Content-Type: application/protobuf;version=1.0",
            "batchTag: {tag}",
            "batchSignature: {signature}",
            "X-SSL-Client-SHA256: {hash}",
            "X-SSL-Client-DN: C=ES",
            "Content-Length: {length}",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: Apache-HttpClient/4.5.13 (Java/11.0.9.1)",
            "Accept-Encoding: gzip,deflate",
        ];
        self.ask(&lines, &body)
    }

    fn es_get(&mut self, path: &str, accept: &str, tag: Option<&str>) -> Answer {
        let hash = legacy_thumbprint(&member("ES").authentication.certificate);
        let host = self.host();
        let mut lines = lines![
            "GET {path} HTTP/1.1",
            "Accept: {accept}",
            "X-SSL-Client-SHA256: {hash}",
            "X-SSL-Client-DN: C=ES",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: Apache-HttpClient/4.5.13 (Java/11.0.9.1)",
            "Accept-Encoding: gzip,deflate",
        ]
        .to_vec();
        if let Some(tag) = tag {
            lines.insert(2, format!("batchTag: {tag}"));
        }
        self.ask(&lines, b"")
    }
}

pub(super) fn needs_its_tag_in_the_answer(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = Client::connect(&world, "ES");
    let keys = fresh_keys("ES", world.now(), 100);
    let answer = client
        .es_upload("ES-202106011200-AbCd-1", &keys)
        .expect(201);
    assert_eq!(answer.any_case("batchTag"), Some("ES-202106011200-AbCd-1"));
    assert!(answer.body.is_empty());
    // Any 2xx counts as sent, so a 207, too; others are for a later run.
    let answer = client.es_upload("ES-202106011201-EfGh-1", &keys);
    assert!((200..300).contains(&answer.status), "{answer:?}");
    let mut bad = keys;
    bad[7].rolling_period = 0;
    client.es_upload("ES-202106011202-IjKl-1", &bad).expect(400);
}

pub(super) fn verifies_every_batch_signature(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    others_upload(&world, &[("DE", 3), ("ES", 2), ("IE", 1), ("DE", 2)]);
    world.pass_days(1);
    others_upload(&world, &[("CZ", 4), ("ES", 1)]);

    let mut client = Client::connect(&world, "ES");
    let protobuf = "application/protobuf;version=1.0";
    // From the day of its last success on; days without batches are passed over.
    let mut counts = Vec::new();
    for date in ["2021-05-31", "2021-06-01", "2021-06-02", "2021-06-03"] {
        let path = format!("/diagnosiskeys/download/{date}");
        let mut next = None;
        for _ in 0..500 {
            let answer = client.es_get(&path, protobuf, next.as_deref());
            if answer.status == 404 {
                break;
            }
            let answer = answer.expect(200);
            let tag = answer.any_case("batchTag").unwrap();
            let audit = format!("/diagnosiskeys/audit/download/{date}/{tag}");
            let audit = client.es_get(&audit, ACCEPT, None);
            // An audit of another day is a 404: the batch is dropped, and comes again on its day.
            if audit.status == 200 {
                counts.push(check(&from_protobuf(&answer.body), &audit));
            }
            match answer.any_case("nextBatchTag").unwrap() {
                "null" | "" => break,
                tag => next = Some(tag.to_owned()),
            }
        }
    }
    assert_eq!(counts, [6, 4]);
}

/// Per country in the order of the audit, without its own.
fn check(keys: &[Key], audit: &Answer) -> usize {
    let mut taken = std::collections::HashMap::new();
    for entry in entries(audit).iter().filter(|entry| entry.country != "ES") {
        let country = keys.iter().filter(|key| key.origin == entry.country);
        let from = taken.entry(entry.country.clone()).or_insert(0);
        let slice: Vec<Key> = country.skip(*from).take(entry.amount).cloned().collect();
        *from += entry.amount;
        entry.check_signature(&slice);
    }
    assert_eq!(taken.values().sum::<usize>(), keys.len());
    keys.len()
}
