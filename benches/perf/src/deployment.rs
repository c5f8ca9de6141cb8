//! Gateways as an operator runs them: the program `efgs` on a folder of its own, in proxy mode and
//! with mutual TLS, on either database.

use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use benches::{Backend, EngineOptions, FULL, fill, settings};
use engine::domain::UnixMillis;
use engine::seal::Keys;
use engine::settings::DatabaseUrl;
use engine::{Clock, Engine, SystemClock};
use procfs::process::Process;
use tempfile::TempDir;
use testkit::local::{Gateway, GatewayOptions, MariaDb, initialise_for};
use testkit::participants;

use crate::http::{Connection, EncodedRequest, Route, mutual_tls};

/// The participants. The first one uploads what the others download.
const PARTICIPANTS: [&str; 8] = ["AT", "DE", "ES", "FR", "IT", "NL", "PL", "SE"];

/// How long an upload waits before a download batch is cut, in milliseconds: short, so that a
/// measurement need not wait for it.
pub(crate) const MAX_DELAY_MS: u32 = 50;

/// A gateway's folder, its database and its participants.
#[derive(Debug)]
pub(crate) struct Deployment {
    folder: TempDir,
    program: PathBuf,
    database: DatabaseUrl,
    /// The participants.
    pub(crate) backends: Vec<Backend>,
    /// The number of each one's next upload; never reset between runs, so that no key repeats.
    next: AtomicU32,
}

/// A running gateway.
#[derive(Debug)]
pub(crate) struct RunningGateway {
    gateway: Gateway,
    /// Where a proxy connects.
    pub(crate) proxy: SocketAddr,
    /// How long it took to become ready.
    pub(crate) started_in: Duration,
}

impl Deployment {
    /// Creates a folder with the program `efgs` and an empty database: a file, or one of that name
    /// on a server.
    ///
    /// # Errors
    /// When `efgs init` fails.
    pub(crate) fn create(program: &Path, server: Option<(&MariaDb, &str)>) -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("efgs-perf").tempdir()?;
        let url = match server {
            Some((server, name)) => {
                server.create_database(name)?;
                Some(server.url(name))
            }
            None => None,
        };
        initialise_for(program, folder.path(), url.as_deref(), &PARTICIPANTS)?;
        let file = || DatabaseUrl::Sqlite(folder.path().join("efgs.sqlite"));
        let database = url.map_or_else(|| Ok(file()), |url| url.parse())?;
        let now = SystemClock.now();
        let participants = participants::read(&folder.path().join("pki"))?;
        let backend = |participant| Backend::of_participant(participant, now);
        Ok(Self {
            program: program.to_owned(),
            database,
            backends: participants.into_iter().map(backend).collect(),
            next: AtomicU32::new(0),
            folder,
        })
    }

    /// Starts the gateway and waits until it is ready.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(crate) fn start(&self) -> anyhow::Result<RunningGateway> {
        self.start_with(&[])
    }

    /// The same with other settings, such as `EFGS__BUNDLE__CACHE_BYTES_MAX`.
    ///
    /// # Errors
    /// When it does not become ready.
    pub(crate) fn start_with(&self, overrides: &[(&str, &str)]) -> anyhow::Result<RunningGateway> {
        let proxy = free_address()?;
        let mut options = GatewayOptions::new(&self.program, self.folder.path());
        options.environment = vec![
            ("EFGS__PROXY__LISTEN".to_owned(), proxy.to_string()),
            (
                "EFGS__BUNDLE__MAX_DELAY_MS".to_owned(),
                MAX_DELAY_MS.to_string(),
            ),
        ];
        let overrides = overrides.iter();
        options
            .environment
            .extend(overrides.map(|(name, value)| ((*name).to_owned(), (*value).to_owned())));
        let started = Instant::now();
        let gateway = Gateway::start(options)?;
        Ok(RunningGateway {
            gateway,
            proxy,
            started_in: started.elapsed(),
        })
    }

    /// Stores keys without HTTP, before the gateway is started.
    ///
    /// # Errors
    /// When the engine does not start.
    pub(crate) fn fill(&self, keys: u64) -> anyhow::Result<Duration> {
        let read = |file: &str| std::fs::read_to_string(self.folder.path().join(file));
        let keys_text = read("keys")?;
        let anchor = read("pki/trust-anchor.pem")?;
        let settings = settings(
            self.database.clone(),
            Keys::parse(&keys_text)?,
            anchor,
            EngineOptions::default(),
        );
        let engine = Engine::start(settings, Arc::new(SystemClock))?;
        let started = Instant::now();
        let fillers = &self.backends[..2];
        let uploads = u32::try_from(keys.div_ceil(u64::from(FULL)))?.div_ceil(2);
        let first = self.next.fetch_add(uploads, Ordering::Relaxed);
        let keys = u64::from(uploads) * u64::from(FULL);
        std::thread::scope(|scope| {
            for backend in fillers {
                let engine = &engine;
                scope.spawn(move || fill(engine, backend, first, keys));
            }
        });
        Ok(started.elapsed())
    }

    /// Bytes that an SQLite database takes on the disk; `None` for a server.
    pub(crate) fn disk_bytes(&self) -> Option<u64> {
        let DatabaseUrl::Sqlite(path) = &self.database else {
            return None;
        };
        let size = |ending: &str| {
            let mut file = path.clone().into_os_string();
            file.push(ending);
            std::fs::metadata(file).map_or(0, |data| data.len())
        };
        Some(size("") + size("-wal"))
    }

    /// Makes and signs uploads on all cores, of all participants in turn.
    pub(crate) fn uploads(&self, count: usize, key_count: u32) -> Vec<EncodedRequest> {
        let owned = self.owned_uploads(count, key_count).into_iter();
        owned.map(|(upload, _)| upload).collect()
    }

    /// The same, each with the position of its participant.
    pub(crate) fn owned_uploads(
        &self,
        count: usize,
        key_count: u32,
    ) -> Vec<(EncodedRequest, usize)> {
        let each = u32::try_from(count.div_ceil(self.backends.len())).expect("few");
        let first = self.next.fetch_add(each, Ordering::Relaxed);
        let next = AtomicUsize::new(0);
        let make = || {
            let mut made = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count {
                    return made;
                }
                let owner = number % self.backends.len();
                let index = first + u32::try_from(number / self.backends.len()).expect("few");
                let request = self.backends[owner].upload(index, key_count);
                made.push((EncodedRequest::upload(&request), owner));
            }
        };
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        run_in_threads((0..threads).map(|_| make))
            .into_iter()
            .flatten()
            .collect()
    }

    /// How a participant reaches a running gateway with mutual TLS.
    ///
    /// # Errors
    /// When the folder's certificates cannot be used.
    pub(crate) fn tls_route(
        &self,
        running: &RunningGateway,
        index: usize,
    ) -> anyhow::Result<Route> {
        let pki = self.folder.path().join("pki");
        let participant = participants::read(&pki)?.swap_remove(index);
        let server_ca = participants::read_server_ca(&pki)?;
        let config = mutual_tls(participant.authentication, server_ca)?;
        Ok(Route::Tls(running.gateway.public(), config))
    }
}

