//! Whole engines on databases of their own, for the stages that need one.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};
use std::time::Duration;

use engine::admin::{Admin, NewCertificate};
use engine::bundle::{Download, DownloadError, DownloadRequest};
use engine::domain::{CertificateKind, Country, Format, Thumbprint};
use engine::seal::Keys;
use engine::settings::{
    BundleSettings, DatabaseUrl, DownloadSettings, QuotaSettings, Settings, UploadSettings,
};
use engine::trust::{CertificateRow, Trust, TrustAnchors};
use engine::upload::{Receipt, UploadRequest};
use engine::{Clock, Engine, ManualClock, UploadError};
use tempfile::TempDir;
use testkit::local::MariaDb;

use crate::backend::{Backend, ECDSA_P256, RSA_2048, read_fixture};
use crate::inputs::{FULL, NOON};

const PARTICIPANTS: [&str; 2] = [RSA_2048, ECDSA_P256];

fn trust_anchor_pem() -> String {
    read_fixture("pki/trust-anchor/trust-anchor.pem")
}

/// Rows of the participants' certificates.
fn rows() -> impl Iterator<Item = CertificateRow> {
    let kinds = [CertificateKind::Authentication, CertificateKind::Signing];
    PARTICIPANTS
        .into_iter()
        .flat_map(move |code| kinds.map(|kind| row(code, kind)))
}

fn row(code: &str, kind: CertificateKind) -> CertificateRow {
    let file = |ending: &str| read_fixture(&format!("pki/{code}/{code}-{}.{ending}", kind.name()));
    CertificateRow {
        thumbprint: Thumbprint::parse_hex(&file("sha256")).expect("the fixtures hold thumbprints"),
        country: Country::parse(code).expect("two letters"),
        kind,
        pem: file("pem").into(),
        operator_signature: file("sig").into(),
        revoked_at: None,
    }
}

/// The certificate list, without a database.
pub fn certificate_list() -> Trust {
    let anchor = TrustAnchors::from_pem(&trust_anchor_pem()).expect("the fixtures hold an anchor");
    Trust::load(rows(), &anchor, None)
}

/// Which database.
#[derive(Debug)]
pub enum BenchDatabase {
    /// A file of its own.
    Sqlite,
    /// A database of its own on a private server.
    MariaDb(MariaDb),
}

impl BenchDatabase {
    /// Its name in bench ids.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Sqlite => "sqlite",
            Self::MariaDb(_) => "mariadb",
        }
    }
}

/// The databases to measure on: MariaDB only where it is installed.
pub fn bench_databases() -> Vec<BenchDatabase> {
    match MariaDb::start(&std::env::temp_dir()) {
        Ok(server) => vec![BenchDatabase::Sqlite, BenchDatabase::MariaDb(server)],
        Err(error) => {
            eprintln!("without MariaDB: {error}");
            vec![BenchDatabase::Sqlite]
        }
    }
}

/// A running engine with its participants onboarded.
#[derive(Debug)]
pub struct Installation {
    /// The engine.
    pub engine: Engine,
    // Dropped after the engine.
    _folder: Option<TempDir>,
}

/// How an engine differs from the defaults.
#[derive(Debug, Clone, Copy)]
pub struct EngineOptions {
    /// Keys with which a download batch is full: the largest upload, too.
    pub bundle_keys: u32,
    /// Memory for bundles, in bytes.
    pub cache_bytes_max: usize,
}

impl Default for EngineOptions {
    fn default() -> Self {
        Self {
            bundle_keys: FULL,
            cache_bytes_max: BundleSettings::default().cache_bytes_max,
        }
    }
}

impl Installation {
    /// Starts an engine on a new database; `name` is unused on that server.
    ///
    /// # Panics
    /// When anything of it fails: a bench has no better answer.
    pub fn start(place: &BenchDatabase, name: &str, shape: EngineOptions) -> Self {
        let (database, folder) = match place {
            BenchDatabase::Sqlite => {
                let folder = tempfile::tempdir().expect("a folder for the database");
                let url = DatabaseUrl::Sqlite(folder.path().join("efgs.db"));
                (url, Some(folder))
            }
            BenchDatabase::MariaDb(server) => {
                server.create_database(name).expect("a database");
                let url = server.url(name).parse().expect("a URL");
                (url, None)
            }
        };
        let keys = keys();
        onboard(&database, &keys);
        let clock: Arc<dyn Clock> = Arc::new(ManualClock::new(NOON));
        let engine = Engine::start(settings(database, keys, trust_anchor_pem(), shape), clock);
        Self {
            engine: engine.expect("the engine starts on a new database"),
            _folder: folder,
        }
    }
}

