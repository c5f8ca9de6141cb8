//! Import: a reference database, built from its schema and encrypted as the reference does, becomes
//! a gateway that serves the same download batches.

#![allow(clippy::unwrap_used, reason = "tests")]

mod reference;
mod support;

use engine::admin::{Admin, sign_with_trust_anchor};
use engine::domain::{Country, Day, Format};
use engine::import::{ImportError, Imported, Note, UploadFault};
use engine::statistics::SignatureUse;
use engine::upload::{Receipt, UploadRequest};
use engine::validate::OriginMismatch;
use engine::verify::{SignatureDemand, SignatureError, SignatureForm, VerifyError};
use engine::{Engine, StartError};
use mysql::prelude::Queryable as _;
use reference::{DE, DRY_RUN, ES, IT, LEAVE_OUT, Options, ReferenceServer, STRICT, run};
use support::{Installation, download, upload, vector_pki};
use testkit::local::MariaDb;

fn country(code: &str) -> Country {
    Country::parse(code).unwrap()
}

fn day(text: &str) -> Day {
    Day::parse_iso(text).unwrap()
}

/// Two days of a reference server: batches without keys, one upload in two batches, the same tag
/// from two countries, uploads that wait.
fn two_days(server: &MariaDb) -> ReferenceServer {
    let mut reference = ReferenceServer::new(server, "reference");
    for (name, link, created_at) in [
        ("20210401-1", Some("20210531-1"), "2021-04-01 00:05:00.01"),
        ("20210531-1", Some("20210531-2"), "2021-05-31 00:05:00.01"),
        ("20210531-2", Some("20210601-1"), "2021-05-31 00:10:00.02"),
        ("20210601-1", Some("20210601-2"), "2021-06-01 00:05:00.03"),
        ("20210601-2", None, "2021-06-01 09:20:00.04"),
    ] {
        reference.list_batch(name, link, created_at);
    }
    let sent = |sender, tag, keys| (sender, tag, keys);
    let stored = [
        (sent(DE, "a", 0..3), 0..3, Some("20210531-1")),
        (sent(IT, "a", 3..5), 0..2, Some("20210531-1")),
        (sent(DE, "c", 5..7), 0..2, Some("20210601-1")),
        (sent(IT, "split", 7..10), 0..2, Some("20210601-1")),
        (sent(IT, "split", 7..10), 2..3, Some("20210601-2")),
        (sent(ES, "e", 10..14), 0..4, Some("20210601-2")),
        (sent(DE, "wait", 14..16), 0..2, None),
        (sent(IT, "WAIT", 16..17), 0..1, None),
    ];
    for ((sender, tag, keys), part, batch) in stored {
        let request = reference.request(sender, tag, keys);
        reference.store(&request, part, batch);
    }
    for (id, url, country) in [
        ("x", "https://example.org/first", "DE"),
        ("x", "https://example.org/told", "DE"),
        ("1", "https://example.org/behind", "ES"),
        (
            "5f4dcc3b5aa765d61d8327deb882cf99",
            "https://127.0.0.1/private",
            "IT",
        ),
        ("", "https://example.org", "IT"),
        ("1", "https://example.org", "I"),
    ] {
        reference.subscribe(id, url, country);
    }
    // ES was not told of the last two batches, one of them tried already.
    reference.add_pending_callback(3, "20210601-2", 0);
    reference.add_pending_callback(3, "20210601-1", 3);
    reference
}

