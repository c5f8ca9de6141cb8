//! Shared by tests of the whole engine: participants with real keys, installations on either
//! database, blocking calls.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use engine::admin::{Admin, NewCertificate};
use engine::bundle::{Download, DownloadError, DownloadRequest};
use engine::domain::{CertificateKind, Country, Day, Format, Thumbprint, UnixMillis, UploadTag};
use engine::seal::Keys;
use engine::settings::{
    BundleSettings, ContinuitySettings, DatabaseUrl, DownloadSettings, Settings, UploadSettings,
};
use engine::upload::{Receipt, UploadRequest};
use engine::wire::protobuf::{KeyFields, write_key};
use engine::{Clock, Engine, ManualClock, StartError, UploadError};
use tempfile::TempDir;
use testkit::local::MariaDb;
use testkit::protocol::signed_bytes;
use testkit::signer::{Encoding, Signer};

/// 2021-06-01T12:00:00Z: the certificates of the vectors are valid then.
pub(crate) const NOON: UnixMillis = UnixMillis(1_622_548_800_000);

fn pki(file: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/fixtures/vectors")
        .join(file)
}

fn read(file: &str) -> String {
    std::fs::read_to_string(pki(file)).expect("the vectors hold the PKI")
}

/// A file of the vectors' PKI.
pub(crate) fn vector_pki(file: &str) -> String {
    read(file)
}

fn der(pem_text: &str) -> Vec<u8> {
    pem::parse(pem_text).expect("PEM").into_contents()
}

/// A national backend with its real keys.
pub(crate) struct Participant {
    pub(crate) country: Country,
    pub(crate) uploader: Thumbprint,
    signer: Signer,
}

impl Participant {
    fn load(code: &str) -> Self {
        let certificate = der(&read(&format!("pki/{code}/{code}-signing.pem")));
        let key = der(&read(&format!("keys/TEST-ONLY-{code}-signing.key.pem")));
        let uploader = read(&format!("pki/{code}/{code}-authentication.sha256"));
        Self {
            country: Country::parse(code).unwrap(),
            uploader: Thumbprint::parse_hex(&uploader).unwrap(),
            signer: Signer::new(&certificate, &key).unwrap(),
        }
    }

    /// An upload of these keys, signed.
    pub(crate) fn upload(&self, tag: &str, keys: &[Vec<u8>], now: UnixMillis) -> UploadRequest {
        let body = keys.concat();
        let content = signed_bytes(&body).unwrap();
        UploadRequest {
            country: self.country,
            uploader: self.uploader,
            tag: UploadTag::parse(tag).unwrap(),
            batch_signature: self
                .signer
                .sign_base64(&content, now, Encoding::BerIndefinite)
                .into(),
            body: body.into(),
            format: Format::Protobuf,
            dry_run: false,
        }
    }

    /// A unique encoded key.
    pub(crate) fn key(&self, number: u64, now: UnixMillis) -> Vec<u8> {
        let mut key_data = [0; 16];
        key_data[..8].copy_from_slice(&number.to_be_bytes());
        key_data[8..10].copy_from_slice(self.country.as_str().as_bytes());
        let mut out = Vec::new();
        let fields = KeyFields {
            key_data: &key_data,
            rolling_start: u32::try_from(now.day().start_unix_seconds() / 600).unwrap(),
            rolling_period: 144,
            risk_level: 3,
            origin: self.country.as_str(),
            report_type: 1,
            days_since_onset: -2,
        };
        write_key(&mut out, &fields, ["FR", "PL"].into_iter());
        out
    }
}

/// Three participants: RSA-2048, RSA-4096, P-256.
pub(crate) fn participants() -> Vec<Participant> {
    ["DE", "IT", "ES"]
        .into_iter()
        .map(Participant::load)
        .collect()
}

/// An installation: a database with its participants onboarded, keys, a clock to move.
pub(crate) struct Installation {
    pub(crate) settings: Settings,
    pub(crate) clock: Arc<ManualClock>,
    /// The installation's keys, as a key file has them.
    pub(crate) keys: String,
    _folder: Option<TempDir>,
}

