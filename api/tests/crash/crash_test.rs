//! A crash test: an installation with its processes, participants under load, and the end, when
//! everything is downloaded through every gateway and checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use efgs_client::{Caller, Protocol, Target};
use engine::{Clock, SystemClock};
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use tempfile::TempDir;
use testkit::local::{Gateway, GatewayOptions, MariaDb, initialise_for};
use testkit::participants;
use testkit::poll::poll;
use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::connections::Connections;
use crate::final_check::{check, summary};
use crate::history::{Counts, History, Outcome};
use crate::load::{self, Backend, Sending, World};
use crate::seed;

/// RSA and P-256 signers, three of the former.
const PARTICIPANTS: [&str; 4] = ["DE", "ES", "FR", "IT"];
/// Uploading tasks of each participant, beside the one whose uploads share keys.
const UPLOADERS: usize = 2;
/// Timeout of every wait, on a busy machine.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(60);

/// The setup of a test.
pub(crate) struct Setup<'a> {
    pub(crate) name: &'static str,
    pub(crate) on_mariadb: bool,
    pub(crate) gateways: usize,
    pub(crate) errors_allowed: bool,
    /// MariaDB's, beside the usual ones.
    pub(crate) database_options: &'a [String],
    /// Builds the program that is run in place of `efgs`.
    pub(crate) program: fn(&TempDir) -> PathBuf,
    /// Intercepts connections between gateways and MariaDB; returns the address to connect to.
    pub(crate) between: Option<&'a dyn Fn(SocketAddr) -> SocketAddr>,
    /// Databases that are there: one address per gateway.
    pub(crate) urls: &'a [String],
    /// Settings of all gateways, as variables.
    pub(crate) environment: &'a [(&'a str, &'a str)],
    /// Whether MariaDB requires TLS, whatever the environment says.
    pub(crate) with_tls: bool,
}

impl Setup<'_> {
    pub(crate) fn new(name: &'static str) -> Self {
        Self {
            name,
            on_mariadb: false,
            gateways: 1,
            errors_allowed: false,
            database_options: &[],
            program: |_| PathBuf::from(env!("CARGO_BIN_EXE_efgs")),
            between: None,
            urls: &[],
            environment: &[],
            with_tls: false,
        }
    }
}

/// Where gateways find their database.
fn database_url(server: &MariaDb, setup: &Setup<'_>) -> String {
    let url = server.url("efgs");
    let Some(between) = setup.between else {
        return url;
    };
    let address = SocketAddr::from(([127, 0, 0, 1], server.port()));
    url.replace(&address.to_string(), &between(address).to_string())
}

/// A running test. Its processes end with it, gateways first.
pub(crate) struct CrashTest {
    pub(crate) gateways: Vec<Gateway>,
    pub(crate) database: Option<MariaDb>,
    pub(crate) world: Arc<World>,
    pub(crate) runtime: Runtime,
    pub(crate) random: ChaCha8Rng,
    pub(crate) folder: TempDir,
    name: &'static str,
    begun: Instant,
    uploaders: JoinSet<()>,
    readers: JoinSet<()>,
}