fn expected(is_written: bool) -> Imported {
    let signed = |code, algorithm, key: &str, uploads, keys| SignatureUse {
        country: country(code),
        form: SignatureForm {
            algorithm,
            digest: "SHA-256".to_owned(),
            key: key.to_owned(),
            demand: SignatureDemand::Settings {
                sha1: false,
                pss: false,
            },
        },
        uploads,
        keys,
    };
    Imported {
        left_out_certificates: 0,
        left_out_uploads: 0,
        left_out_keys: 0,
        signatures: vec![
            signed("DE", "RSA", "RSA 2048", 3, 7),
            signed("ES", "ECDSA", "P-256", 1, 4),
            signed("IT", "RSA", "RSA 4096", 4, 6),
        ],
        oldest: Some((engine::domain::BatchTag::parse("20210531-1").unwrap(), 1)),
        is_written,
        certificates: 6,
        revoked_certificates: 1,
        subscriptions: 2,
        download_batches: 4,
        uploads: 6,
        keys: 14,
        waiting_uploads: 2,
        waiting_keys: 3,
        notes: vec![
            skipped("DE", "x", "a later one has the same id"),
            skipped("IT", "5f4dcc3b5aa765d61d8327deb882cf99", "not public"),
            skipped("IT", "", "a callback id has 1 to 32 characters"),
            skipped("I", "1", "it has no country of two letters"),
            Note::TagChanged {
                country: country("IT"),
                from: "split".to_owned(),
                to: engine::domain::UploadTag::parse("split~2").unwrap(),
            },
        ],
    }
}

fn skipped(country: &str, callback_id: &str, why: &str) -> Note {
    Note::SubscriptionSkipped {
        country: country.to_owned(),
        callback_id: callback_id.to_owned(),
        why: why.to_owned(),
    }
}

/// The downloads of a country: name, next name, the encoded keys.
fn fetch(
    engine: &Engine,
    reader: &str,
    date: &str,
    tag: Option<&str>,
) -> (String, Option<String>, Vec<u8>) {
    let found = download(engine, country(reader), day(date), tag, Format::Protobuf).unwrap();
    let body = found.chunks().flatten().collect();
    let next = found.next.map(|tag| tag.to_string());
    (found.batch.tag.to_string(), next, body)
}

fn keys_of(reference: &ReferenceServer, sender: usize, keys: std::ops::Range<u64>) -> Vec<u8> {
    reference.request(sender, "x", keys).body.to_vec()
}

/// Id, URL and first announced batches of each subscription.
fn told(engine: &Engine) -> Vec<(String, String, String)> {
    let (sender, receiver) = std::sync::mpsc::channel();
    let ttl = std::time::Duration::from_secs(60);
    let callbacks = engine.callbacks();
    callbacks.claim(ttl, |_| Some(()), move |due| sender.send(due).unwrap());
    let due = receiver.recv().unwrap().unwrap();
    let told = due.iter().map(|(delivery, ())| {
        let id = format!("{} {}", delivery.country(), delivery.callback_id());
        (id, delivery.url().to_owned(), delivery.batch().to_string())
    });
    told.collect()
}

fn goes_on_with_callbacks(target: &Installation) {
    let mut admin = Admin::open(&target.settings.database).unwrap();
    let states = admin.subscriptions(day("2021-06-01"), 2).unwrap();
    let names: Vec<_> = states
        .iter()
        .map(|state| (state.country.to_string(), &*state.url))
        .collect();
    let expected = [
        ("DE".to_owned(), "https://example.org/told"),
        ("ES".to_owned(), "https://example.org/behind"),
    ];
    assert_eq!(names, expected);
    let engine = target.start();
    let behind = (
        "ES 1".to_owned(),
        "https://example.org/behind".to_owned(),
        "20210601-1".to_owned(),
    );
    // DE was notified of everything; what was waiting may have been cut by now.
    let mut told = told(&engine);
    told.retain(|(id, _, batch)| !(id == "DE x" && batch == "20210601-3"));
    assert_eq!(told, [behind]);
}

