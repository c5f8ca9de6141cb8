//! The gateway that is attacked, as a process of its own, and how it is doing.

use std::fs;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use efgs_client::{Caller, Connection, Protocol, Target};
use engine::domain::{Day, UnixMillis};
use engine::{Clock as _, SystemClock};
use http::{HeaderName, HeaderValue, Method};
use rustls::{ClientConfig, RootCertStore};
use testkit::participants::{self, Participant};
use testkit::workload::{PreparedUpload, Workload};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::cli_support::{Gateway, Installation};

/// Who attacks, and who continues working.
const ATTACKER: usize = 0;
const NEIGHBOUR: usize = 1;

/// A running gateway with three participants: the attacker, a neighbour, and one that has uploaded.
pub(crate) struct Scene {
    /// Ends with this.
    _gateway: Mutex<Gateway>,
    process_id: u32,
    installation: Installation,
    addresses: Vec<(String, SocketAddr)>,
    participants: Arc<Vec<Participant>>,
    pub(crate) today: Day,
    now: UnixMillis,
}

impl Scene {
    /// Starts one that holds `batches` uploads of 1000 keys.
    pub(crate) async fn start(batches: u64) -> Self {
        let installation = Installation::new("DE,ES,IT");
        let log = fs::File::create(installation.path("log")).unwrap();
        let mut serve = installation.serve();
        serve.env("EFGS__PROXY__LISTEN", "127.0.0.1:0");
        let (gateway, addresses) = Gateway::start_with_log(&mut serve, log);
        let participants = participants::read(&installation.path("pki")).unwrap();
        let now = SystemClock.now();
        let scene = Self {
            process_id: gateway.id(),
            _gateway: Mutex::new(gateway),
            installation,
            addresses,
            participants: Arc::new(participants),
            today: now.day(),
            now,
        };
        let uploads = scene.uploads(2, batches, 1000);
        let mut connection = scene.client(2, Protocol::Http1);
        for upload in &uploads {
            assert_eq!(send(&mut connection, upload).await, Some(201));
        }
        scene
    }

    fn uploads(&self, sender: usize, count: u64, keys: u32) -> Vec<PreparedUpload> {
        let country = self.participants[sender].country;
        let total = count * u64::from(keys);
        let work = Workload::new(sender as u64, keys, self.today, &[(country, total)]);
        work.prepare(&self.participants, self.now, |_| {}).unwrap()
    }

    /// Uploads of the attacker.
    pub(crate) fn attackers_uploads(&self, count: u64, keys: u32) -> Vec<PreparedUpload> {
        self.uploads(ATTACKER, count, keys)
    }

    fn client(&self, who: usize, protocol: Protocol) -> Connection {
        let authority = participants::read_server_ca(&self.installation.path("pki")).unwrap();
        let caller = Caller::new(&self.participants[who], &authority, protocol).unwrap();
        let port = self.address("public").port();
        let target = Target::parse(&format!("https://localhost:{port}")).unwrap();
        let timeout = Duration::from_secs(10);
        Connection::new(Arc::new(caller), Arc::from([target]), 0, timeout)
    }

    /// A client of the attacker.
    pub(crate) fn attacker(&self, protocol: Protocol) -> Connection {
        self.client(ATTACKER, protocol)
    }

    pub(crate) fn address(&self, name: &str) -> SocketAddr {
        let mut addresses = self.addresses.iter();
        let found = addresses.find(|(role, _)| role == name);
        found
            .unwrap_or_else(|| panic!("{name}: {:?}", self.addresses))
            .1
    }

