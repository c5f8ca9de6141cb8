//! Shared by tests over real sockets: a gateway on free ports with real participants, and raw
//! connections to it.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::server::{self, BoundAddresses, ServeError, ServerSettings, TlsSettings};
use api::settings::ProxySettings;
use efgs_client::{Caller, Connection, Protocol, Target};
use engine::admin::{Admin, NewCertificate, sign_with_trust_anchor};
use engine::domain::{CertificateKind, Country, Thumbprint, UnixMillis};
use engine::seal::Keys;
use engine::settings::{BundleSettings, DatabaseUrl, DownloadSettings, Settings, UploadSettings};
use engine::wire::protobuf::{KeyFields, write_key};
use engine::{Clock, Engine, ManualClock};
use http::HeaderName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore, SupportedProtocolVersion};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tempfile::TempDir;
use testkit::participants::{Identity, Participant};
use testkit::protocol::signed_bytes;
use testkit::signer::{Encoding, Signer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// 2021-06-01T12:00:00Z: the certificates of the vectors are valid then.
pub(crate) const NOON: UnixMillis = UnixMillis(1_622_548_800_000);
/// The day of [`NOON`].
pub(crate) const TODAY: &str = "2021-06-01";

fn vectors(file: &str) -> PathBuf {
    let engine = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine");
    engine.join("tests/fixtures/vectors").join(file)
}

/// The text of a file of the vectors.
pub(crate) fn read(file: &str) -> String {
    std::fs::read_to_string(vectors(file)).expect("the vectors hold the PKI")
}

fn certificate(code: &str, kind: CertificateKind) -> String {
    read(&format!("pki/{code}/{code}-{}.pem", kind.name()))
}

fn identity(code: &str, kind: CertificateKind) -> Identity {
    let chain = certificate(code, kind);
    let key = read(&format!("keys/TEST-ONLY-{code}-{}.key.pem", kind.name()));
    Identity {
        chain: vec![CertificateDer::from_pem_slice(chain.as_bytes()).unwrap()],
        key: PrivateKeyDer::from_pem_slice(key.as_bytes()).unwrap(),
    }
}

/// Lower-case hex of the SHA-256 of a participant's authentication certificate.
pub(crate) fn thumbprint(code: &str) -> String {
    let text = read(&format!("pki/{code}/{code}-authentication.sha256"));
    Thumbprint::parse_hex(text.trim()).unwrap().to_string()
}

/// A running gateway, its clock at [`NOON`], with DE, IT and ES onboarded.
pub(crate) struct Gateway {
    pub(crate) addresses: BoundAddresses,
    pub(crate) clock: Arc<ManualClock>,
    pub(crate) engine: Arc<Engine>,
    server_certificate: CertificateDer<'static>,
    database: DatabaseUrl,
    keys: Keys,
    stop: oneshot::Sender<()>,
    running: JoinHandle<Result<(), ServeError>>,
    settings: Settings,
    folder: Arc<TempDir>,
}

impl Gateway {
    pub(crate) async fn start() -> Self {
        Self::start_with(|_, _| {}).await
    }

    /// With settings changed before the start.
    pub(crate) async fn start_with(
        change: impl FnOnce(&mut Settings, &mut ServerSettings),
    ) -> Self {
        Self::try_start(change).await.expect("the server starts")
    }

    pub(crate) async fn try_start(
        change: impl FnOnce(&mut Settings, &mut ServerSettings),
    ) -> Result<Self, ServeError> {
        let folder = Arc::new(tempfile::tempdir().unwrap());
        let database = DatabaseUrl::Sqlite(folder.path().join("efgs.db"));
        Self::try_start_on(database, folder, change).await
    }

    /// On a database that is there and empty; the folder goes with the gateway.
    pub(crate) async fn try_start_on(
        database: DatabaseUrl,
        folder: Arc<TempDir>,
        change: impl FnOnce(&mut Settings, &mut ServerSettings),
    ) -> Result<Self, ServeError> {
        let settings = engine_settings(database.clone());
        onboard(&database, &settings.keys);
        Self::start_on(folder, settings, change).await
    }

    /// Another gateway on the same database, with other settings.
    #[allow(dead_code, reason = "some test binaries have one gateway each")]
    pub(crate) async fn another(&self, change: impl FnOnce(&mut Settings)) -> Self {
        self.another_with(|settings, _| change(settings)).await
    }

    /// The same, with other settings of the server, too.
    pub(crate) async fn another_with(
        &self,
        change: impl FnOnce(&mut Settings, &mut ServerSettings),
    ) -> Self {
        let (folder, settings) = (Arc::clone(&self.folder), self.settings.clone());
        let started = Self::start_on(folder, settings, change);
        started.await.expect("the server starts")
    }

    async fn start_on(
        folder: Arc<TempDir>,
        mut settings: Settings,
        change: impl FnOnce(&mut Settings, &mut ServerSettings),
    ) -> Result<Self, ServeError> {
        let (mut server, server_certificate) = server_settings();
        change(&mut settings, &mut server);
        let (database, keys) = (settings.database.clone(), settings.keys.clone());
        let clock = Arc::new(ManualClock::new(NOON));
        let shared: Arc<dyn Clock> = Arc::<ManualClock>::clone(&clock);
        let engine = Arc::new(Engine::start(settings.clone(), Arc::clone(&shared)).unwrap());
        let (stop, stopped) = oneshot::channel();
        let (sender, addresses) = oneshot::channel();
        let running = tokio::spawn(server::serve(
            Arc::clone(&engine),
            shared,
            server,
            move |addresses| sender.send(*addresses).unwrap(),
            async { stopped.await.unwrap_or(()) },
        ));
        let Ok(addresses) = addresses.await else {
            return Err(running.await.unwrap().unwrap_err());
        };
        Ok(Self {
            addresses,
            clock,
            engine,
            server_certificate,
            database,
            keys,
            stop,
            running,
            settings,
            folder,
        })
    }

    /// Keeps uploads waiting for their commit, by SQLite's lock, until it is dropped.
    pub(crate) fn lock_database(&self) -> rusqlite::Connection {
        let DatabaseUrl::Sqlite(path) = &self.database else {
            panic!("these gateways are on SQLite");
        };
        let connection = rusqlite::Connection::open(path).unwrap();
        connection.execute_batch("BEGIN IMMEDIATE").unwrap();
        connection
    }

    /// Sends the shutdown signal; returns a future that waits for the end.
    pub(crate) fn stop(self) -> JoinHandle<Result<(), ServeError>> {
        self.stop.send(()).unwrap();
        let (running, folder) = (self.running, self.folder);
        tokio::spawn(async move {
            let ended = running.await.unwrap();
            // A gateway whose database file is removed answers no more uploads.
            drop(folder);
            ended
        })
    }

    pub(crate) fn revoke(&self, thumbprint: &str) {
        let mut admin = Admin::open(&self.database).unwrap();
        let thumbprint = Thumbprint::parse_hex(thumbprint).unwrap();
        admin.revoke_certificate(&self.keys, &thumbprint).unwrap();
    }

    /// A connection to the public port with a participant's certificate.
    pub(crate) fn mutual_tls(&self, code: &str, protocol: Protocol) -> Connection {
        self.mutual_tls_at(self.addresses.public.unwrap().port(), code, protocol)
    }

    /// The same to another port, whose server has the same certificate.
    pub(crate) fn mutual_tls_at(&self, port: u16, code: &str, protocol: Protocol) -> Connection {
        let participant = Participant {
            country: Country::parse(code).unwrap(),
            authentication: identity(code, CertificateKind::Authentication),
            // Not used: these connections download.
            signer: signer("DE"),
        };
        let caller = Caller::new(&participant, &self.server_certificate, protocol).unwrap();
        let target = Target::parse(&format!("https://localhost:{port}")).unwrap();
        let timeout = Duration::from_secs(30);
        Connection::new(Arc::new(caller), Arc::from([target]), 0, timeout)
    }

    /// Lists an authentication certificate of DE's, signed by the trust anchor.
    pub(crate) fn list(&self, pem: &str) {
        let anchor = read("pki/trust-anchor/trust-anchor.pem");
        let anchor_key = read("keys/TEST-ONLY-trust-anchor.key.pem");
        let signature = sign_with_trust_anchor(&anchor_key, pem).unwrap();
        let new = NewCertificate {
            country: Country::parse("DE").unwrap(),
            kind: CertificateKind::Authentication,
            pem,
            operator_signature: &signature,
        };
        let mut admin = Admin::open(&self.database).unwrap();
        admin.add_certificate(&self.keys, &anchor, &new).unwrap();
    }

    /// A TLS stream to the public port without a client certificate.
    pub(crate) async fn tls_without_certificate(
        &self,
        version: &'static SupportedProtocolVersion,
    ) -> TlsStream<TcpStream> {
        self.tls_showing(version, None).await.unwrap()
    }

    /// A TLS stream to the public port with a client certificate, whose key may not match.
    pub(crate) async fn tls_showing(
        &self,
        version: &'static SupportedProtocolVersion,
        shown: Option<CertifiedKey>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let address = self.addresses.public.unwrap();
        let tcp = TcpStream::connect(address).await.unwrap();
        self.tls_over(tcp, version, shown).await
    }

    /// The same over a connection.
    pub(crate) async fn tls_over(
        &self,
        tcp: TcpStream,
        version: &'static SupportedProtocolVersion,
        shown: Option<CertifiedKey>,
    ) -> io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.server_certificate.clone()).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[version])
            .unwrap()
            .with_root_certificates(roots);
        let config = match shown {
            Some(shown) => {
                config.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
            }
            None => config.with_no_client_auth(),
        };
        let name = "localhost".try_into().unwrap();
        TlsConnector::from(Arc::new(config))
            .connect(name, tcp)
            .await
    }

    /// A plain socket to the proxy port.
    pub(crate) async fn proxy(&self) -> Raw {
        Raw::connect(self.addresses.proxy.unwrap()).await
    }

    /// A plain socket to the operations port.
    pub(crate) async fn operations(&self) -> Raw {
        Raw::connect(self.addresses.operations.unwrap()).await
    }
}