fn serves_the_same(reference: &ReferenceServer, target: &Installation) {
    let engine = target.start();
    let of = |sender, keys| keys_of(reference, sender, keys);
    let batch = |name: &str, next: Option<&str>, keys: [Vec<u8>; 2]| {
        (name.to_owned(), next.map(str::to_owned), keys.concat())
    };
    let first = batch(
        "20210531-1",
        Some("20210531-2"),
        [of(DE, 0..3), of(IT, 3..5)],
    );
    assert_eq!(fetch(&engine, "PL", "2021-05-31", None), first);
    // Half through a day's downloads: a batch whose keys are gone, then the next day.
    let empty = batch("20210531-2", Some("20210601-1"), [vec![], vec![]]);
    assert_eq!(
        fetch(&engine, "PL", "2021-05-31", Some("20210531-2")),
        empty
    );
    let second = batch(
        "20210601-1",
        Some("20210601-2"),
        [of(DE, 5..7), of(IT, 7..9)],
    );
    assert_eq!(
        fetch(&engine, "PL", "2021-05-31", Some("20210601-1")),
        second
    );
    // What was waiting is cut after the last batch, and so are new uploads.
    let again = upload(&engine, reference.request(DE, "a", 0..3)).unwrap();
    let stored = |key_count, replayed| Receipt::Stored {
        key_count,
        replayed,
    };
    assert_eq!(again, stored(3, true));
    let duplicate = upload(&engine, reference.request(IT, "new", 8..11)).unwrap();
    let refused = Receipt::Refused {
        key_count: 3,
        duplicates: vec![0, 1],
    };
    assert_eq!(duplicate, refused);
    let new = upload(&engine, reference.request(IT, "newer", 20..21)).unwrap();
    assert_eq!(new, stored(1, false));
    let chain = support::download_chain(&engine, country("PL"), day("2021-06-01"), 13);
    let names: Vec<_> = chain
        .iter()
        .map(|found| found.batch.tag.to_string())
        .collect();
    assert_eq!(names[..3], ["20210601-1", "20210601-2", "20210601-3"]);
    let last = fetch(&engine, "DE", "2021-06-01", Some("20210601-2"));
    assert_eq!(last.2, [of(IT, 9..10), of(ES, 10..14)].concat());
    let behind: Vec<u8> = chain[2..]
        .iter()
        .flat_map(|found| found.chunks().flatten())
        .collect();
    assert_eq!(
        behind,
        [of(DE, 14..16), of(IT, 16..17), of(IT, 20..21)].concat()
    );
    // The audit has the signature as it came in, and names certificates that are listed.
    let (sender, receiver) = std::sync::mpsc::channel();
    engine.audit(
        country("PL"),
        day("2021-05-31"),
        "20210531-1",
        move |entries| {
            sender.send(entries).unwrap();
        },
    );
    let audit = receiver.recv().unwrap().unwrap();
    let chunks = (0..audit.chunk_count()).flat_map(|index| audit.chunk(index));
    let entries: serde_json::Value = serde_json::from_slice(&chunks.collect::<Vec<_>>()).unwrap();
    let sent = reference.request(DE, "a", 0..3);
    let first = &entries[0];
    assert_eq!(first["amount"], 3);
    assert_eq!(first["uploaderThumbprint"], sent.uploader.legacy_hex());
    assert_eq!(first["uploadedTime"], "2021-06-01T09:12:33.12Z");
    for listed in ["uploaderCertificate", "signingCertificate"] {
        assert_ne!(first[listed], "", "{listed}");
    }
}

#[test]
fn leaves_a_gateway_that_serves_the_same_batches_under_the_same_names() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    let reference = two_days(&server);
    let targets = [
        Installation::fresh_on_sqlite(),
        Installation::fresh_on_mysql(&server, "target"),
    ];
    for target in &targets {
        let wrong = Options {
            password: "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb",
            ..STRICT
        };
        let wrong = run(&reference, target, wrong);
        assert!(
            matches!(wrong, Err(ImportError::Key { id: 1, .. })),
            "{wrong:?}"
        );
        // The failed attempt has left data behind, which a gateway does not serve.
        let started = target.try_start();
        assert!(matches!(started, Err(StartError::Unsuitable(_))));
        assert_eq!(run(&reference, target, DRY_RUN).unwrap(), expected(false));
        assert_eq!(run(&reference, target, STRICT).unwrap(), expected(true));
        goes_on_with_callbacks(target);
        serves_the_same(&reference, target);
        let second = run(&reference, target, DRY_RUN);
        assert!(matches!(second, Err(ImportError::InUse(_))), "{second:?}");
        assert!(matches!(
            run(&reference, target, STRICT),
            Err(ImportError::InUse(_))
        ));
    }
}

