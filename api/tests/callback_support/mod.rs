//! Shared by tests of callbacks: an installation made by `efgs init`, gateways on it in this
//! process, receivers with real TLS.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod receiver;

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use api::delivery::{Resolve, Resolving};
use api::server::{self, BoundAddresses, ServerSettings};
use api::settings::{ProxySettings, Settings};
use engine::admin::{Admin, NewCertificate, sign_with_trust_anchor};
use engine::callbacks::{CallbackId, Subscription};
use engine::domain::{CertificateKind, Country, Format, Thumbprint, UploadTag};
use engine::seal::Keys;
use engine::settings::DatabaseUrl;
use engine::upload::UploadRequest;
use engine::wire::protobuf::{KeyFields, write_key};
use engine::{Clock, Engine, SystemClock};
use http::HeaderName;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use testkit::protocol::signed_bytes;
use testkit::signer::{Encoding, Signer};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::sync::oneshot;

use crate::cli_support::Installation;
pub(crate) use receiver::{Answer, Receiver, proxy};

/// Timeout of a test for the other side.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// A certificate and its key, both PEM.
#[derive(Clone)]
pub(crate) struct Pair {
    pub(crate) certificate: String,
    pub(crate) key: String,
}

impl Pair {
    /// From the installation's PKI.
    pub(crate) fn of(installation: &Installation, name: &str) -> Self {
        Self {
            certificate: installation.read(&format!("pki/{name}.pem")),
            key: installation.read(&format!("pki/{name}.key")),
        }
    }

    /// A certificate of DE's that webpki rejects, with a test key, which may not match.
    pub(crate) fn odd(name: &str, key: &str) -> Self {
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../engine/tests/fixtures");
        let read = |file: String| std::fs::read_to_string(fixtures.join(file)).unwrap();
        Self {
            certificate: read(format!("odd-certificates/{name}.pem")),
            key: read(format!("vectors/keys/TEST-ONLY-{key}.key.pem")),
        }
    }

    /// Self-signed for a country, valid between two years.
    pub(crate) fn between(country: &str, begins: i32, ends: i32) -> Self {
        let mut params = rcgen::CertificateParams::new(["localhost".to_owned()]).unwrap();
        let name = &mut params.distinguished_name;
        name.push(rcgen::DnType::CountryName, country);
        params.not_before = rcgen::date_time_ymd(begins, 1, 1);
        params.not_after = rcgen::date_time_ymd(ends, 1, 1);
        let key = rcgen::KeyPair::generate().unwrap();
        Self {
            certificate: params.self_signed(&key).unwrap().pem(),
            key: key.serialize_pem(),
        }
    }

    pub(crate) fn chain(&self) -> Vec<CertificateDer<'static>> {
        vec![CertificateDer::from_pem_slice(self.certificate.as_bytes()).unwrap()]
    }

    pub(crate) fn private_key(&self) -> PrivateKeyDer<'static> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).unwrap()
    }

    pub(crate) fn thumbprint(&self) -> Thumbprint {
        thumbprint(&self.chain()[0])
    }
}

pub(crate) fn thumbprint(certificate: &CertificateDer<'_>) -> Thumbprint {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, certificate);
    Thumbprint(digest.as_ref().try_into().unwrap())
}

pub(crate) fn country(code: &str) -> Country {
    Country::parse(code).unwrap()
}

/// The settings of an installation, adapted to tests.
pub(crate) fn settings(installation: &Installation) -> (Settings, ServerSettings) {
    let mut settings = Settings::load(&installation.path("efgs.toml"), []).unwrap();
    settings.engine.bundle.max_delay = Duration::from_millis(10);
    settings.engine.bundle.paced = false;
    settings.engine.cpu_threads = 1;
    let mut server = ServerSettings::from(&settings);
    let free = "127.0.0.1:0".parse().unwrap();
    server.public_listen = None;
    server.operations_listen = Some(free);
    server.proxy = Some(ProxySettings {
        listen: Some(free),
        socket: None,
        secret: None,
        trusted_peers: Vec::new(),
        thumbprint_header: HeaderName::from_static("x-ssl-client-sha256"),
        distinguished_name_header: HeaderName::from_static("x-ssl-client-dn"),
        certificate_header: None,
    });
    let callback = &mut server.callback;
    callback.allowed_networks = vec!["127.0.0.0/8".parse().unwrap()];
    callback.interval = Duration::from_millis(10);
    callback.retry_wait = Duration::from_millis(5);
    callback.retry_wait_max = Duration::from_millis(20);
    (settings, server)
}

