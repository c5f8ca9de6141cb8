//! A gateway with its environment: database, certificate list, clock, listeners.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use api::server::{self, BoundAddresses, ServeError, ServerSettings, TlsSettings};
use api::settings::ProxySettings;
use engine::admin::{Admin, NewCertificate};
use engine::domain::{Country, UnixMillis};
use engine::seal::Keys;
use engine::settings::{BundleSettings, DatabaseUrl, DownloadSettings, Settings, UploadSettings};
use engine::{Clock, Engine, ManualClock};
use http::HeaderName;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;
use testkit::local::MariaDb;
use tokio::runtime::Runtime;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::pki::{ANCHOR, Identity, Listed, everybody, member};
use super::raw::Raw;

/// 2021-06-01T12:00:00Z: the certificates of the vectors are valid then.
pub(crate) const NOON: UnixMillis = UnixMillis(1_622_548_800_000);

/// How long an upload waits for its download batch: the tests' clock skips it.
const MAX_DELAY: Duration = Duration::from_secs(60);

/// Timeout for what the gateway does on its own.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(20);

/// The kind of database of a test.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    Sqlite,
    MariaDb,
}

impl Kind {
    pub(crate) const ALL: [Self; 2] = [Self::Sqlite, Self::MariaDb];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Sqlite => "SQLite",
            Self::MariaDb => "MariaDB",
        }
    }
}

/// A world that several tests share, and its setup.
pub(crate) type Prepare = fn(&Databases, Kind) -> World;

type Shared = Arc<OnceLock<World>>;

/// Creates databases; all tests share one server.
#[derive(Debug)]
pub(crate) struct Databases {
    folder: TempDir,
    mariadb: OnceLock<MariaDb>,
    count: AtomicU32,
    worlds: Mutex<HashMap<(&'static str, Kind), Shared>>,
}

impl Databases {
    pub(crate) fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
            mariadb: OnceLock::new(),
            count: AtomicU32::new(0),
            worlds: Mutex::default(),
        }
    }

    fn make(&self, kind: Kind) -> DatabaseUrl {
        let name = format!("t{}", self.count.fetch_add(1, Ordering::Relaxed));
        match kind {
            Kind::Sqlite => DatabaseUrl::Sqlite(self.folder.path().join(name)),
            Kind::MariaDb => {
                let start = || MariaDb::start_with_tls(self.folder.path()).expect("MariaDB runs");
                let server = self.mariadb.get_or_init(start);
                server.create_database(&name).unwrap();
                server.url(&name).parse().unwrap()
            }
        }
    }

    /// The world of that name, created on first use.
    pub(crate) fn shared(&self, name: &'static str, kind: Kind, prepare: Prepare) -> Shared {
        let mut worlds = self.worlds.lock().unwrap();
        let shared = Arc::clone(worlds.entry((name, kind)).or_default());
        drop(worlds);
        shared.get_or_init(|| prepare(self, kind));
        shared
    }
}

/// The setup of a world.
#[derive(Debug)]
pub(crate) struct Options {
    pub(crate) now: UnixMillis,
    pub(crate) listed: Vec<Listed>,
    /// PEM of the gateway's trust anchor.
    pub(crate) anchor: String,
    pub(crate) engine: Settings,
    pub(crate) server: ServerSettings,
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct World {
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) addresses: BoundAddresses,
    pub(crate) runtime: Runtime,
    engine_settings: Settings,
    server_settings: ServerSettings,
    server_certificate: CertificateDer<'static>,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    engine: Arc<Engine>,
    stop: oneshot::Sender<()>,
    served: JoinHandle<Result<(), ServeError>>,
}

impl World {
    /// With every participant onboarded, at [`NOON`]; IE and CZ may sign with SHA-1.
    pub(crate) fn new(databases: &Databases, kind: Kind) -> Self {
        Self::with(databases, kind, |_| {})
    }

    pub(crate) fn with(
        databases: &Databases,
        kind: Kind,
        change: impl FnOnce(&mut Options),
    ) -> Self {
        let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
        let tls = TlsSettings {
            certificate_chain_pem: made.cert.pem(),
            private_key_pem: made.signing_key.serialize_pem(),
        };
        let mut options = Options {
            now: NOON,
            listed: everybody(),
            anchor: ANCHOR.pem.clone(),
            engine: engine_settings(databases.make(kind)),
            server: server_settings(tls),
        };
        change(&mut options);
        options.engine.trust_anchor_pem.clone_from(&options.anchor);
        onboard(&options);
        let mut world = Self {
            clock: Arc::new(ManualClock::new(options.now)),
            addresses: BoundAddresses::default(),
            runtime: Runtime::new().unwrap(),
            engine_settings: options.engine,
            server_settings: options.server,
            server_certificate: made.cert.der().clone(),
            running: None,
        };
        world.start();
        world
    }

    /// Starts on an existing database.
    pub(crate) fn start(&mut self) {
        let clock: Arc<dyn Clock> = Arc::<ManualClock>::clone(&self.clock);
        let engine = Engine::start(self.engine_settings.clone(), Arc::clone(&clock)).unwrap();
        let engine = Arc::new(engine);
        let (stop, stopped) = oneshot::channel();
        let (sender, addresses) = oneshot::channel();
        let settings = self.server_settings.clone();
        let served = self.runtime.spawn(server::serve(
            Arc::clone(&engine),
            clock,
            settings,
            move |addresses| sender.send(*addresses).unwrap(),
            async { stopped.await.unwrap_or(()) },
        ));
        self.addresses = self.runtime.block_on(addresses).expect("the server starts");
        self.running = Some(Running {
            engine,
            stop,
            served,
        });
    }

