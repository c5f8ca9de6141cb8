//! IT: Java, `RestTemplate` and Apache `HttpClient`; an external signing service.

use std::collections::HashMap;

use super::{Client, Entry, entries, lines, others_upload};
use crate::support::backend::Upload;
use crate::support::batch::{Key, fresh_keys, from_protobuf, signed_bytes, to_protobuf};
use crate::support::cms::{SERVICE, bouncy_castle_pem, verify_operator};
use crate::support::pki::{ANCHOR, der, member};
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

/// It copies the headers of an answer into a plain map and looks names up as they are spelled.
fn headers(answer: &Answer) -> HashMap<String, String> {
    answer.headers.iter().cloned().collect()
}

impl Client<'_> {
    fn it_upload(&mut self, tag: &str, keys: &[Key]) -> Answer {
        let body = to_protobuf(keys);
        let signer = &member("IT").signing;
        let signature = SERVICE.sign_base64(signer, &signed_bytes(keys), self.world.now());
        let (host, length) = (self.host(), body.len());
        let lines = lines![
            "POST /diagnosiskeys/upload HTTP/1.1",
            "Accept: text/plain, */*",
            "batchTag: {tag}",
            "batchSignature: {signature}",
            "Content-Type: application/protobuf; version=1.0",
            "Content-Length: {length}",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: Apache-HttpClient/4.5.12 (Java/11.0.8)",
            "Accept-Encoding: gzip,deflate",
        ];
        self.ask(&lines, &body)
    }

    fn it_download(&mut self, date: &str, tag: &str) -> Answer {
        let host = self.host();
        let lines = lines![
            "GET /diagnosiskeys/download/{date} HTTP/1.1",
            "Accept: application/protobuf; version=1.0",
            "batchTag: {tag}",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: Apache-HttpClient/4.5.12 (Java/11.0.8)",
            "Accept-Encoding: gzip,deflate",
        ];
        self.ask(&lines, b"")
    }

    fn it_audit(&mut self, date: &str, tag: &str) -> Answer {
        let host = self.host();
        let lines = lines![
            "GET /diagnosiskeys/audit/download/{date}/{tag} HTTP/1.1",
            "Accept: application/octet-stream, */*",
            "Content-Type: application/json",
            "Host: {host}",
            "Connection: Keep-Alive",
            "User-Agent: Apache-HttpClient/4.5.12 (Java/11.0.8)",
            "Accept-Encoding: gzip,deflate",
        ];
        self.ask(&lines, b"")
    }
}

/// Groups the keys by origin, and cuts each country's by amount, in the order of the audit.
fn check_batch(keys: Vec<Key>, audit: &[Entry]) {
    let mut by_origin: HashMap<String, Vec<Key>> = HashMap::new();
    for key in keys {
        by_origin.entry(key.origin.clone()).or_default().push(key);
    }
    for entry in audit.iter().filter(|entry| entry.country != "IT") {
        let of_country = by_origin.get_mut(&entry.country);
        let of_country = of_country.expect("an entry of an absent country crashes it");
        let rest = of_country.split_off(entry.amount);
        let slice = std::mem::replace(of_country, rest);
        entry.check_signature(&slice);
        let pem = entry.text("signingCertificate");
        assert_eq!(
            pem,
            bouncy_castle_pem(&der(pem)),
            "as BouncyCastle's PEM writer writes it"
        );
        let signature = entry.text("signingCertificateOperatorSignature");
        verify_operator(&der(&ANCHOR.pem), pem, signature).unwrap();
    }
    assert!(
        by_origin.values().all(Vec::is_empty),
        "keys that no entry covers"
    );
}

pub(super) fn verifies_every_upload_through_the_audit(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let uploads = [
        ("DE", 3),
        ("IT", 2),
        ("ES", 4),
        ("DE", 5),
        ("IT", 1),
        ("NL", 1),
    ];
    others_upload(&world, &uploads);
    others_upload(&world, &[("IT", 2)]);
    others_upload(&world, &[("PL", 2), ("DE", 1)]);
    world.pass_days(1);
    others_upload(&world, &[("DE", 1)]);

    let mut client = Client::connect(&world, "IT");
    let mut counts = Vec::new();
    // It guesses the first tag, then follows the links, with the date of the first day.
    let mut next = "20210601-1".to_owned();
    let audit = loop {
        let answer = client.it_download("2021-06-01", &next).expect(200);
        let found = headers(&answer);
        assert_eq!(found["batchTag"], next);
        let audit = client.it_audit("2021-06-01", &found["batchTag"]);
        if audit.status != 200 {
            break audit;
        }
        let keys = from_protobuf(&answer.body);
        counts.push(keys.len());
        check_batch(keys, &entries(&audit));
        next.clone_from(&found["nextBatchTag"]);
    };
    assert_eq!(counts, [13, 0, 3]);
    // The link led into the next day, whose audit has another date: it continues with that day.
    audit.expect_error(404, "Given date does not match the requested batch");
    let answer = client.it_download("2021-06-02", "20210602-1").expect(200);
    assert_eq!(headers(&answer)["nextBatchTag"], "null");
    let audit = client.it_audit("2021-06-02", "20210602-1").expect(200);
    check_batch(from_protobuf(&answer.body), &entries(&audit));
    // Nothing yet.
    client.it_download("2021-06-02", "20210602-2").expect(404);
}

pub(super) fn numbers_its_uploads_without_a_prefix(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    // Another country numbers alike.
    Upload::fresh(&world, "DE", 1)
        .tagged("20210601-1")
        .store(&world);
    let mut client = Client::connect(&world, "IT");
    let first = fresh_keys("IT", world.now(), 3);
    client.it_upload("20210601-1", &first).expect(201);
    // 207 and 400 count as sent; a taken tag is followed by the next one.
    client.it_upload("20210601-2", &first).expect(207);
    let mut bad = fresh_keys("IT", world.now(), 1);
    bad[0].rolling_period = 0;
    client.it_upload("20210601-2", &bad).expect(400);
    let second = fresh_keys("IT", world.now(), 2);
    client.it_upload("20210601-1", &second).expect(409);
    client.it_upload("20210601-2", &second).expect(201);
    // Its upload tags and our batch tags look alike, and have nothing to do with each other.
    assert_eq!(world.cut(), "20210601-1");
    let answer = Client::connect(&world, "FI")
        .it_download("2021-06-01", "20210601-1")
        .expect(200);
    assert_eq!(from_protobuf(&answer.body).len(), 6);
}