/// A gateway in this process.
pub(crate) struct Gateway {
    pub(crate) engine: Arc<Engine>,
    addresses: BoundAddresses,
    _stop: oneshot::Sender<()>,
}

impl Gateway {
    pub(crate) async fn start(installation: &Installation) -> Self {
        Self::start_with(installation, |_| {}).await
    }

    pub(crate) async fn start_with(
        installation: &Installation,
        change: impl FnOnce(&mut ServerSettings),
    ) -> Self {
        let (settings, mut server) = settings(installation);
        change(&mut server);
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let engine = Engine::start(settings.engine, Arc::clone(&clock)).unwrap();
        let engine = Arc::new(engine);
        let (stop, stopped) = oneshot::channel();
        let (sender, addresses) = oneshot::channel();
        tokio::spawn(server::serve(
            Arc::clone(&engine),
            clock,
            server,
            move |addresses| sender.send(*addresses).unwrap(),
            async { stopped.await.unwrap_or(()) },
        ));
        Self {
            engine,
            addresses: addresses.await.expect("the server starts"),
            _stop: stop,
        }
    }

    /// A request to the participants' port as a country.
    pub(crate) async fn ask(&self, head: &str, who: &Pair, code: &str, body: &str) -> Reply {
        let thumbprint = who.thumbprint();
        let identity =
            format!("X-SSL-Client-SHA256: {thumbprint}\r\nX-SSL-Client-DN: C={code}\r\n");
        self.ask_raw(&format!("{head}\r\n{identity}"), body).await
    }

    /// A request to the participants' port, its header as given.
    pub(crate) async fn ask_raw(&self, head: &str, body: &str) -> Reply {
        let length = body.len();
        let rest = format!("Host: gateway\r\nConnection: close\r\nContent-Length: {length}\r\n");
        let request = format!("{}\r\n{rest}\r\n{body}", head.trim_end());
        exchange(self.addresses.proxy.unwrap(), &request).await
    }

    /// The operations port's status of callbacks.
    pub(crate) async fn callbacks_status(&self) -> serde_json::Value {
        let request = "GET /status HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        let reply = exchange(self.addresses.operations.unwrap(), request).await;
        let status: serde_json::Value = serde_json::from_str(&reply.body).unwrap();
        status["callbacks"].clone()
    }

    /// Subscribes directly at the engine.
    pub(crate) async fn subscribe(&self, code: &str, id: &str, url: &str) {
        subscribe(&self.engine, code, id, url).await;
    }

    pub(crate) async fn subscriptions(&self, code: &str) -> Vec<Subscription> {
        let (sender, receiver) = oneshot::channel();
        let callbacks = self.engine.callbacks();
        callbacks.list(country(code), move |listed| sender.send(listed).unwrap());
        receiver.await.unwrap().unwrap()
    }

    /// Waits until the only subscription of a country is disabled.
    pub(crate) async fn until_disabled(&self, code: &str) {
        until(async || self.subscriptions(code).await.is_empty()).await;
    }

    /// Waits until every due callback is delivered.
    pub(crate) async fn until_delivered(&self) {
        until(async || {
            let summary = self.engine.callbacks().summary();
            summary.active > 0 && summary.batches_behind_max == 0
        })
        .await;
    }
}

/// Polls until a condition holds.
pub(crate) async fn until(holds: impl AsyncFn() -> bool) {
    let looking = async {
        let mut looks = tokio::time::interval(Duration::from_millis(5));
        while !holds().await {
            looks.tick().await;
        }
    };
    tokio::time::timeout(TIMEOUT, looking).await.unwrap();
}

pub(crate) async fn subscribe(engine: &Engine, code: &str, id: &str, url: &str) {
    let (sender, receiver) = oneshot::channel();
    let id = CallbackId::parse(id).unwrap();
    let reply = move |answer| sender.send(answer).unwrap();
    engine
        .callbacks()
        .subscribe(country(code), id, url.into(), reply);
    receiver.await.unwrap().unwrap();
}