#[test]
fn reports_what_was_wrong_in_the_reference() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    let mut reference = ReferenceServer::new(&server, "reference");
    reference.list_batch("20210601-1", None, "2021-06-01 00:05:00");
    reference.list_batch("20210601-1", Some("20210601-2"), "2021-06-01 00:05:00.01");
    reference.list_batch("20210601-3", None, "2021-06-01 00:05:00.02");
    // Two uploads that raced: their keys are interleaved, and so are two under one tag.
    let (a, b) = (
        reference.request(DE, "a", 0..4),
        reference.request(IT, "b", 4..6),
    );
    let twin = reference.request(DE, "a", 6..8);
    reference.store(&a, 0..2, Some("20210601-1"));
    reference.store(&b, 0..1, Some("20210601-1"));
    reference.store(&a, 2..4, Some("20210601-1"));
    reference.store(&b, 1..2, Some("20210601-1"));
    reference.store(&twin, 0..2, Some("20210601-1"));
    let c = reference.request(ES, "c", 8..9);
    reference.store(&c, 0..1, Some("20210601-2"));
    let connection = &mut reference.connection;
    // As an operator without openssl might have pasted it, and signed it so.
    let pasted = vector_pki("pki/DE/DE-signing.pem").replace('\n', "\r\n");
    let anchor_key = vector_pki("keys/TEST-ONLY-trust-anchor.key.pem");
    let signature = sign_with_trust_anchor(&anchor_key, &pasted).unwrap();
    connection
        .exec_drop(
            "UPDATE certificate SET raw_data = ?, signature = ? \
             WHERE country = 'DE' AND type = 'SIGNING'",
            (&pasted, &signature),
        )
        .unwrap();
    let target = Installation::fresh_on_sqlite();
    let imported = run(&reference, &target, LEAVE_OUT).unwrap();
    let batch = |text| engine::domain::BatchTag::parse(text).unwrap();
    let thumbprint = |name: &str| vector_pki(&format!("pki/{name}.sha256")).trim().to_owned();
    let notes = [
        Note::CertificateNotCanonical(
            engine::domain::Thumbprint::parse_hex(&thumbprint("DE/DE-signing")).unwrap(),
        ),
        Note::BatchNameTwice(batch("20210601-1")),
        Note::BatchUnlisted(batch("20210601-2")),
        Note::LinkDiffers {
            batch: batch("20210601-2"),
            next: batch("20210601-3"),
        },
        Note::TagChanged {
            country: country("DE"),
            from: "a".to_owned(),
            to: engine::domain::UploadTag::parse("a~2").unwrap(),
        },
        Note::Interleaved(batch("20210601-1")),
    ];
    assert_eq!(imported.notes, notes);
    let engine = target.start();
    let of = |sender, keys| keys_of(&reference, sender, keys);
    let (_, next, body) = fetch(&engine, "PL", "2021-06-01", None);
    assert_eq!(next.as_deref(), Some("20210601-2"));
    assert_eq!(body, [of(DE, 0..4), of(IT, 4..6), of(DE, 6..8)].concat());
    assert_eq!(
        fetch(&engine, "PL", "2021-06-01", Some("20210601-3")).2,
        [0; 0]
    );
}

