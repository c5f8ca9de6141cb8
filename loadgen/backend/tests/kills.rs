//! `sync` under SIGKILL: of itself at any instant, of the gateway, and of the connections between them.
//! DE puts files into its outbox all the while; in the end IT has each key exactly once, and no file of
//! DE's is lost or refused. `make backend-kills` runs the long form.

#![allow(clippy::print_stdout, reason = "a test prints its seed")]
#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use std::collections::{BTreeMap, HashSet};
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use efgs_client::{DiagnosisKey, decode, encode};
use rand::{Rng as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use support::{BACKEND, configuration, efgs};
use testkit::local::{Gateway, GatewayOptions, initialise_for};

/// The short form.
const KILLS: u32 = 24;
/// How long everything may take to arrive once nothing is killed any more.
const FINISH_MAX: Duration = Duration::from_secs(120);

fn number(variable: &str, default: u32) -> u32 {
    std::env::var(variable).map_or(default, |text| text.parse().unwrap())
}

/// Passes bytes on between participants and the gateway, until the connections are cut.
struct Wire {
    listen: SocketAddr,
    open: Arc<Mutex<Vec<TcpStream>>>,
}

impl Wire {
    fn to(gateway: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let wire = Self {
            listen: listener.local_addr().unwrap(),
            open: Arc::default(),
        };
        let open = Arc::clone(&wire.open);
        std::thread::spawn(move || {
            for near in listener.incoming().map_while(Result::ok) {
                // While the gateway is away, connections end at once.
                let Ok(far) = TcpStream::connect(gateway) else {
                    continue;
                };
                let clone = |stream: &TcpStream| stream.try_clone().unwrap();
                open.lock().unwrap().extend([clone(&near), clone(&far)]);
                pass(clone(&near), clone(&far));
                pass(far, near);
            }
        });
        wire
    }

    fn cut(&self) {
        for stream in self.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

fn pass(mut from: TcpStream, mut to: TcpStream) {
    std::thread::spawn(move || {
        let mut buffer = [0; 4096];
        while let Ok(count @ 1..) = from.read(&mut buffer) {
            if to.write_all(&buffer[..count]).is_err() {
                break;
            }
        }
        let _ = from.shutdown(Shutdown::Both);
        let _ = to.shutdown(Shutdown::Both);
    });
}

/// `efgs-backend sync` of a country.
struct Backend {
    folder: PathBuf,
    process: Option<Child>,
}

impl Backend {
    fn new(home: &Path, country: &str, gateway: SocketAddr) -> Self {
        let folder = home.join(country);
        fs::create_dir_all(folder.join("outbox")).unwrap();
        let pki = home.join("efgs/pki");
        let text = configuration(country, gateway.port(), &pki) + "poll_ms = 20\n";
        fs::write(folder.join("backend.toml"), text).unwrap();
        Self {
            folder,
            process: None,
        }
    }

    fn start(&mut self) {
        let log = fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder.join("log"));
        let process = Command::new(BACKEND)
            .args(["sync", "--config"])
            .arg(self.folder.join("backend.toml"))
            .stdin(Stdio::null())
            .stderr(log.unwrap())
            .spawn();
        self.process = Some(process.unwrap());
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            let ended = process.try_wait().unwrap();
            assert_eq!(ended, None, "{}", self.log());
            process.kill().unwrap();
            process.wait().unwrap();
        }
    }

    fn log(&self) -> String {
        fs::read_to_string(self.folder.join("log")).unwrap_or_default()
    }

    fn names(&self, folder: &str) -> Vec<String> {
        let Ok(listed) = fs::read_dir(self.folder.join(folder)) else {
            return Vec::new();
        };
        let names = listed.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let mut names: Vec<_> = names.filter(|name| !name.starts_with('.')).collect();
        names.sort();
        names
    }

    /// All keys of its inbox.
    fn received(&self) -> Vec<DiagnosisKey> {
        let files = self.names("inbox").into_iter();
        let read = |name| fs::read(self.folder.join("inbox").join(name)).unwrap();
        files
            .flat_map(|name| decode(&read(name)).unwrap())
            .collect()
    }
}

impl Drop for Backend {
    fn drop(&mut self) {
        if let Some(mut process) = self.process.take() {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

/// Everything that takes part.
struct World {
    random: ChaCha8Rng,
    gateway: Gateway,
    wire: Wire,
    de: Backend,
    it: Backend,
    /// What DE has put into its outbox, by name.
    put: BTreeMap<String, Vec<DiagnosisKey>>,
}

impl World {
    fn put_file(&mut self) {
        let number = self.put.len();
        let now = std::time::UNIX_EPOCH.elapsed().unwrap().as_secs();
        let key = |random: &mut ChaCha8Rng| DiagnosisKey {
            key_data: random.random::<[u8; 16]>().to_vec(),
            rolling_start_interval_number: u32::try_from(now / 86_400 * 144 - 144).unwrap(),
            rolling_period: 144,
            transmission_risk_level: 2,
            visited_countries: vec!["FR".to_owned()],
            origin: "DE".to_owned(),
            report_type: 1,
            days_since_onset_of_symptoms: 1,
        };
        let count = self.random.random_range(1..40);
        let mut keys: Vec<_> = (0..count).map(|_| key(&mut self.random)).collect();
        // Now and then keys come again, in another file.
        if let Some(before) = self
            .put
            .values()
            .next_back()
            .filter(|_| number.is_multiple_of(5))
        {
            keys.extend(before.iter().take(3).cloned());
        }
        let name = format!("{number:06}.pb");
        let outbox = self.de.folder.join("outbox");
        fs::write(outbox.join(".new"), encode(&keys)).unwrap();
        fs::rename(outbox.join(".new"), outbox.join(&name)).unwrap();
        self.put.insert(name, keys);
    }

    fn kill_something(&mut self) {
        let after = Duration::from_micros(self.random.random_range(0..120_000));
        std::thread::sleep(after);
        match self.random.random_range(0..10) {
            0..5 => {
                self.de.kill();
                self.de.start();
            }
            5..7 => {
                self.it.kill();
                self.it.start();
            }
            7..9 => self.wire.cut(),
            _ => {
                self.gateway.kill9().unwrap();
                self.wire.cut();
                self.gateway.restart().unwrap();
            }
        }
    }

    fn missing(&self) -> HashSet<DiagnosisKey> {
        let received: HashSet<_> = self.it.received().into_iter().collect();
        let put = self.put.values().flatten();
        put.filter(|key| !received.contains(key)).cloned().collect()
    }

    fn finish(&self) {
        let deadline = Instant::now() + FINISH_MAX;
        while !self.de.names("outbox").is_empty() || !self.missing().is_empty() {
            assert!(
                Instant::now() < deadline,
                "outbox {:?}, {} keys missing\n{}",
                self.de.names("outbox"),
                self.missing().len(),
                self.de.log()
            );
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    fn check(&self) {
        let received = self.it.received();
        let unique: HashSet<_> = received.iter().collect();
        assert_eq!(unique.len(), received.len(), "a key came twice");
        let put: HashSet<_> = self.put.values().flatten().collect();
        assert_eq!(unique, put);
        let sent: Vec<_> = self.put.keys().cloned().collect();
        assert_eq!(self.de.names("sent"), sent, "{}", self.de.log());
        assert_eq!(self.de.names("refused"), Vec::<String>::new());
        assert_eq!(self.de.received(), [], "its own keys");
        let unproven = self.it.names("inbox");
        assert!(!unproven.iter().any(|name| name.contains("unproven")));
    }
}

#[test]
fn sync_loses_and_doubles_nothing() {
    let (kills, seed) = (number("EFGS_BACKEND_KILLS", KILLS), number("EFGS_SEED", 1));
    println!("seed {seed}, {kills} kills");
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("efgs");
    let program = efgs();
    initialise_for(&program, &folder, None, &["DE", "IT"]).unwrap();
    let mut options = GatewayOptions::new(&program, &folder);
    let delay = ("EFGS__BUNDLE__MAX_DELAY_MS", "50");
    options
        .environment
        .push((delay.0.to_owned(), delay.1.to_owned()));
    let gateway = Gateway::start(options).unwrap();
    let wire = Wire::to(gateway.public());
    let mut world = World {
        random: ChaCha8Rng::seed_from_u64(seed.into()),
        de: Backend::new(home.path(), "DE", wire.listen),
        it: Backend::new(home.path(), "IT", wire.listen),
        gateway,
        wire,
        put: BTreeMap::new(),
    };
    world.de.start();
    world.it.start();
    for _ in 0..kills {
        world.put_file();
        world.kill_something();
    }
    world.finish();
    world.check();
}
