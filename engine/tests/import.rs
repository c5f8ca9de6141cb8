//! Import: a reference database, built from its schema and encrypted as the reference does, becomes
//! a gateway that serves the same download batches.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::fmt::Write as _;

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::admin::{Admin, sign_with_trust_anchor};
use engine::decode::decode;
use engine::domain::{CertificateKind, Country, Day, Format, UnixMillis};
use engine::import::{ImportError, ImportRequest, Imported, Note, UrlCheck, import};
use engine::settings::DatabaseUrl;
use engine::upload::{Receipt, UploadRequest};
use engine::verify::CanonicalBytes;
use engine::wire::protobuf::{KeyMessages, read_key};
use engine::{Engine, StartError};
use mysql::prelude::Queryable as _;
use mysql::{Conn, Opts};
use support::{Installation, NOON, Participant, download, participants, upload, vector_pki};
use testkit::local::MariaDb;

/// The reference's default.
const PASSWORD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
const DAY_MS: u64 = 86_400_000;

/// The schema after all migrations, as far as it is documented, with what Liquibase makes of the
/// types on MySQL.
const SCHEMA: &str = "
CREATE TABLE certificate (id BIGINT AUTO_INCREMENT PRIMARY KEY, created_at DATETIME(2) NOT NULL,
  thumbprint VARCHAR(64) NOT NULL UNIQUE, country VARCHAR(2) NOT NULL, type VARCHAR(14) NOT NULL,
  revoked BIT(1) NULL, host VARCHAR(256) NULL, signature VARCHAR(690) NULL,
  raw_data VARCHAR(10240) NULL);
CREATE TABLE callback_subscription (id BIGINT AUTO_INCREMENT PRIMARY KEY,
  created_at DATETIME(2) NOT NULL, callback_id VARCHAR(32), url VARCHAR(256), country VARCHAR(2));
CREATE TABLE callback_task (id BIGINT AUTO_INCREMENT PRIMARY KEY,
  created_at DATETIME(2) NOT NULL, execution_lock DATETIME(2) NULL, last_try DATETIME(2) NULL,
  retries INT NOT NULL, not_before_id BIGINT NULL, batch_id BIGINT NOT NULL,
  subscription_id BIGINT NOT NULL);
CREATE TABLE diagnosiskeybatch (id BIGINT AUTO_INCREMENT PRIMARY KEY,
  created_at DATETIME(2) NOT NULL, batchname VARCHAR(64), batchlink VARCHAR(64),
  number_of_keys INT NULL);
CREATE TABLE diagnosiskey (id BIGINT AUTO_INCREMENT PRIMARY KEY, created_at DATETIME(2) NOT NULL,
  batch_tag VARCHAR(64) NULL, payload_hash VARCHAR(64) NOT NULL UNIQUE,
  payload_key_data VARCHAR(255), payload_rolling_start_interval_number VARCHAR(255),
  payload_rolling_period VARCHAR(255), payload_transmission_risk_level VARCHAR(255),
  payload_report_type VARCHAR(255), payload_days_since_onset_of_symptoms VARCHAR(255),
  payload_visited_countries VARCHAR(400), payload_origin VARCHAR(64),
  format_format VARCHAR(64) NULL, format_major_version INT, format_minor_version INT,
  uploader_information_batch_tag VARCHAR(64), uploader_information_batch_signature VARCHAR(8000),
  uploader_information_thumbprint VARCHAR(64),
  uploader_information_signing_cert_thumbprint VARCHAR(64),
  uploader_information_country VARCHAR(2),
  INDEX (batch_tag), INDEX (uploader_information_batch_tag), INDEX (created_at))
";

/// A reference server's database and its content.
struct ReferenceServer {
    connection: Conn,
    url: DatabaseUrl,
    participants: Vec<Participant>,
}

impl ReferenceServer {
    fn new(server: &MariaDb, name: &str) -> Self {
        server.create_database(name).unwrap();
        let url = server.url(name);
        let mut connection = Conn::new(Opts::from_url(&url).unwrap()).unwrap();
        for statement in SCHEMA.split(';') {
            connection.query_drop(statement).unwrap();
        }
        let mut built = Self {
            connection,
            url: url.parse().unwrap(),
            participants: participants(),
        };
        built.list_certificates();
        built
    }

