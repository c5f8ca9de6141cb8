//! A reference server's database, built from its schema and encrypted as the reference does.

#![allow(dead_code, reason = "each suite uses its part")]

use std::fmt::Write as _;

use aws_lc_rs::cipher::{AES_256, EncryptionContext, PaddedBlockEncryptingKey, UnboundCipherKey};
use aws_lc_rs::digest::{SHA256, digest};
use aws_lc_rs::iv::FixedLength;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::decode::decode;
use engine::domain::{CertificateKind, UnixMillis};
use engine::import::{ImportError, ImportRequest, Imported, UrlCheck, import};
use engine::settings::DatabaseUrl;
use engine::upload::UploadRequest;
use engine::verify::CanonicalBytes;
use engine::wire::protobuf::{KeyMessages, read_key};
use mysql::Conn;
use mysql::prelude::Queryable as _;
use testkit::local::MariaDb;

use crate::support::{Installation, NOON, Participant, participants, vector_pki};

/// The reference's default.
pub(crate) const PASSWORD: &str = "aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const DAY_MS: u64 = 86_400_000;

/// The reference's schema. Comments hold no semicolon.
pub(crate) const SCHEMA: &str = include_str!("schema.sql");

/// A reference server's database, and what is in it.
pub(crate) struct ReferenceServer {
    pub(crate) connection: Conn,
    url: DatabaseUrl,
    participants: Vec<Participant>,
}

impl ReferenceServer {
    pub(crate) fn new(server: &MariaDb, name: &str) -> Self {
        server.create_database(name).unwrap();
        let url = server.url(name);
        let mut connection = server.connect(name).unwrap();
        let statements = SCHEMA.split(';').map(str::trim);
        for statement in statements.filter(|statement| !statement.is_empty()) {
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

    pub(crate) fn list_batch(&mut self, name: &str, link: Option<&str>, created_at: &str) {
        let sql = "INSERT INTO diagnosiskeybatch (created_at, batchname, batchlink, number_of_keys) \
             VALUES (?, ?, ?, 1)";
        self.connection
            .exec_drop(sql, (created_at, name, link))
            .unwrap();
    }

    pub(crate) fn subscribe(&mut self, id: &str, url: &str, country: &str) {
        let sql = "INSERT INTO callback_subscription (created_at, callback_id, url, country) \
             VALUES ('2020-09-01 10:00:00', ?, ?, ?)";
        self.connection.exec_drop(sql, (id, url, country)).unwrap();
    }

    /// A callback that has not been delivered yet.
    pub(crate) fn add_pending_callback(&mut self, subscription: u64, batch: &str, retries: u32) {
        let sql = "INSERT INTO callback_task (created_at, retries, batch_id, subscription_id) \
             SELECT '2021-06-01 00:05:00', ?, id, ? FROM diagnosiskeybatch WHERE batchname = ?";
        self.connection
            .exec_drop(sql, (retries, subscription, batch))
            .unwrap();
    }

    /// An upload of these keys (numbers, all begun on the same day) as it was sent.
    pub(crate) fn request(
        &self,
        sender: usize,
        tag: &str,
        keys: std::ops::Range<u64>,
    ) -> UploadRequest {
        let sender = &self.participants[sender];
        let began = UnixMillis(NOON.0 - 3 * DAY_MS);
        let keys: Vec<_> = keys.map(|number| sender.key(number, began)).collect();
        sender.upload(tag, &keys, NOON)
    }

    /// Stores keys of an upload in a download batch, one row per key, as the reference does.
    pub(crate) fn store(
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
pub(crate) fn encrypt(plain: &[u8]) -> String {
    let key = UnboundCipherKey::new(&AES_256, PASSWORD.as_bytes()).unwrap();
    let key = PaddedBlockEncryptingKey::cbc_pkcs7(key).unwrap();
    let mut bytes = plain.to_vec();
    let context = EncryptionContext::Iv128(FixedLength::from(b"WnU2IQhlAAN@bK~L"));
    key.less_safe_encrypt(&mut bytes, context).unwrap();
    STANDARD.encode(bytes)
}

pub(crate) fn hash(text: &[u8]) -> String {
    let mut hex = String::new();
    for byte in digest(&SHA256, text).as_ref() {
        write!(hex, "{byte:02x}").unwrap();
    }
    hex.trim_start_matches('0').to_owned()
}

#[derive(Clone, Copy)]
pub(crate) struct Options {
    pub(crate) password: &'static str,
    pub(crate) dry_run: bool,
    pub(crate) leave_out: bool,
}

pub(crate) const DRY_RUN: Options = Options {
    dry_run: true,
    ..STRICT
};
pub(crate) const STRICT: Options = Options {
    password: PASSWORD,
    dry_run: false,
    leave_out: false,
};
pub(crate) const LEAVE_OUT: Options = Options {
    leave_out: true,
    ..STRICT
};

pub(crate) fn run(
    reference: &ReferenceServer,
    target: &Installation,
    options: Options,
) -> Result<Imported, ImportError> {
    import(&ImportRequest {
        from: &reference.url,
        password: options.password,
        into: &target.settings.database,
        keys: &target.settings.keys,
        trust_anchor_pem: &target.settings.trust_anchor_pem,
        callback_urls: UrlCheck(&|url| match url.contains("127.0.0.1") {
            true => Err("not public".to_owned()),
            false => Ok(()),
        }),
        now: target.now(),
        dry_run: options.dry_run,
        leave_out: options.leave_out,
    })
}

pub(crate) const DE: usize = 0;
pub(crate) const IT: usize = 1;
pub(crate) const ES: usize = 2;