fn onboard(database: &DatabaseUrl, keys: &Keys) {
    Admin::migrate(database).unwrap();
    let mut admin = Admin::open(database).unwrap();
    let anchor = read("pki/trust-anchor/trust-anchor.pem");
    for code in ["DE", "IT", "ES"] {
        for kind in [CertificateKind::Authentication, CertificateKind::Signing] {
            let pem = certificate(code, kind);
            let signature = read(&format!("pki/{code}/{code}-{}.sig", kind.name()));
            let new = NewCertificate {
                country: Country::parse(code).unwrap(),
                kind,
                pem: &pem,
                operator_signature: &signature,
            };
            admin.add_certificate(keys, &anchor, &new).unwrap();
        }
    }
}

fn engine_settings(database: DatabaseUrl) -> Settings {
    Settings {
        database,
        keys: Keys::parse(&Keys::generate_text()).unwrap(),
        trust_anchor_pem: read("pki/trust-anchor/trust-anchor.pem"),
        upload: UploadSettings {
            keys_max: 30,
            ..UploadSettings::default()
        },
        bundle: BundleSettings {
            max_delay: Duration::from_millis(10),
            keys_max: 40,
            paced: false,
            clock_skew_max: None,
            ..BundleSettings::default()
        },
        download: DownloadSettings::default(),
        legacy_sha1: Vec::new(),
        pss: Vec::new(),
        continuity: Default::default(),
        quota: Default::default(),
        memory: Default::default(),
        cpu_threads: 2,
    }
}