    /// Shuts down gracefully.
    pub(crate) fn stop(&mut self) {
        let Some(running) = self.running.take() else {
            return;
        };
        // It may have ended with an error, which is read below.
        let _ = running.stop.send(());
        self.runtime.block_on(running.served).unwrap().unwrap();
        running.engine.shutdown();
    }

    pub(crate) fn engine(&self) -> &Engine {
        &self.running.as_ref().expect("the gateway runs").engine
    }

    pub(crate) fn now(&self) -> UnixMillis {
        self.clock.now()
    }

    /// `yyyy-MM-dd`.
    pub(crate) fn today(&self) -> String {
        self.now().day().to_string()
    }

    /// Moves the clock to the same time of a later day.
    pub(crate) fn pass_days(&self, days: u64) {
        self.clock.advance_millis(days * 86_400_000);
    }

    /// Sets the clock to any time, which an operator confirms.
    pub(crate) fn move_to(&self, now: UnixMillis) {
        self.clock.set(now);
        let mut admin = Admin::open(&self.engine_settings.database).unwrap();
        admin.confirm_day(now.day(), false).unwrap();
        let begun = Instant::now();
        while self.engine().status().day.day != now.day() {
            assert!(
                begun.elapsed() < TIMEOUT,
                "the gateway does not take it over"
            );
            std::thread::yield_now();
        }
    }

    /// Waits until the uploads are in a download batch; returns its tag.
    pub(crate) fn cut(&self) -> String {
        let before = self.engine().status().newest_batch;
        let delay = u64::try_from(MAX_DELAY.as_millis()).unwrap();
        self.clock.advance_millis(delay);
        let begun = Instant::now();
        loop {
            match self.engine().status().newest_batch {
                Some(tag) if Some(tag) != before => return tag.to_string(),
                _ => assert!(begun.elapsed() < TIMEOUT, "no download batch was cut"),
            }
            std::thread::yield_now();
        }
    }

    /// A connection to the proxy port.
    pub(crate) fn proxy(&self) -> Raw {
        Raw::plain(self.addresses.proxy.unwrap())
    }

    /// A connection to the public port with the certificate of a member.
    pub(crate) fn tls(&self, country: &str) -> Raw {
        self.tls_as(Some(&member(country).authentication))
    }

    /// The same with any certificate, or none.
    pub(crate) fn tls_as(&self, identity: Option<&Identity>) -> Raw {
        Raw::tls(self.public(), Arc::new(self.tls_config(identity)))
    }

    pub(crate) fn public(&self) -> SocketAddr {
        self.addresses.public.unwrap()
    }

    pub(crate) fn tls_config(&self, identity: Option<&Identity>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        match identity {
            None => config.with_no_client_auth(),
            Some(identity) => {
                let chain = CertificateDer::pem_slice_iter(identity.pem.as_bytes());
                let chain = chain.collect::<Result<_, _>>().unwrap();
                let key = PrivateKeyDer::try_from(identity.key.clone()).unwrap();
                config.with_client_auth_cert(chain, key).unwrap()
            }
        }
    }

    pub(crate) fn server_certificate(&self) -> &CertificateDer<'static> {
        &self.server_certificate
    }

    /// As the operator's command line does.
    pub(crate) fn revoke(&self, identity: &Identity) {
        let mut admin = Admin::open(&self.engine_settings.database).unwrap();
        let keys = &self.engine_settings.keys;
        admin
            .revoke_certificate(keys, &identity.thumbprint())
            .unwrap();
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.stop();
        }
    }
}

fn onboard(options: &Options) {
    let database = &options.engine.database;
    let keys = &options.engine.keys;
    Admin::migrate(database).unwrap();
    let mut admin = Admin::open(database).unwrap();
    for Listed {
        kind,
        identity,
        revoked,
        anchor,
    } in &options.listed
    {
        let new = NewCertificate {
            country: identity.country,
            kind: *kind,
            pem: &identity.pem,
            operator_signature: &identity.operator_signature,
        };
        let added = admin.add_certificate(keys, anchor, &new);
        let added = added.unwrap_or_else(|error| panic!("{error}: {}", identity.pem));
        if *revoked {
            admin.revoke_certificate(keys, &added.thumbprint).unwrap();
        }
    }
}

fn engine_settings(database: DatabaseUrl) -> Settings {
    Settings {
        database,
        keys: Keys::parse(&Keys::generate_text()).unwrap(),
        trust_anchor_pem: String::new(),
        upload: UploadSettings::default(),
        bundle: BundleSettings {
            max_delay: MAX_DELAY,
            paced: false,
            clock_skew_max: None,
            ..BundleSettings::default()
        },
        download: DownloadSettings::default(),
        legacy_sha1: ["IE", "CZ"]
            .map(|code| Country::parse(code).unwrap())
            .into(),
        pss: ["DE", "ES"]
            .map(|code| Country::parse(code).unwrap())
            .into(),
        cpu_threads: 2,
        continuity: Default::default(),
        quota: Default::default(),
        memory: Default::default(),
    }
}

fn server_settings(tls: TlsSettings) -> ServerSettings {
    let free: SocketAddr = "127.0.0.1:0".parse().unwrap();
    ServerSettings {
        public_listen: Some(free),
        tls: Some(tls),
        proxy: Some(ProxySettings {
            listen: Some(free),
            socket: None,
            secret: None,
            trusted_peers: Vec::new(),
            thumbprint_header: HeaderName::from_static("x-ssl-client-sha256"),
            distinguished_name_header: HeaderName::from_static("x-ssl-client-dn"),
            certificate_header: None,
        }),
        ..ServerSettings::default()
    }
}