impl RunningGateway {
    /// CPU time used so far, in the kernel's ticks (of 10 ms).
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn cpu_time(&self) -> anyhow::Result<Duration> {
        let stat = self.process()?.stat()?;
        let ticks = Duration::from_secs(stat.utime + stat.stime);
        Ok(ticks / u32::try_from(procfs::ticks_per_second())?)
    }

    /// Resident memory now, in bytes.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn resident_bytes(&self) -> anyhow::Result<u64> {
        let kibibytes = self.process()?.status()?.vmrss;
        Ok(kibibytes.context("the process has ended")? << 10)
    }

    /// Peak resident memory, in bytes.
    ///
    /// # Errors
    /// When the process has ended.
    pub(crate) fn peak_resident_bytes(&self) -> anyhow::Result<u64> {
        let kibibytes = self.process()?.status()?.vmhwm;
        Ok(kibibytes.context("the process has ended")? << 10)
    }

    fn process(&self) -> anyhow::Result<Process> {
        let id = self.gateway.process_id().context("the gateway runs")?;
        Ok(Process::new(id.try_into()?)?)
    }
}

/// The result of sending uploads.
#[derive(Debug)]
pub(crate) struct UploadTimes {
    /// From the first request to the last answer.
    pub(crate) elapsed: Duration,
    /// From a request to its answer, one per upload, ascending.
    pub(crate) latencies: Vec<Duration>,
}

/// The quantile of latencies in ascending order.
pub(crate) fn quantile(ascending: &[Duration], share: f64) -> Duration {
    let last = ascending.len().saturating_sub(1);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        clippy::cast_precision_loss,
        reason = "few, and a position in a list"
    )]
    let at = (last as f64 * share).round() as usize;
    ascending.get(at).copied().unwrap_or_default()
}

/// Sends uploads over some kept-alive connections, each as soon as the last one was answered.
///
/// # Errors
/// When an upload is not answered with 201.
pub(crate) fn send_uploads(
    routes: &[Route],
    connections: usize,
    uploads: &[EncodedRequest],
) -> anyhow::Result<UploadTimes> {
    let open = |number: usize| Connection::open(&routes[number % routes.len()]);
    let open = (0..connections).map(open).collect::<Result<Vec<_>, _>>()?;
    let next = AtomicUsize::new(0);
    let started = Instant::now();
    let work = |mut connection: Connection| -> anyhow::Result<Vec<Duration>> {
        let mut latencies = Vec::new();
        while let Some(upload) = uploads.get(next.fetch_add(1, Ordering::Relaxed)) {
            let asked = Instant::now();
            let response = connection.send(upload)?;
            latencies.push(asked.elapsed());
            ensure!(
                response.status == 201,
                "an upload was answered with: {}",
                response.head
            );
        }
        Ok(latencies)
    };
    let each = run_in_threads(open.into_iter().map(|connection| || work(connection)));
    let elapsed = started.elapsed();
    let mut latencies = each.into_iter().collect::<Result<Vec<_>, _>>()?.concat();
    latencies.sort_unstable();
    Ok(UploadTimes { elapsed, latencies })
}

/// Runs each task on its own thread, concurrently.
///
/// # Panics
/// When one of them does.
pub(crate) fn run_in_threads<T: Send, W: FnOnce() -> T + Send>(
    works: impl IntoIterator<Item = W>,
) -> Vec<T> {
    std::thread::scope(|scope| {
        let threads = Vec::from_iter(works.into_iter().map(|work| scope.spawn(work)));
        let join = |thread: std::thread::ScopedJoinHandle<'_, T>| thread.join().expect("no panic");
        threads.into_iter().map(join).collect()
    })
}

/// An address of 127.0.0.1 that was free a moment ago.
///
/// # Errors
/// When no port is free.
pub(crate) fn free_address() -> std::io::Result<SocketAddr> {
    TcpListener::bind("127.0.0.1:0")?.local_addr()
}

/// Today's UTC day, in the form that downloads use.
pub(crate) fn today() -> String {
    let now: UnixMillis = SystemClock.now();
    now.day().to_string()
}