fn server_settings() -> (ServerSettings, CertificateDer<'static>) {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let free = Some("127.0.0.1:0".parse().unwrap());
    let settings = ServerSettings {
        public_listen: free,
        tls: Some(TlsSettings {
            certificate_chain_pem: made.cert.pem(),
            private_key_pem: made.signing_key.serialize_pem(),
        }),
        proxy: Some(ProxySettings {
            listen: Some("127.0.0.1:0".parse().unwrap()),
            socket: None,
            secret: None,
            trusted_peers: Vec::new(),
            thumbprint_header: HeaderName::from_static("x-ssl-client-sha256"),
            distinguished_name_header: HeaderName::from_static("x-ssl-client-dn"),
            certificate_header: None,
        }),
        operations_listen: free,
        ..ServerSettings::default()
    };
    (settings, made.cert.der().clone())
}

/// A signed upload.
pub(crate) struct Upload {
    pub(crate) body: Vec<u8>,
    pub(crate) signature: String,
}

/// Unique keys, signed by a participant.
pub(crate) fn signed_upload(code: &str, numbers: std::ops::Range<u64>) -> Upload {
    sign_upload(code, numbers.flat_map(|number| key(code, number)).collect())
}

/// A body, signed by a participant.
pub(crate) fn sign_upload(code: &str, body: Vec<u8>) -> Upload {
    let content = signed_bytes(&body).unwrap();
    let signature = signer(code).sign_base64(&content, NOON, Encoding::BerIndefinite);
    Upload { body, signature }
}