fn onboard(database: &DatabaseUrl, keys: &Keys) {
    Admin::migrate(database).expect("a new database can be migrated");
    let mut admin = Admin::open(database).expect("a migrated database can be opened");
    let anchor = trust_anchor_pem();
    for row in rows() {
        let new = NewCertificate {
            country: row.country,
            kind: row.kind,
            pem: &row.pem,
            operator_signature: &row.operator_signature,
        };
        let added = admin.add_certificate(keys, &anchor, &new);
        added.expect("the anchor signed the fixtures");
    }
}

/// Settings of an engine for benches.
pub fn settings(
    database: DatabaseUrl,
    keys: Keys,
    trust_anchor_pem: String,
    shape: EngineOptions,
) -> Settings {
    Settings {
        database,
        keys,
        trust_anchor_pem,
        upload: UploadSettings {
            keys_max: shape.bundle_keys,
            ..UploadSettings::default()
        },
        bundle: BundleSettings {
            max_delay: Duration::from_millis(100),
            keys_max: shape.bundle_keys,
            cache_bytes_max: shape.cache_bytes_max,
            paced: false,
            clock_skew_max: None,
            ..BundleSettings::default()
        },
        download: DownloadSettings::default(),
        legacy_sha1: Vec::new(),
        pss: Vec::new(),
        cpu_threads: 0,
        continuity: Default::default(),
        quota: QuotaSettings {
            keys_per_day: u64::MAX,
            ..QuotaSettings::default()
        },
        memory: Default::default(),
    }
}

/// Fresh keys of an installation.
pub fn keys() -> Keys {
    Keys::parse(&Keys::generate_text()).expect("generated keys can be read")
}

/// An upload on its way.
#[derive(Debug)]
pub struct PendingUpload(Receiver<Result<Receipt, UploadError>>);

impl PendingUpload {
    /// Waits until it is stored.
    ///
    /// # Panics
    /// When it is not.
    pub fn wait(self) {
        let answer = self.0.recv().expect("every upload is answered");
        let receipt = answer.expect("the upload breaks no rule");
        assert!(
            matches!(
                receipt,
                Receipt::Stored {
                    replayed: false,
                    ..
                }
            ),
            "{receipt:?}"
        );
    }
}

/// Sends an upload off.
///
/// # Panics
/// When there is no room for it.
pub fn upload(engine: &Engine, request: UploadRequest) -> PendingUpload {
    let permit = engine
        .admission()
        .admit(request.country, request.body.len())
        .expect("a bench stays within the bounds");
    let (sender, receiver) = channel();
    engine.upload(permit, request, move |answer| {
        sender.send(answer).expect("the bench waits for the answer");
    });
    PendingUpload(receiver)
}

/// Uploads that [`fill`] keeps in flight; a participant may have 50 (a quarter of 200).
const UPLOADS_IN_FLIGHT: usize = 12;

/// Stores keys of one backend in full uploads, from the upload number `first`; returns the number
/// after the last. Signs the next uploads while the database writes.
///
/// # Panics
/// When an upload is refused.
pub fn fill(engine: &Engine, backend: &Backend, first: u32, keys: u64) -> u32 {
    let uploads = u32::try_from(keys.div_ceil(u64::from(FULL))).expect("fewer than 2^32 uploads");
    let mut on_their_way = VecDeque::new();
    for index in first..first + uploads {
        if on_their_way.len() == UPLOADS_IN_FLIGHT
            && let Some(oldest) = on_their_way.pop_front()
        {
            PendingUpload::wait(oldest);
        }
        on_their_way.push_back(upload(engine, backend.upload(index, FULL)));
    }
    on_their_way.into_iter().for_each(PendingUpload::wait);
    first + uploads
}

/// Downloads the batch with that tag; without a tag, the first of the bench's day.
///
/// # Errors
/// What the engine says.
///
/// # Panics
/// When the engine does not answer.
pub fn download(
    engine: &Engine,
    country: Country,
    tag: Option<&str>,
    format: Format,
) -> Result<Download, DownloadError> {
    let (sender, receiver) = channel();
    let request = DownloadRequest {
        country,
        date: NOON.day(),
        tag: tag.map(Into::into),
        format,
    };
    engine.download(request, move |answer| {
        sender.send(answer).expect("the bench waits for the answer");
    });
    receiver.recv().expect("every download is answered")
}

/// Waits until the engine has cut `batches` download batches.
pub fn wait_for_batches(engine: &Engine, batches: u32) {
    let cut = || {
        let newest = engine.status().newest_batch;
        newest.is_some_and(|tag| tag.number >= batches)
    };
    while !cut() {
        std::thread::yield_now();
    }
}
