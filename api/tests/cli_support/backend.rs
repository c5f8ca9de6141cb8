//! A participant's backend that uploads and downloads over mutual TLS, each time on a new connection.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use efgs_client::{
    Answer, BatchSigner, Caller, Connection, DiagnosisKey, Protocol, RsaScheme, Target, encode,
    signed_bytes,
};
use engine::{Clock as _, SystemClock};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use testkit::poll::holds_within;
use tokio::runtime::{Builder, Runtime};

const TIMEOUT: Duration = Duration::from_secs(60);
const PROTOBUF: HeaderValue = HeaderValue::from_static("application/protobuf; version=1.0");

/// Certificates and the gateway's address.
pub(crate) struct Backend {
    country: String,
    caller: Arc<Caller>,
    signer: BatchSigner,
    gateway: Arc<[Target]>,
    runtime: Runtime,
}

impl Backend {
    /// With `authentication` and `signing`, each a path without `.pem` and `.key`.
    pub(crate) fn new(
        country: &str,
        [authentication, signing]: [&Path; 2],
        server_ca: &Path,
        public: SocketAddr,
    ) -> Self {
        let file = |path: &Path, extension| path.with_extension(extension);
        let caller = Caller::from_files(
            country,
            &file(authentication, "pem"),
            &file(authentication, "key"),
            server_ca,
            Protocol::Http1,
        );
        let signer = BatchSigner::from_files(
            &file(signing, "pem"),
            &file(signing, "key"),
            RsaScheme::Pkcs1,
        );
        let gateway = Target {
            tls: true,
            host: public.ip().to_string(),
            port: public.port(),
        };
        Self {
            country: country.to_owned(),
            caller: Arc::new(caller.unwrap()),
            signer: signer.unwrap(),
            gateway: Arc::from([gateway]),
            runtime: Builder::new_current_thread().enable_all().build().unwrap(),
        }
    }

    /// Uploads a key that nobody has uploaded before.
    pub(crate) fn upload(&self) -> Result<Answer, String> {
        let seconds = SystemClock.now().seconds();
        let key = DiagnosisKey {
            key_data: rand::random::<[u8; 16]>().to_vec(),
            rolling_start_interval_number: u32::try_from(seconds / 86_400 * 144 - 144).unwrap(),
            rolling_period: 144,
            origin: self.country.clone(),
            report_type: 1,
            ..DiagnosisKey::default()
        };
        let body = encode(&[key]);
        let signature = self.signer.sign(&signed_bytes(&body).unwrap()).unwrap();
        let tag = format!("{:032x}", rand::random::<u128>());
        let header = |name, value: &str| {
            (
                HeaderName::from_static(name),
                HeaderValue::from_str(value).unwrap(),
            )
        };
        let headers = [
            (CONTENT_TYPE, PROTOBUF),
            header("batchtag", &tag),
            header("batchsignature", &signature),
        ];
        self.send(Method::POST, "/diagnosiskeys/upload", &headers, body.into())
    }

    /// Asks for the download batches of today: 404 while there is none.
    pub(crate) fn download(&self) -> Result<Answer, String> {
        let day = SystemClock.now().day();
        let path = format!("/diagnosiskeys/download/{day}");
        self.send(Method::GET, &path, &[(ACCEPT, PROTOBUF)], Bytes::new())
    }

    fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(HeaderName, HeaderValue)],
        body: Bytes,
    ) -> Result<Answer, String> {
        let (caller, gateway) = (Arc::clone(&self.caller), Arc::clone(&self.gateway));
        let mut connection = Connection::new(caller, gateway, 0, TIMEOUT);
        let answer = self
            .runtime
            .block_on(connection.send(method, path, headers, body));
        answer.map_err(|error| error.to_string())
    }
}

/// A backend that uploads and downloads, one request after the other, until it is stopped or dropped.
pub(crate) struct Traffic {
    state: Arc<State>,
    thread: Option<JoinHandle<Vec<String>>>,
}

#[derive(Default)]
struct State {
    stop: AtomicBool,
    answers: AtomicUsize,
}

impl Traffic {
    pub(crate) fn start(backend: Backend) -> Self {
        let state = Arc::new(State::default());
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || shared.collect_failures(&backend));
        Self {
            state,
            thread: Some(thread),
        }
    }

    /// Waits for this many more answers.
    pub(crate) fn await_more(&self, more: usize) {
        let answers = || self.state.answers.load(Ordering::Relaxed);
        let wanted = answers() + more;
        assert!(holds_within(TIMEOUT, || answers() >= wanted), "no answers");
    }

    /// Ends it; what was not answered as it should have been.
    pub(crate) fn stop(mut self) -> Vec<String> {
        self.state.stop.store(true, Ordering::Relaxed);
        let thread = self.thread.take().unwrap();
        thread.join().unwrap()
    }
}

impl Drop for Traffic {
    fn drop(&mut self) {
        self.state.stop.store(true, Ordering::Relaxed);
    }
}

impl State {
    fn collect_failures(&self, backend: &Backend) -> Vec<String> {
        let mut failures = Vec::new();
        while !self.stop.load(Ordering::Relaxed) {
            failures.extend(failure(backend.upload(), &[201]));
            failures.extend(failure(backend.download(), &[200, 404]));
            self.answers.fetch_add(2, Ordering::Relaxed);
        }
        failures
    }
}

fn failure(answer: Result<Answer, String>, expected: &[u16]) -> Option<String> {
    match answer {
        Ok(answer) if expected.contains(&answer.status) => None,
        Ok(answer) => Some(format!("{} {:?}", answer.status, answer.body)),
        Err(error) => Some(error),
    }
}