/// The upload of a case of the vectors.
pub(crate) fn vector(case: &str) -> Upload {
    let body = std::fs::read(vectors(&format!("{case}/batch.pb"))).unwrap();
    let signature = read(&format!("{case}/signature.b64"));
    Upload {
        body,
        signature: signature.trim().to_owned(),
    }
}

fn signer(code: &str) -> Signer {
    let identity = identity(code, CertificateKind::Signing);
    Signer::new(&identity.chain[0], identity.key.secret_der()).unwrap()
}

fn key(code: &str, number: u64) -> Vec<u8> {
    let mut key_data = [0; 16];
    key_data[..8].copy_from_slice(&number.to_be_bytes());
    key_data[8..10].copy_from_slice(code.as_bytes());
    let mut out = Vec::new();
    let fields = KeyFields {
        key_data: &key_data,
        rolling_start: u32::try_from(NOON.day().start_unix_seconds() / 600).unwrap(),
        rolling_period: 144,
        risk_level: 3,
        origin: code,
        report_type: 1,
        days_since_onset: -2,
    };
    write_key(&mut out, &fields, ["FR", "PL"].into_iter());
    out
}

/// The identity headers of a proxy for a participant.
pub(crate) fn forwarded(code: &str) -> String {
    format!(
        "X-SSL-Client-SHA256: {}\r\nX-SSL-Client-DN: C={code}\r\n",
        thumbprint(code)
    )
}

impl Upload {
    /// Its request through a proxy, without a `Content-Length`.
    pub(crate) fn chunked(&self, code: &str, tag: &str) -> Vec<u8> {
        let length = format!("Content-Length: {}", self.body.len());
        let head = self.head(code, tag);
        let head = head.replacen(&length, "Transfer-Encoding: chunked", 1);
        let size = format!("\r\n{:x}\r\n", self.body.len());
        let end = b"\r\n0\r\n\r\n";
        [head.as_bytes(), size.as_bytes(), &self.body, end].concat()
    }

    /// The header of its request through a proxy, without the empty line.
    pub(crate) fn head(&self, code: &str, tag: &str) -> String {
        let (length, signature) = (self.body.len(), &self.signature);
        format!(
            "POST /diagnosiskeys/upload HTTP/1.1\r\nHost: gateway\r\n{}\
             Content-Type: application/protobuf; version=1.0\r\nContent-Length: {length}\r\n\
             batchTag: {tag}\r\nbatchSignature: {signature}\r\n",
            forwarded(code)
        )
    }
}