impl Installation {
    /// On a database file of its own.
    pub(crate) fn on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = DatabaseUrl::Sqlite(folder.path().join("efgs.db"));
        Self::onboard(database, Some(folder))
    }

    /// Without schema and participants, for an import.
    pub(crate) fn fresh_on_sqlite() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let database = DatabaseUrl::Sqlite(folder.path().join("efgs.db"));
        Self::configure(database, Some(folder))
    }

    /// Without schema and participants, for an import.
    pub(crate) fn fresh_on_mysql(server: &MariaDb, name: &str) -> Self {
        server.create_database(name).unwrap();
        Self::configure(server.url(name).parse().unwrap(), None)
    }

    /// On a database of its own on a running server.
    pub(crate) fn on_mysql(server: &MariaDb, name: &str) -> Self {
        server.create_database(name).unwrap();
        Self::onboard(server.url(name).parse().unwrap(), None)
    }

    fn onboard(database: DatabaseUrl, folder: Option<TempDir>) -> Self {
        Admin::migrate(&database).unwrap();
        let mut admin = Admin::open(&database).unwrap();
        let onboarded = Self::configure(database, folder);
        let settings = &onboarded.settings;
        for code in ["DE", "IT", "ES"] {
            for kind in [CertificateKind::Authentication, CertificateKind::Signing] {
                let name = format!("pki/{code}/{code}-{}", kind.name());
                let (pem, signature) = (read(&format!("{name}.pem")), read(&format!("{name}.sig")));
                let new = NewCertificate {
                    country: Country::parse(code).unwrap(),
                    kind,
                    pem: &pem,
                    operator_signature: &signature,
                };
                let anchor = &settings.trust_anchor_pem;
                admin.add_certificate(&settings.keys, anchor, &new).unwrap();
            }
        }
        onboarded
    }

    fn configure(database: DatabaseUrl, folder: Option<TempDir>) -> Self {
        let keys = Keys::generate_text();
        let settings = Settings {
            database,
            keys: Keys::parse(&keys).unwrap(),
            trust_anchor_pem: read("pki/trust-anchor/trust-anchor.pem"),
            upload: UploadSettings {
                keys_max: 30,
                ..UploadSettings::default()
            },
            bundle: BundleSettings {
                max_delay: Duration::from_millis(20),
                keys_max: 40,
                cache_bytes_max: 64 << 10,
                paced: false,
                clock_skew_max: None,
                ..BundleSettings::default()
            },
            download: DownloadSettings {
                max_age_days: 14,
                kept: None,
            },
            legacy_sha1: Vec::new(),
            pss: Vec::new(),
            cpu_threads: 2,
            continuity: ContinuitySettings::default(),
            quota: Default::default(),
            memory: Default::default(),
        };
        Self {
            settings,
            clock: Arc::new(ManualClock::new(NOON)),
            keys,
            _folder: folder,
        }
    }

    pub(crate) fn start(&self) -> Engine {
        self.try_start().unwrap()
    }

    pub(crate) fn try_start(&self) -> Result<Engine, StartError> {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        Engine::start(self.settings.clone(), clock)
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }
}

/// Uploads and waits for the answer.
pub(crate) fn upload(engine: &Engine, request: UploadRequest) -> Result<Receipt, UploadError> {
    let (sender, receiver) = channel();
    let permit = engine
        .admission()
        .admit(request.country, request.body.len())
        .unwrap();
    engine.upload(permit, request, move |answer| sender.send(answer).unwrap());
    receiver.recv().expect("every upload is answered")
}

/// Downloads and waits for the answer.
pub(crate) fn download(
    engine: &Engine,
    country: Country,
    date: Day,
    tag: Option<&str>,
    format: Format,
) -> Result<Download, DownloadError> {
    let (sender, receiver) = channel();
    let request = DownloadRequest {
        country,
        date,
        tag: tag.map(Into::into),
        format,
    };
    engine.download(request, move |answer| sender.send(answer).unwrap());
    receiver.recv().expect("every download is answered")
}

/// All download batches from a day on, following the links; waits until there are `keys` keys.
pub(crate) fn download_chain(
    engine: &Engine,
    country: Country,
    date: Day,
    keys: u64,
) -> Vec<Download> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        let chain = follow_links(engine, country, date);
        let found: u64 = chain
            .iter()
            .map(|download| u64::from(download.key_count()))
            .sum();
        if found >= keys {
            return chain;
        }
        assert!(
            Instant::now() < deadline,
            "{found} of {keys} keys can be downloaded"
        );
        std::thread::yield_now();
    }
}

fn follow_links(engine: &Engine, country: Country, date: Day) -> Vec<Download> {
    let mut chain: Vec<Download> = Vec::new();
    loop {
        let tag = chain
            .last()
            .map(|last| last.next.expect("followed only if there").to_string());
        match download(engine, country, date, tag.as_deref(), Format::Protobuf) {
            Ok(found) => chain.push(found),
            Err(DownloadError::Refused(_)) if chain.is_empty() => return chain,
            Err(error) => panic!("{tag:?}: {error}"),
        }
        if chain.last().is_some_and(|last| last.next.is_none()) {
            return chain;
        }
    }
}

/// The seeds to run: `EFGS_SEED`, or a few.
pub(crate) fn seeds() -> Vec<u64> {
    match std::env::var("EFGS_SEED") {
        Ok(seed) => vec![seed.parse().expect("EFGS_SEED is a number")],
        Err(_) => vec![1, 2, 3],
    }
}