    /// A TLS stream to the public port, with the attacker's certificate or without any.
    pub(crate) async fn tls(
        &self,
        protocol: &str,
        has_certificate: bool,
    ) -> Option<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        let authority = participants::read_server_ca(&self.installation.path("pki")).unwrap();
        roots.add(authority).unwrap();
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let identity = &self.participants[ATTACKER].authentication;
        let mut config = match has_certificate {
            true => config
                .with_client_auth_cert(identity.chain.clone(), identity.key.clone_key())
                .unwrap(),
            false => config.with_no_client_auth(),
        };
        config.alpn_protocols = vec![protocol.as_bytes().to_vec()];
        let tcp = TcpStream::connect(self.address("public")).await.ok()?;
        let name = "localhost".try_into().unwrap();
        let connector = TlsConnector::from(Arc::new(config));
        connector.connect(name, tcp).await.ok()
    }

    /// The attacker's thumbprint, as a proxy forwards it.
    pub(crate) fn thumbprint(&self) -> String {
        let certificate = &self.participants[ATTACKER].authentication.chain[0];
        let digest = testkit::digest::sha256(certificate);
        digest.iter().map(|byte| format!("{byte:02x}")).collect()
    }

    /// Octets of the log.
    pub(crate) fn log_bytes(&self) -> u64 {
        fs::metadata(self.installation.path("log")).unwrap().len()
    }

    /// Memory of the gateway's process, in MiB.
    pub(crate) fn memory_mib(&self) -> u64 {
        let id = self.process_id;
        let status = fs::read_to_string(format!("/proc/{id}/status")).unwrap();
        let mut lines = status.lines();
        let line = lines.find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().unwrap();
        kib >> 10
    }

    /// Processor time that the gateway's process has taken.
    pub(crate) fn processor_time(&self) -> Duration {
        let id = self.process_id;
        let stat = fs::read_to_string(format!("/proc/{id}/stat")).unwrap();
        // Behind the name of the program, which is in brackets: fields 3 and later.
        let fields = stat.rsplit_once(") ").unwrap().1.split(' ');
        let ticks = fields
            .skip(11)
            .take(2)
            .map(|field| field.parse::<u64>().unwrap());
        // A hundred per second on every Linux.
        Duration::from_millis(10 * ticks.sum::<u64>())
    }

    /// The neighbour works for that long: uploads, downloads, and an operator asks for its health.
    pub(crate) async fn work(&self, duration: Duration) -> Work {
        static NUMBER: AtomicU64 = AtomicU64::new(0);
        let mut connection = self.client(NEIGHBOUR, Protocol::Http1);
        let until = Instant::now() + duration;
        let mut work = Work::default();
        let path = format!("/diagnosiskeys/download/{}", self.today);
        let country = self.participants[NEIGHBOUR].country;
        while Instant::now() < until || work.times.len() < 10 {
            let number = NUMBER.fetch_add(1, Ordering::Relaxed);
            let fresh = Workload::new(1000 + number, 5, self.today, &[(country, 5)]);
            let upload = fresh
                .prepare(&self.participants, self.now, |_| {})
                .unwrap()
                .remove(0);
            let target = Target::parse(&format!("http://{}", self.address("operations"))).unwrap();
            // A client tries again: a handshake may give way to those of the attack.
            work.time(async {
                match send(&mut connection, &upload).await {
                    None => send(&mut connection, &upload).await,
                    status => status,
                }
            })
            .await;
            work.time(async {
                match download(&mut connection, &path).await {
                    None => download(&mut connection, &path).await,
                    status => status,
                }
            })
            .await;
            // An orchestrator asks several times before it ends a gateway.
            let health = async || {
                let answer = efgs_client::get(&target, "/health").await;
                answer.ok().map(|answer| answer.status)
            };
            work.time(async {
                match health().await {
                    None => health().await,
                    status => status,
                }
            })
            .await;
            work.memory_mib = work.memory_mib.max(self.memory_mib());
        }
        work
    }
}

const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf; version=1.0");

/// The headers of an upload.
pub(crate) fn upload_headers(upload: &PreparedUpload) -> [(HeaderName, HeaderValue); 3] {
    let value = |text: &str| HeaderValue::from_str(text).unwrap();
    [
        (http::header::CONTENT_TYPE, PROTOBUF),
        (
            HeaderName::from_static("batchtag"),
            value(upload.spec.tag.as_str()),
        ),
        (
            HeaderName::from_static("batchsignature"),
            value(&upload.batch_signature),
        ),
    ]
}

/// Uploads; the status of the answer, if there is one.
pub(crate) async fn send(connection: &mut Connection, upload: &PreparedUpload) -> Option<u16> {
    let headers = upload_headers(upload);
    let body = upload.body.clone();
    let sent = connection.send(Method::POST, "/diagnosiskeys/upload", &headers, body);
    sent.await.ok().map(|answer| answer.status)
}

async fn download(connection: &mut Connection, path: &str) -> Option<u16> {
    let headers = [(http::header::ACCEPT, PROTOBUF)];
    let sent = connection.send(Method::GET, path, &headers, Default::default());
    sent.await.ok().map(|answer| answer.status)
}

/// How the neighbour fared.
#[derive(Debug, Default)]
pub(crate) struct Work {
    times: Vec<Duration>,
    /// What was not answered as it should be.
    pub(crate) failures: Vec<Option<u16>>,
    /// The most memory that the gateway had.
    pub(crate) memory_mib: u64,
}

impl Work {
    async fn time(&mut self, request: impl Future<Output = Option<u16>>) {
        let begun = Instant::now();
        let status = request.await;
        self.times.push(begun.elapsed());
        // Nothing may be published yet.
        if !matches!(status, Some(200 | 201 | 404)) {
            self.failures.push(status);
        }
    }

    pub(crate) fn count(&self) -> usize {
        self.times.len()
    }

    /// The time that this part of the requests took at the most.
    pub(crate) fn quantile(&self, part: f64) -> Duration {
        let mut times = self.times.clone();
        times.sort();
        #[allow(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "thousands"
        )]
        let at = ((times.len() - 1) as f64 * part).round() as usize;
        times[at]
    }
}