    fn list_certificates(&mut self) {
        for code in ["DE", "IT", "ES"] {
            for kind in [CertificateKind::Authentication, CertificateKind::Signing] {
                let name = format!("pki/{code}/{code}-{}", kind.name());
                let thumbprint = vector_pki(&format!("{name}.sha256")).trim().to_owned();
                let revoked = (code == "ES").then_some(kind == CertificateKind::Signing);
                self.connection
                    .exec_drop(
                        "INSERT INTO certificate (created_at, thumbprint, country, type, revoked, \
                         signature, raw_data) VALUES ('2020-09-01 10:00:00.12', ?, ?, ?, ?, ?, ?)",
                        (
                            thumbprint,
                            code,
                            kind.name().to_uppercase(),
                            revoked,
                            vector_pki(&format!("{name}.sig")).trim(),
                            vector_pki(&format!("{name}.pem")),
                        ),
                    )
                    .unwrap();
            }
        }
    }

    fn list_batch(&mut self, name: &str, link: Option<&str>, created_at: &str) {
        let sql = "INSERT INTO diagnosiskeybatch (created_at, batchname, batchlink, number_of_keys) \
             VALUES (?, ?, ?, 1)";
        self.connection
            .exec_drop(sql, (created_at, name, link))
            .unwrap();
    }

    fn subscribe(&mut self, id: &str, url: &str, country: &str) {
        let sql = "INSERT INTO callback_subscription (created_at, callback_id, url, country) \
             VALUES ('2020-09-01 10:00:00', ?, ?, ?)";
        self.connection.exec_drop(sql, (id, url, country)).unwrap();
    }

    /// A callback that has not been delivered yet.
    fn add_pending_callback(&mut self, subscription: u64, batch: &str, retries: u32) {
        let sql = "INSERT INTO callback_task (created_at, retries, batch_id, subscription_id) \
             SELECT '2021-06-01 00:05:00', ?, id, ? FROM diagnosiskeybatch WHERE batchname = ?";
        self.connection
            .exec_drop(sql, (retries, subscription, batch))
            .unwrap();
    }

    /// An upload of these keys (numbers, all begun on the same day) as it was sent.
    fn request(&self, sender: usize, tag: &str, keys: std::ops::Range<u64>) -> UploadRequest {
        let sender = &self.participants[sender];
        let began = UnixMillis(NOON.0 - 3 * DAY_MS);
        let keys: Vec<_> = keys.map(|number| sender.key(number, began)).collect();
        sender.upload(tag, &keys, NOON)
    }

    /// Stores keys of an upload in a download batch, one row per key, as the reference does.
    fn store(
        &mut self,
        request: &UploadRequest,
        keys: std::ops::Range<usize>,
        batch: Option<&str>,
    ) {
        let decoded = decode(&request.body, u32::MAX).unwrap();
        let canonical = CanonicalBytes::of(&decoded);
        let mut messages = KeyMessages::new(&request.body);
        for at in 0..canonical.key_count() {
            let mut visited = Vec::new();
            let message = messages.next_message().unwrap().unwrap();
            let key = read_key(message, |country| visited.push(country.to_owned())).unwrap();
            if !keys.contains(&at) {
                continue;
            }
            let payload = [
                encrypt(key.key_data),
                encrypt(key.rolling_start.to_string().as_bytes()),
                encrypt(key.rolling_period.to_string().as_bytes()),
                encrypt(key.risk_level.to_string().as_bytes()),
                encrypt(b"CONFIRMED_TEST"),
                encrypt(key.days_since_onset.to_string().as_bytes()),
                encrypt(visited.join(",").as_bytes()),
                encrypt(key.origin.as_bytes()),
            ];
            let signer = vector_pki(&format!("pki/{0}/{0}-signing.sha256", request.country));
            let mut values: Vec<mysql::Value> = vec![batch.into(), hash(canonical.key(at)).into()];
            values.extend(payload.map(mysql::Value::from));
            values.extend([
                request.tag.as_str().into(),
                (&*request.batch_signature).into(),
                request.uploader.to_string().into(),
                signer.trim().into(),
                mysql::Value::from(request.country.as_str()),
            ]);
            self.connection
                .exec_drop(
                    "INSERT INTO diagnosiskey (created_at, batch_tag, payload_hash, \
                     payload_key_data, payload_rolling_start_interval_number, \
                     payload_rolling_period, payload_transmission_risk_level, payload_report_type, \
                     payload_days_since_onset_of_symptoms, payload_visited_countries, \
                     payload_origin, format_format, format_major_version, format_minor_version, \
                     uploader_information_batch_tag, uploader_information_batch_signature, \
                     uploader_information_thumbprint, \
                     uploader_information_signing_cert_thumbprint, uploader_information_country) \
                     VALUES ('2021-06-01 09:12:33.12', ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, \
                     'application/protobuf', 1, 0, ?, ?, ?, ?, ?)",
                    values,
                )
                .unwrap();
        }
    }
}