/// A request without a body, through a proxy.
pub(crate) fn get(path: &str, code: &str, more: &str) -> String {
    format!(
        "GET {path} HTTP/1.1\r\nHost: gateway\r\n{}{more}\r\n",
        forwarded(code)
    )
}

/// A plain socket.
pub(crate) struct Raw {
    stream: TcpStream,
    buffered: Vec<u8>,
}

/// A response, unparsed.
#[derive(Debug)]
pub(crate) struct RawAnswer {
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

impl RawAnswer {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    /// The value of a header, by the exact case of its name.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("{self:?}"))
    }
}

/// Timeout of a test for the other side.
const TIMEOUT: Duration = Duration::from_secs(30);

impl Raw {
    pub(crate) async fn connect(address: std::net::SocketAddr) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        stream.set_nodelay(true).unwrap();
        Self {
            stream,
            buffered: Vec::new(),
        }
    }

    pub(crate) async fn write(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends; the peer may not accept all of it.
    pub(crate) async fn try_write(&mut self, bytes: impl AsRef<[u8]>) -> io::Result<()> {
        self.stream.write_all(bytes.as_ref()).await
    }

    /// Sends the end of the stream, and continues receiving.
    pub(crate) async fn close_sending_side(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// The same; the peer may have closed the connection.
    pub(crate) async fn try_close_sending_side(&mut self) -> io::Result<()> {
        self.stream.shutdown().await
    }

    /// All that comes until the gateway closes the connection.
    pub(crate) async fn until_end(&mut self) -> Vec<u8> {
        while self.read_more().await > 0 {}
        std::mem::take(&mut self.buffered)
    }

    /// Sends a whole request and reads the response.
    pub(crate) async fn ask(&mut self, head: &str, body: &[u8]) -> RawAnswer {
        self.write([head.as_bytes(), b"\r\n", body].concat()).await;
        self.answer(head.starts_with("HEAD ")).await
    }

    /// Sends a request made by `get` and reads the response.
    pub(crate) async fn get(&mut self, request: &str) -> RawAnswer {
        self.write(request).await;
        self.answer(false).await
    }

    /// Reads one response with a `Content-Length`.
    pub(crate) async fn answer(&mut self, without_body: bool) -> RawAnswer {
        let end = loop {
            let found = self
                .buffered
                .windows(4)
                .position(|window| window == b"\r\n\r\n");
            if let Some(end) = found {
                break end + 4;
            }
            assert!(
                self.read_more().await > 0,
                "closed before an answer: {:?}",
                self.buffered
            );
        };
        let rest = self.buffered.split_off(end);
        let head = String::from_utf8(std::mem::replace(&mut self.buffered, rest)).unwrap();
        let mut answer = RawAnswer {
            head,
            body: Vec::new(),
        };
        let length = answer
            .header("Content-Length")
            .map_or(0, |text| text.parse().unwrap());
        let length = if without_body { 0 } else { length };
        while self.buffered.len() < length {
            assert!(
                self.read_more().await > 0,
                "closed inside an answer: {}",
                answer.head
            );
        }
        let rest = self.buffered.split_off(length);
        answer.body = std::mem::replace(&mut self.buffered, rest);
        answer
    }

    async fn read_more(&mut self) -> usize {
        let read = self.stream.read_buf(&mut self.buffered);
        let read = tokio::time::timeout(TIMEOUT, read).await;
        // A reset counts as an end.
        read.expect("the gateway does something").unwrap_or(0)
    }

    /// Waits until the gateway closes the connection; returns how long that took.
    pub(crate) async fn until_closed(&mut self) -> Duration {
        let begun = Instant::now();
        while self.read_more().await > 0 {}
        begun.elapsed()
    }
}
