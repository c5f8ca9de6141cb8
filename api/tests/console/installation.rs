//! Two gateways on one MariaDB, with load from participants.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use efgs_client::{Caller, Connection, Protocol};
use http::{HeaderName, HeaderValue, Method, header};
use loadgen::load::{Experiment, LoadOptions, Participants, Watch};
use loadgen::scenario::Scenario;
use serde_json::Value;
use testkit::local::{Gateway, GatewayOptions, Installation, LocalDatabase};

pub(crate) const PARTICIPANTS: [&str; 3] = ["DE", "ES", "IT"];

/// The name of the second gateway; the first is given none.
pub(crate) const SECOND: &str = "second";

/// Keys that are stored, keys that were stored before, uploads that are refused, and downloads.
const LOAD: &str = r#"
    participants = 3
    [[phases]]
    name = "originals"
    [[phases.streams]]
    name = "uploads"
    does = "upload"
    arrivals = "closed"
    keys = 6000
    upload_keys = 300
    retry_seconds = 60
    [[phases]]
    name = "mix"
    seconds = 4
    [[phases.streams]]
    name = "repeats"
    does = "upload"
    arrivals = "fixed"
    per_second = 4
    upload_keys = 100
    duplicates = 0.5
    [[phases.streams]]
    name = "hostile"
    does = "hostile"
    arrivals = "fixed"
    per_second = 6
    kinds = ["wrong-signature", "not-base64", "no-tag"]
    [[phases]]
    name = "delivery"
    [[phases.streams]]
    name = "downloads"
    does = "follow"
    arrivals = "closed"
    retry_seconds = 60
"#;

/// One installation.
pub(crate) struct World {
    // Before the database that it uses.
    pub(crate) second: Gateway,
    pub(crate) first: Installation,
    /// When it was started: what was uploaded then is not of today any more after midnight.
    pub(crate) day: String,
}

/// What a country has done, as `efgs stats` and the page say it.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) keys: u64,
    pub(crate) uploads: u64,
    pub(crate) downloads: u64,
    pub(crate) downloaded_keys: u64,
}

fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_efgs"))
}

impl World {
    pub(crate) fn start() -> Self {
        let first =
            Installation::start(program(), LocalDatabase::MariaDb, None, &PARTICIPANTS).unwrap();
        let name = (
            "EFGS__OPERATIONS__GATEWAY_NAME".to_owned(),
            SECOND.to_owned(),
        );
        let mut options = GatewayOptions::new(program(), &home(&first));
        options.name = SECOND.to_owned();
        options.environment.push(name);
        let second = Gateway::start(options).unwrap();
        Self {
            second,
            first,
            day: today(),
        }
    }

    /// Has a participant send requests that are refused: downloads of an invalid date, and uploads without a
    /// signature.
    pub(crate) async fn send_refused(
        &self,
        gateway: &Gateway,
        country: &str,
        downloads: usize,
        uploads: usize,
    ) {
        let folder = self.first.pki().join(country);
        let caller = Caller::from_files(
            country,
            &folder.join("authentication.pem"),
            &folder.join("authentication.key"),
            &self.first.pki().join("server-ca.pem"),
            Protocol::Http1,
        );
        let targets = Arc::from([gateway.target()]);
        let timeout = Duration::from_secs(60);
        let mut connection = Connection::new(Arc::new(caller.unwrap()), targets, 0, timeout);
        let protobuf = HeaderValue::from_static("application/protobuf; version=1.0");
        let accept = [(header::ACCEPT, protobuf.clone())];
        let path = "/diagnosiskeys/download/yesterday";
        for _ in 0..downloads {
            let answer = connection.send(Method::GET, path, &accept, Bytes::new());
            assert_eq!(answer.await.unwrap().status, 400);
        }
        let upload = [
            (header::CONTENT_TYPE, protobuf),
            (
                HeaderName::from_static("batchtag"),
                HeaderValue::from_static("unsigned"),
            ),
        ];
        for _ in 0..uploads {
            let answer =
                connection.send(Method::POST, "/diagnosiskeys/upload", &upload, Bytes::new());
            assert_eq!(answer.await.unwrap().status, 400);
        }
    }

    /// Puts load on both gateways, until it is delivered.
    pub(crate) async fn put_under_load(&self) {
        let scenario = Scenario::parse("console", LOAD).unwrap();
        let participants = Participants::read(
            &self.first.pki(),
            scenario.participants,
            scenario.distribution,
            Protocol::Http1,
        );
        let options = LoadOptions {
            targets: vec![self.first.gateway().target(), self.second.target()],
            timeout: Duration::from_secs(60),
            seed: 1,
            memory_bytes_max: 0,
            watch: Watch {
                processes: BTreeMap::new(),
                operations: None,
                database_files: Vec::new(),
            },
            results: None,
            record: None,
            name: scenario.name.clone(),
            text: scenario.text.clone(),
        };
        let mut experiment = Experiment::new(participants.unwrap(), options).unwrap();
        for phase in &scenario.phases {
            experiment.phase(phase).await.unwrap();
        }
    }

    /// What `efgs stats` says of today, by country; all zero where it says nothing.
    pub(crate) fn statistics(&self) -> BTreeMap<String, Counts> {
        let output = Command::new(program())
            .args([
                "stats",
                "--format",
                "json",
                "--from",
                &today(),
                "--to",
                &today(),
                "--config",
            ])
            .arg(home(&self.first).join("efgs.toml"))
            .output()
            .unwrap();
        assert!(output.status.success(), "{output:?}");
        let rows: Value = serde_json::from_slice(&output.stdout).unwrap();
        let nothing = PARTICIPANTS.map(|country| (country.to_owned(), Counts::default()));
        let rows = rows.as_array().unwrap().iter();
        let counted = rows.map(|row| {
            let number = |name: &str| row[name].as_u64().unwrap();
            let counts = Counts {
                keys: number("uploaded_keys"),
                uploads: number("uploads"),
                downloads: number("downloads"),
                downloaded_keys: number("downloaded_keys"),
            };
            (row["country"].as_str().unwrap().to_owned(), counts)
        });
        nothing.into_iter().chain(counted).collect()
    }

    /// The page of the first gateway.
    pub(crate) fn console(&self) -> String {
        format!("http://{}/", self.first.gateway().operations())
    }
}

fn home(installation: &Installation) -> PathBuf {
    installation.pki().parent().unwrap().to_owned()
}

/// In UTC.
pub(crate) fn today() -> String {
    use engine::Clock as _;
    engine::SystemClock.now().day().to_string()
}