/// As the reference does it: a fixed vector, the password as the key.
fn encrypt(plain: &[u8]) -> String {
    let key = UnboundCipherKey::new(&AES_256, PASSWORD.as_bytes()).unwrap();
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).unwrap();
    let mut bytes = plain.to_vec();
    let context = EncryptionContext::Iv128(FixedLength::from(b"WnU2IQhlAAN@bK~L"));
    key.less_safe_encrypt(&mut bytes, context).unwrap();
    STANDARD.encode(bytes)
}

fn hash(text: &[u8]) -> String {
    let mut hex = String::new();
    for byte in digest(&SHA256, text).as_ref() {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex.trim_start_matches('0').to_owned()
}

fn country(code: &str) -> Country {
    Country::parse(code).unwrap()
}

fn day(text: &str) -> Day {
    Day::parse_iso(text).unwrap()
}

const DE: usize = 0;
const IT: usize = 1;
const ES: usize = 2;

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

fn run(
    reference: &ReferenceServer,
    target: &Installation,
    dry_run: bool,
) -> Result<Imported, ImportError> {
    run_with_password(reference, target, PASSWORD, dry_run)
}

fn run_with_password(
    reference: &ReferenceServer,
    target: &Installation,
    password: &str,
    dry_run: bool,
) -> Result<Imported, ImportError> {
    import(&ImportRequest {
        from: &reference.url,
        password,
        into: &target.settings.database,
        keys: &target.settings.keys,
        trust_anchor_pem: &target.settings.trust_anchor_pem,
        callback_urls: UrlCheck(&|url| match url.contains("127.0.0.1") {
            true => Err("not public".to_owned()),
            false => Ok(()),
        }),
        now: target.now(),
        dry_run,
    })
}

fn expected() -> Imported {
    Imported {
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
    callbacks.claim(10, ttl, move |due| sender.send(due).unwrap());
    let due = receiver.recv().unwrap().unwrap();
    let told = due.iter().map(|delivery| {
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
    let entries = receiver.recv().unwrap().unwrap();
    let sent = reference.request(DE, "a", 0..3);
    assert_eq!(
        (entries[0].key_count, entries[0].uploader),
        (3, sent.uploader)
    );
    assert_eq!(entries[0].uploaded_at, UnixMillis(1_622_538_753_120));
    let signer = engine.trust();
    let signer = signer
        .find(&entries[0].signer, CertificateKind::Signing)
        .unwrap();
    assert!(signer.is_intact());
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
        let wrong = run_with_password(&reference, target, &PASSWORD.replace('a', "b"), false);
        assert!(
            matches!(wrong, Err(ImportError::Key { id: 1, .. })),
            "{wrong:?}"
        );
        // The failed attempt has left data behind, which a gateway does not serve.
        let started = target.try_start();
        assert!(matches!(started, Err(StartError::Unsuitable(_))));
        assert_eq!(run(&reference, target, true).unwrap(), expected());
        assert_eq!(run(&reference, target, false).unwrap(), expected());
        goes_on_with_callbacks(target);
        serves_the_same(&reference, target);
        let second = run(&reference, target, true);
        assert!(matches!(second, Err(ImportError::InUse(_))), "{second:?}");
        assert!(matches!(
            run(&reference, target, false),
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
    connection
        .query_drop(
            "UPDATE certificate SET signature = NULL WHERE country = 'IT' AND type = 'SIGNING'",
        )
        .unwrap();
    connection
        .query_drop("UPDATE certificate SET raw_data = CONCAT(raw_data, '\\n') WHERE country = 'ES' AND type = 'SIGNING'")
        .unwrap();
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
    connection
        .query_drop("UPDATE diagnosiskey SET payload_hash = 'x' WHERE id = 3")
        .unwrap();
    let target = Installation::fresh_on_sqlite();
    let imported = run(&reference, &target, false).unwrap();
    let batch = |text| engine::domain::BatchTag::parse(text).unwrap();
    let thumbprint = |name: &str| vector_pki(&format!("pki/{name}.sha256")).trim().to_owned();
    let notes = [
        Note::CertificateSkipped {
            thumbprint: thumbprint("IT/IT-signing"),
        },
        Note::CertificateNotCanonical(
            engine::domain::Thumbprint::parse_hex(&thumbprint("DE/DE-signing")).unwrap(),
        ),
        Note::CertificateNotVouchedFor(
            engine::domain::Thumbprint::parse_hex(&thumbprint("ES/ES-signing")).unwrap(),
        ),
        Note::BatchNameTwice(batch("20210601-1")),
        Note::BatchUnlisted(batch("20210601-2")),
        Note::LinkDiffers {
            batch: batch("20210601-2"),
            next: batch("20210601-3"),
        },
        Note::Interleaved(batch("20210601-1")),
        Note::TagChanged {
            country: country("DE"),
            from: "a".to_owned(),
            to: engine::domain::UploadTag::parse("a~2").unwrap(),
        },
        Note::KeysAltered(1),
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