impl CrashTest {
    /// Starts database and gateways; participants are idle.
    pub(crate) fn start(setup: &Setup<'_>) -> Self {
        let begun = Instant::now();
        println!("{}: EFGS_SEED={}", setup.name, seed::seed());
        let folder = TempDir::new().unwrap();
        let home = folder.path().join("efgs");
        let database = setup.on_mariadb.then(|| {
            let start = match setup.with_tls {
                true => MariaDb::start_with_tls,
                false => MariaDb::start,
            };
            let mut server = start(folder.path()).unwrap();
            if !setup.database_options.is_empty() {
                let options: Vec<_> = setup.database_options.iter().map(String::as_str).collect();
                server.restart_with(&options).unwrap();
            }
            server.create_database("efgs").unwrap();
            server
        });
        let url = database.as_ref().map(|server| database_url(server, setup));
        let url = url.or_else(|| setup.urls.first().cloned());
        let program = (setup.program)(&folder);
        initialise_for(&program, &home, url.as_deref(), &PARTICIPANTS).unwrap();
        let gateways: Vec<Gateway> = (0..setup.gateways)
            .map(|number| {
                let mut options = GatewayOptions::new(&program, &home);
                options.name = format!("gateway-{number}");
                let delay = ("EFGS__BUNDLE__MAX_DELAY_MS".to_owned(), "150".to_owned());
                options.environment.push(delay);
                let given = setup.environment.iter();
                let given = given.map(|(name, value)| ((*name).to_owned(), (*value).to_owned()));
                options.environment.extend(given);
                if let Some(url) = setup.urls.get(number) {
                    let url = ("EFGS__DATABASE__URL".to_owned(), url.clone());
                    options.environment.push(url);
                }
                Gateway::start(options).unwrap()
            })
            .collect();
        let pki = home.join("pki");
        let server_ca = participants::read_server_ca(&pki).unwrap();
        let backends = participants::read(&pki).unwrap().into_iter();
        let backends = backends.map(|participant| Backend {
            caller: Arc::new(Caller::new(&participant, &server_ca, Protocol::Http1).unwrap()),
            participant: Arc::new(participant),
        });
        let world = World {
            backends: backends.collect(),
            targets: gateways.iter().map(Gateway::target).collect(),
            history: History::new(setup.gateways),
            day: SystemClock.now().day(),
            errors_allowed: setup.errors_allowed,
            uploading: watch::Sender::new(true),
            reading: watch::Sender::new(true),
        };
        Self {
            gateways,
            database,
            world: Arc::new(world),
            runtime: tokio::runtime::Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()
                .unwrap(),
            random: seed::random(setup.name, usize::MAX),
            folder,
            name: setup.name,
            begun,
            uploaders: JoinSet::new(),
            readers: JoinSet::new(),
        }
    }

    /// Lets every participant upload, compete and download.
    pub(crate) fn put_under_load(&mut self) {
        let handle = self.runtime.handle().clone();
        for backend in 0..self.world.backends.len() {
            let mut task = backend * (UPLOADERS + 2);
            let mut random = || {
                task += 1;
                let prefix = format!("{:x}-{task}", seed::seed());
                (seed::random(self.name, task), prefix)
            };
            for _ in 0..UPLOADERS {
                let (random, prefix) = random();
                let uploading = load::upload(Arc::clone(&self.world), backend, random, prefix);
                self.uploaders.spawn_on(uploading, &handle);
            }
            let (rivals, prefix) = random();
            let competing = load::compete(Arc::clone(&self.world), backend, rivals, prefix);
            self.uploaders.spawn_on(competing, &handle);
            let reading = load::read(Arc::clone(&self.world), backend, random().0);
            self.readers.spawn_on(reading, &handle);
        }
    }

    /// Waits until an event has happened `count` more times.
    pub(crate) fn wait_for_more(&self, what: &str, count: u64, of: impl Fn(&Counts) -> u64) {
        let enough = of(&self.world.history.counts()) + count;
        let waiting = self
            .world
            .history
            .wait_for(TIMEOUT, |counts| of(counts) >= enough);
        let came = self.runtime.block_on(waiting);
        self.fail_on_violations();
        if !came {
            self.fail(&format!("{count} more {what} do not come"));
        }
    }

    /// Waits for a random instant under load, whatever the machine's speed. At every fourth one, download
    /// batches are being cut.
    pub(crate) fn wait_for_a_random_instant(&mut self, crash: u64) {
        if crash % 4 == 3 {
            let batches = self.random.random_range(1..=3);
            self.wait_for_more("batches", batches, |counts| counts.batches);
        } else {
            let uploads = self.random.random_range(0..20);
            self.wait_for_more("uploads", uploads, |counts| counts.stored);
        }
        // Not a wait for anything: it spreads the instants over the steps between two events.
        let micros = self.random.random_range(0..20_000);
        std::thread::sleep(Duration::from_micros(micros));
    }

    /// The gateway that cuts download batches, as soon as there is one.
    pub(crate) fn wait_for_cutter(&self) -> usize {
        let cuts = |gateway: &usize| {
            let status = self.get_operations(*gateway, "/status");
            status.is_some_and(|(_, status)| status.contains("\"cuts\":true"))
        };
        let cutter = poll(TIMEOUT, || (0..self.gateways.len()).find(cuts));
        cutter.unwrap_or_else(|| self.fail("no gateway cuts download batches"))
    }