/// What is forged, and what the gateway would refuse, as notes; and what is left.
#[test]
fn leaves_out_what_would_be_refused_if_it_were_sent() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    let mut reference = ReferenceServer::new(&server, "reference");
    reference.list_batch("20210601-1", None, "2021-06-01 00:05:00");
    let good = reference.request(DE, "good", 0..2);
    let mut forged = reference.request(DE, "forged", 2..5);
    let (split, foreign) = (
        reference.request(IT, "split", 5..8),
        UploadRequest {
            country: country("DE"),
            ..reference.request(IT, "foreign", 8..9)
        },
    );
    let (hash, cut, no_country) = (
        reference.request(DE, "hash", 9..11),
        reference.request(DE, "cut", 11..14),
        reference.request(DE, "nobody", 14..15),
    );
    forged.batch_signature = "AAAA".into();
    let batch = Some("20210601-1");
    reference.store(&good, 0..2, batch);
    reference.store(&forged, 0..3, batch);
    reference.store(&split, 0..2, batch);
    reference.store(&split, 2..3, None);
    reference.store(&foreign, 0..1, batch);
    reference.store(&hash, 0..2, batch);
    // Its last key is not there at all.
    reference.store(&cut, 0..2, batch);
    reference.store(&no_country, 0..1, batch);
    for statement in [
        "UPDATE diagnosiskey SET payload_hash = 'x' WHERE id = 11",
        "UPDATE diagnosiskey SET uploader_information_country = '' WHERE id = 14",
        // IT's certificate is ES's, by the row.
        "UPDATE certificate SET country = 'ES' WHERE country = 'IT' AND type = 'AUTHENTICATION'",
    ] {
        reference.connection.query_drop(statement).unwrap();
    }
    let left_out = |country: &str, tag: &str, key_count, fault| Note::UploadLeftOut {
        country: country.to_owned(),
        tag: tag.to_owned(),
        key_count,
        fault,
    };
    let signature = |error| UploadFault::Signature(VerifyError::Signature(error));
    let thumbprint = vector_pki("pki/IT/IT-authentication.sha256");
    let expected = [
        Note::CertificateLeftOut {
            thumbprint: thumbprint.trim().to_owned(),
            country: "ES".to_owned(),
            why: "the certificate's subject does not name the country ES".to_owned(),
        },
        left_out("DE", "forged", 3, signature(SignatureError::NotCms)),
        left_out(
            "DE",
            "foreign",
            1,
            UploadFault::Signature(VerifyError::OriginMismatch(OriginMismatch {
                index: 0,
                expected: country("DE"),
                key_count: 1,
            })),
        ),
        left_out("DE", "hash", 2, UploadFault::Hash { id: 11 }),
        left_out("DE", "cut", 2, signature(SignatureError::DigestMismatch)),
        left_out("", "nobody", 1, UploadFault::NoCountry),
    ];
    let target = Installation::fresh_on_sqlite();
    for options in [DRY_RUN, STRICT] {
        let refused = run(&reference, &target, options).unwrap();
        let notes: Vec<_> = refused.notes.iter().take(6).cloned().collect();
        assert_eq!(notes, expected);
        assert!(refused.leaves_out() && !refused.is_written);
    }
    let imported = run(&reference, &target, LEAVE_OUT).unwrap();
    assert_eq!(
        (
            imported.left_out_certificates,
            imported.left_out_uploads,
            imported.left_out_keys
        ),
        (1, 5, 9)
    );
    assert_eq!((imported.uploads, imported.keys), (2, 4));
    assert!(imported.is_written);
    let engine = target.start();
    let of = |sender, keys| keys_of(&reference, sender, keys);
    let (_, _, body) = fetch(&engine, "PL", "2021-06-01", None);
    assert_eq!(body, [of(DE, 0..2), of(IT, 5..7)].concat());
    let mut admin = Admin::open(&target.settings.database).unwrap();
    assert_eq!(admin.certificates().unwrap().len(), 5);
}

/// Three keys as somebody who can only write the database would add them.
#[test]
fn serves_nobody_the_keys_that_were_written_into_the_database() {
    let folder = tempfile::tempdir().unwrap();
    let server = MariaDb::start(folder.path()).unwrap();
    let mut reference = ReferenceServer::new(&server, "reference");
    reference.list_batch("20210601-1", None, "2021-06-01 00:05:00");
    let good = reference.request(DE, "good", 0..2);
    reference.store(&good, 0..2, Some("20210601-1"));
    for hash in ["a", "b", "c"] {
        let sql = "INSERT INTO diagnosiskey (created_at, batch_tag, payload_hash, \
             payload_key_data, uploader_information_batch_tag, \
             uploader_information_batch_signature, uploader_information_country) \
             VALUES ('2021-06-01 09:00:00', '20210601-1', ?, '', 'forged', 'AAAA', 'DE')";
        reference.connection.exec_drop(sql, (hash,)).unwrap();
    }
    let target = Installation::fresh_on_sqlite();
    let imported = run(&reference, &target, LEAVE_OUT).unwrap();
    assert_eq!((imported.left_out_uploads, imported.left_out_keys), (1, 3));
    assert!(
        matches!(
            imported.notes[..],
            [Note::UploadLeftOut {
                fault: UploadFault::InvalidKey { id: 3, .. },
                ..
            }]
        ),
        "{:?}",
        imported.notes
    );
    let (_, _, body) = fetch(&target.start(), "PL", "2021-06-01", None);
    assert_eq!(body, keys_of(&reference, DE, 0..2));
}
