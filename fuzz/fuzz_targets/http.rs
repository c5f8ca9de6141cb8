//! Octets of a connection, HTTP/1.1 or HTTP/2 by its preface, sent through a socket to a whole
//! gateway: what comes back ends soon, and is no answer of an error of ours.

#![no_main]

use std::net::{Ipv4Addr, SocketAddr};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use api::server::{ServerSettings, serve};
use api::settings::ProxySettings;
use engine::admin::{Admin, NewCertificate};
use engine::domain::{CertificateKind, Country};
use engine::seal::Keys;
use engine::settings::{DatabaseUrl, Settings};
use engine::{Engine, ManualClock};
use http::HeaderName;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpSocket;
use tokio::runtime::{Builder, Runtime};
use tokio::time::timeout;

/// Far above what an answer takes here, and below the time-outs of the gateway.
const SOON: Duration = Duration::from_secs(5);

struct Gateway {
    address: SocketAddr,
    _folder: TempDir,
    runtime: Runtime,
}

static GATEWAY: LazyLock<Gateway> = LazyLock::new(start);

macro_rules! text {
    ($file:literal) => {
        include_str!(concat!("../../engine/tests/fixtures/vectors/", $file))
    };
}

fn start() -> Gateway {
    let folder = tempfile::tempdir().expect("a folder");
    let database = DatabaseUrl::Sqlite(folder.path().join("efgs.db"));
    let keys = Keys::parse(&Keys::generate_text()).expect("keys");
    onboard(&database, &keys);
    let settings = Settings {
        database,
        keys,
        trust_anchor_pem: text!("pki/trust-anchor/trust-anchor.pem").to_owned(),
        upload: Default::default(),
        bundle: Default::default(),
        download: Default::default(),
        legacy_sha1: Vec::new(),
        pss: Vec::new(),
        continuity: Default::default(),
        cpu_threads: 1,
        quota: Default::default(),
        memory: Default::default(),
    };
    let clock = Arc::new(ManualClock::new(entries::NOON));
    let engine = Arc::new(Engine::start(settings, clock.clone()).expect("an engine"));
    let server = ServerSettings {
        proxy: Some(ProxySettings {
            listen: Some((Ipv4Addr::LOCALHOST, 0).into()),
            socket: None,
            secret: None,
            trusted_peers: Vec::new(),
            thumbprint_header: HeaderName::from_static("x-ssl-client-sha256"),
            distinguished_name_header: HeaderName::from_static("x-ssl-client-dn"),
            certificate_header: None,
        }),
        ..ServerSettings::default()
    };
    let runtime = Builder::new_multi_thread()
        .worker_threads(1)
        .enable_all()
        .build()
        .expect("a runtime");
    let (sender, addresses) = std::sync::mpsc::sync_channel(1);
    runtime.spawn(serve(
        engine,
        clock,
        server,
        move |bound| sender.send(bound.proxy).expect("it is awaited"),
        std::future::pending(),
    ));
    Gateway {
        address: addresses.recv().expect("it starts").expect("an address"),
        _folder: folder,
        runtime,
    }
}

fn onboard(database: &DatabaseUrl, keys: &Keys) {
    Admin::migrate(database).expect("a database");
    let mut admin = Admin::open(database).expect("a database");
    for (kind, pem, signature) in [
        (
            CertificateKind::Authentication,
            text!("pki/DE/DE-authentication.pem"),
            text!("pki/DE/DE-authentication.sig"),
        ),
        (
            CertificateKind::Signing,
            text!("pki/DE/DE-signing.pem"),
            text!("pki/DE/DE-signing.sig"),
        ),
    ] {
        let anchor = text!("pki/trust-anchor/trust-anchor.pem");
        let country = Country::parse("DE").expect("a country");
        let new = NewCertificate {
            country,
            kind,
            pem,
            operator_signature: signature,
        };
        let added = admin.add_certificate(keys, anchor, &new);
        added.expect("a certificate");
    }
}

fuzz_target!(|bytes: &[u8]| GATEWAY.runtime.block_on(send(bytes)));

async fn send(bytes: &[u8]) {
    // A port can be used again only after a minute: each connection has an address of its own.
    let socket = TcpSocket::new_v4().expect("a socket");
    let [b, c, d] = rand::random();
    let own = Ipv4Addr::new(127, b, c, d.clamp(1, 254));
    socket.bind((own, 0).into()).expect("a loopback address");
    let mut stream = socket.connect(GATEWAY.address).await.expect("it listens");
    let _refused = stream.write_all(bytes).await;
    let _closed = stream.shutdown().await;
    let mut answer = Vec::new();
    let read = timeout(SOON, stream.read_to_end(&mut answer)).await;
    // A reset is an end, too.
    let _read = read.expect("it ends");
    let is_ours = answer.starts_with(b"HTTP/1.1 500");
    assert!(!is_ours, "{}", answer.escape_ascii());
}