    /// Uploads that the gateway has admitted but not answered, if it answers.
    pub(crate) fn in_flight(&self, gateway: usize) -> Option<u64> {
        self.metric(gateway, "efgs_admission_in_flight_batches")
    }

    /// Attempts to commit whose outcome the gateway had to look up, since it started, if it answers.
    /// Log lines would not tell: one of several about a database that is away is written.
    pub(crate) fn unresolved_commits(&self, gateway: usize) -> Option<u64> {
        self.metric(gateway, "efgs_commits_unresolved_total")
    }

    /// A metric without labels.
    fn metric(&self, gateway: usize, name: &str) -> Option<u64> {
        let (_, metrics) = self.get_operations(gateway, "/metrics")?;
        let value = |line: &str| line.strip_prefix(name)?.strip_prefix(' ')?.parse().ok();
        metrics.lines().find_map(value)
    }

    /// Status and body of a path of a gateway's operations port, if it answers.
    pub(crate) fn get_operations(&self, gateway: usize, path: &str) -> Option<(u16, String)> {
        let address = self.gateways[gateway].operations();
        let target = Target {
            tls: false,
            host: address.ip().to_string(),
            port: address.port(),
        };
        let mut connections =
            Connections::new(&self.world.backends[0].caller, &[target], self.world.day);
        let answer = self.runtime.block_on(connections.get(0, path)).ok()?;
        let body = String::from_utf8_lossy(&answer.body).into_owned();
        Some((answer.status, body))
    }

    /// The end: uploaders finish, retries and repeats are still recognised, everything acknowledged is
    /// delivered, and every gateway serves the same to all.
    pub(crate) fn finish(&mut self) {
        self.world.uploading.send_replace(false);
        let uploaders = std::mem::take(&mut self.uploaders);
        self.runtime.block_on(uploaders.join_all());
        self.try_repeats();
        self.wait_for_delivery();
        self.world.reading.send_replace(false);
        let readers = std::mem::take(&mut self.readers);
        self.runtime.block_on(readers.join_all());
        self.read_everywhere();
        let records = self.world.history.records();
        let mut violations = records.violations.clone();
        violations.extend(check(&records, &self.world.countries()));
        let (counts, seconds) = (self.world.history.counts(), self.begun.elapsed().as_secs());
        println!(
            "{}: {}; {} requests unanswered, {} errors, the slowest 201 took {:.1?}; {seconds} s",
            self.name,
            summary(&records),
            counts.unanswered,
            counts.errors,
            counts.slowest,
        );
        drop(records);
        let idle = |stored: &u64| *stored == 0;
        if counts.by_gateway[..self.gateways.len()].iter().any(idle) {
            violations.push("a gateway has stored nothing".to_owned());
        }
        if !violations.is_empty() {
            violations.truncate(20);
            self.fail(&violations.join("\n"));
        }
    }

    /// Acknowledged uploads are remembered: a repeat is a replay, the same keys under another tag are
    /// all duplicates, other keys under the same tag are refused.
    fn try_repeats(&mut self) {
        for backend in 0..self.world.backends.len() {
            let random = seed::random(self.name, 1000 + backend);
            let prefix = format!("{:x}-again-{backend}", seed::seed());
            let mut maker = self.world.maker(backend, random, prefix);
            let stored = self.some_stored(backend);
            let (renamed, other) = (maker.renamed(&stored), maker.other_keys(&stored));
            for gateway in 0..self.gateways.len() {
                let mut connections = self.world.connections(backend);
                let mut status = |upload| {
                    let answer = self
                        .runtime
                        .block_on(connections.upload(gateway, upload))
                        .unwrap();
                    let (status, count) = (answer.status, upload.keys.len());
                    (status, crate::connections::duplicates(&answer.body, count))
                };
                assert_eq!(status(&stored), (201, None), "a repeat is a replay");
                let all = (0..stored.keys.len()).collect();
                assert_eq!(status(&renamed), (207, Some(all)), "all keys are known");
                assert_eq!(status(&other), (409, None), "the tag is taken");
            }
        }
    }