/// Cuts a download batch of one key of DE and returns its tag.
pub(crate) async fn cut(installation: &Installation, engine: &Engine, number: u64) -> String {
    let before = engine.status().newest_batch;
    let now = SystemClock.now();
    let body = key(number);
    let signing = Pair::of(installation, "DE/signing");
    let signer = Signer::new(&signing.chain()[0], signing.private_key().secret_der()).unwrap();
    let content = signed_bytes(&body).unwrap();
    let request = UploadRequest {
        country: country("DE"),
        uploader: Pair::of(installation, "DE/authentication").thumbprint(),
        tag: UploadTag::parse(&format!("t{number}")).unwrap(),
        batch_signature: signer.sign_base64(&content, now, Encoding::Der).into(),
        body: body.into(),
        format: Format::Protobuf,
        dry_run: false,
    };
    let permit = engine.admission().admit(country("DE"), 100).unwrap();
    let (sender, receiver) = oneshot::channel();
    engine.upload(permit, request, move |answer| sender.send(answer).unwrap());
    receiver.await.unwrap().unwrap();
    until(async || engine.status().newest_batch != before).await;
    engine.status().newest_batch.unwrap().to_string()
}

fn key(number: u64) -> Vec<u8> {
    let mut key_data = [0; 16];
    key_data[..8].copy_from_slice(&number.to_be_bytes());
    let mut out = Vec::new();
    let start = SystemClock.now().day().start_unix_seconds() / 600;
    let fields = KeyFields {
        key_data: &key_data,
        rolling_start: u32::try_from(start).unwrap(),
        rolling_period: 144,
        risk_level: 3,
        origin: "DE",
        report_type: 1,
        days_since_onset: 0,
    };
    write_key(&mut out, &fields, ["IT"].into_iter());
    out
}

/// `20261006-17` as `2026-10-06`.
pub(crate) fn date_of(tag: &str) -> String {
    format!("{}-{}-{}", &tag[..4], &tag[4..6], &tag[6..8])
}

pub(crate) fn database(installation: &Installation) -> DatabaseUrl {
    DatabaseUrl::Sqlite(installation.path("efgs.sqlite"))
}

fn keys(installation: &Installation) -> Keys {
    Keys::parse(&installation.read("keys")).unwrap()
}

/// Lists a certificate, signed by the installation's trust anchor.
pub(crate) fn list_certificate(
    installation: &Installation,
    code: &str,
    kind: CertificateKind,
    pair: &Pair,
) {
    let anchor = Pair::of(installation, "trust-anchor");
    let signature = sign_with_trust_anchor(&anchor.key, &pair.certificate).unwrap();
    let mut admin = Admin::open(&database(installation)).unwrap();
    let new = NewCertificate {
        country: country(code),
        kind,
        pem: &pair.certificate,
        operator_signature: &signature,
    };
    let keys = keys(installation);
    admin
        .add_certificate(&keys, &anchor.certificate, &new)
        .unwrap();
}

pub(crate) fn revoke(installation: &Installation, pair: &Pair) {
    let mut admin = Admin::open(&database(installation)).unwrap();
    let keys = keys(installation);
    admin.revoke_certificate(&keys, &pair.thumbprint()).unwrap();
}

/// A response.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    pub(crate) fn status(&self) -> u16 {
        self.head[9..12].parse().unwrap()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().skip(1);
        lines.find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
    }

    /// A member of the body.
    pub(crate) fn member(&self, name: &str) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap();
        body[name].as_str().unwrap_or_default().to_owned()
    }
}

async fn exchange(address: SocketAddr, request: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request.as_bytes()).await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    let (head, body) = text.split_once("\r\n\r\n").unwrap();
    Reply {
        head: head.to_owned(),
        body: body.to_owned(),
    }
}

/// A resolver with fixed names, which counts its lookups.
#[derive(Debug, Default)]
pub(crate) struct Names {
    known: Mutex<HashMap<String, Vec<IpAddr>>>,
    asked: Mutex<u32>,
}

impl Names {
    /// Sets the addresses of a host; without any it cannot be resolved.
    pub(crate) fn set(&self, host: &str, addresses: &[&str]) {
        let addresses = addresses.iter().map(|text| text.parse().unwrap()).collect();
        self.known
            .lock()
            .unwrap()
            .insert(host.to_owned(), addresses);
    }

    pub(crate) fn asked(&self) -> u32 {
        *self.asked.lock().unwrap()
    }
}

impl Resolve for Names {
    fn resolve(&self, host: &str) -> Resolving {
        *self.asked.lock().unwrap() += 1;
        let found = self.known.lock().unwrap().get(host).cloned();
        let found = found.filter(|addresses| !addresses.is_empty());
        Box::pin(async move { found.ok_or_else(|| io::Error::other("no such host")) })
    }
}