    fn some_stored(&mut self, backend: usize) -> Arc<crate::uploads::Upload> {
        let country = self.world.backends[backend].participant.country;
        let records = self.world.history.records();
        let stored = records
            .uploads
            .iter()
            .filter(|entry| entry.outcome == Outcome::Stored && entry.upload.country == country);
        let stored: Vec<_> = stored.collect();
        Arc::clone(&stored[self.random.random_range(0..stored.len())].upload)
    }

    /// Uploads once more, which flushes everything before it, and waits until every participant has
    /// everything.
    fn wait_for_delivery(&mut self) {
        for backend in 0..self.world.backends.len() {
            self.upload_one(backend);
        }
        let world = Arc::clone(&self.world);
        let countries = world.countries();
        let all = |_: &Counts| {
            let mut readers = countries.iter();
            readers.all(|country| world.history.outstanding(*country) == 0)
        };
        if !self.runtime.block_on(world.history.wait_for(TIMEOUT, all)) {
            println!("not everything arrives");
        }
    }

    /// One small upload, until it is acknowledged.
    pub(crate) fn upload_one(&mut self, backend: usize) {
        let number: u32 = self.random.random();
        let prefix = format!("{:x}-one-{number:x}", seed::seed());
        let random = ChaCha8Rng::from_rng(&mut self.random);
        let mut maker = self.world.maker(backend, random, prefix);
        let (index, upload) = self.world.history.enter(maker.of_size(3));
        let mut connections = self.world.connections(backend);
        let sending = Sending {
            may_abandon: false,
            first: None,
        };
        let sending_to_the_end = load::send(
            &self.world,
            &mut connections,
            &upload,
            &mut self.random,
            sending,
        );
        let outcome = self.runtime.block_on(sending_to_the_end);
        self.world.history.record(index, &outcome);
        if outcome != Outcome::Stored {
            self.fail(&format!("the upload {} is {outcome:?}", upload.tag));
        }
    }

    /// Downloads the whole chain as every participant through each gateway.
    pub(crate) fn read_everywhere(&self) {
        for gateway in 0..self.gateways.len() {
            for (backend, country) in self.world.countries().into_iter().enumerate() {
                let mut connections = self.world.connections(backend);
                let last = self.world.history.records().chain.keys().last().copied();
                let begun = Instant::now();
                let mut at = None;
                // A follower announces a batch shortly after another gateway has cut it.
                while at != last && begun.elapsed() < TIMEOUT {
                    let asking = load::ask(&self.world, &mut connections, gateway, country, at);
                    let Some((tag, next)) = self.runtime.block_on(asking) else {
                        break;
                    };
                    at = next.or(Some(tag));
                }
                let asking = load::ask(&self.world, &mut connections, gateway, country, at);
                self.runtime.block_on(asking);
                if at != last {
                    let text = format!("gateway {gateway} leads {country} to {at:?}, not {last:?}");
                    self.world.history.report(text);
                }
            }
        }
    }

    /// Fails at once when there are violations.
    pub(crate) fn fail_on_violations(&self) {
        let violations = self.world.history.records().violations.clone();
        if !violations.is_empty() {
            self.fail(&violations.join("\n"));
        }
    }

    /// How many lines of a gateway's log say that its database is away.
    pub(crate) fn outage_lines(&self, gateway: usize) -> usize {
        let log = std::fs::read_to_string(self.gateways[gateway].log()).unwrap();
        let is_of_outage = |line: &&str| line.contains("left_out=");
        log.lines().filter(is_of_outage).count()
    }

    /// How often a gateway's log has a message.
    pub(crate) fn logged(&self, gateway: usize, message: &str) -> usize {
        let log = std::fs::read_to_string(self.gateways[gateway].log()).unwrap();
        log.lines().filter(|line| line.contains(message)).count()
    }

    /// Fails, with the last log lines of the gateways.
    pub(crate) fn fail(&self, why: &str) -> ! {
        for gateway in &self.gateways {
            let log = std::fs::read_to_string(gateway.log()).unwrap_or_default();
            let lines: Vec<_> = log.lines().filter(|line| !line.contains("=INFO")).collect();
            let tail = lines[lines.len().saturating_sub(30)..].join("\n");
            println!("--- {}\n{tail}", gateway.log().display());
        }
        panic!("{} with EFGS_SEED={}: {why}", self.name, seed::seed());
    }
}
