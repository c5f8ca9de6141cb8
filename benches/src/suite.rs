//! What is measured, in which order: rounds of what is compared take turns, so that what disturbs
//! the machine disturbs both.

use std::hint::black_box;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use aws_lc_rs::digest::{SHA256, digest};
use benches::http::{Connection, Rendered, Route};
use benches::site::{MAX_DELAY_MS, Running, Sent, Site, in_threads, quantile, send};
use benches::{Backend, ECDSA_P256, FULL, Ground, RSA_2048};
use engine::decode::decode;
use engine::upload::UploadRequest;
use engine::verify::CanonicalBytes;
use loadgen::local::MariaDb;

use crate::download::{self, Cut, Nginx};
use crate::ratios::{Figure, Ratio};
use crate::report::{Run, line};
use crate::visible;

/// Rounds of what takes seconds; medians are taken over them.
const ROUNDS: usize = 9;
/// Rounds of what takes milliseconds.
const CPU_ROUNDS: usize = 25;
/// Full uploads in a round of ingest: half a million keys.
const UPLOADS_A_ROUND: usize = 100;
/// Connections that upload: as many as Europe's larger participants together would have open.
const CONNECTIONS: usize = 16;
/// What the set takes for a key, about: 21 to 32 bytes.
const SET_BYTES_A_KEY: u64 = 27;
/// Uploads one after the other, for the latency of an idle gateway.
const UNLOADED_UPLOADS: usize = 300;

/// What to run.
#[derive(Debug)]
pub(crate) struct Options {
    /// Parts; empty means all.
    pub(crate) only: Vec<String>,
    /// Keys stored before ingest and start are measured.
    pub(crate) stored: u64,
    /// The program with the system's allocator.
    pub(crate) system_allocator: Option<PathBuf>,
}

/// Measures everything but the instruction counts.
///
/// # Errors
/// When a server does not run or does not answer as it should.
pub(crate) fn measure(options: &Options, run: &mut Run) -> anyhow::Result<()> {
    let wanted = |part: &str| options.only.is_empty() || options.only.iter().any(|o| o == part);
    let yardstick = Yardstick::new();
    if wanted("cpu") {
        part(run, "cpu", |run| cpu(&yardstick, run))?;
    }
    let program = efgs()?;
    if ["ingest", "stored", "visible"].into_iter().any(wanted) {
        let server = MariaDb::start(&std::env::temp_dir())?;
        for (name, database) in [("sqlite", None), ("mariadb", Some(&server))] {
            let bench = Ingest {
                name,
                program: &program,
                server: database,
                yardstick: &yardstick,
            };
            if wanted("ingest") {
                part(run, &format!("ingest on {name}"), |run| bench.empty(run))?;
            }
            if wanted("stored") {
                let stored = options.stored;
                part(run, &format!("stored on {name}"), |run| {
                    bench.stored(stored, run)
                })?;
            }
            if wanted("visible") {
                part(run, &format!("visible on {name}"), |run| bench.visible(run))?;
            }
        }
    }
    if wanted("download") {
        part(run, "download", |run| downloads(&program, run))?;
    }
    if wanted("tls") {
        part(run, "tls", |run| mutual_tls(&program, run))?;
    }
    if let Some(other) = &options.system_allocator {
        part(run, "allocators", |run| allocators(&program, other, run))?;
    }
    Ok(())
}

/// Runs a part and prints its figures.
fn part(
    run: &mut Run,
    name: &str,
    measure: impl FnOnce(&mut Run) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let (figures, started) = (run.figures.len(), Instant::now());
    measure(run).with_context(|| format!("measuring {name}"))?;
    run.note_load(name);
    eprintln!("{name}, {:.0} s", started.elapsed().as_secs_f64());
    for figure in &run.figures[figures..] {
        eprintln!("{}", line(figure));
    }
    Ok(())
}

/// The program beside this one.
fn efgs() -> anyhow::Result<PathBuf> {
    let beside = std::env::current_exe()?.with_file_name("efgs");
    ensure!(
        beside.is_file(),
        "{} is missing: run make build",
        beside.display()
    );
    Ok(beside)
}

fn keys_per_second(keys: usize, elapsed: Duration) -> f64 {
    f64::from(u32::try_from(keys).unwrap_or(u32::MAX)) / elapsed.as_secs_f64()
}

/// Divides element by element.
fn ratio_of(above: &[f64], below: &[f64]) -> Vec<f64> {
    above.iter().zip(below).map(|(a, b)| a / b).collect()
}

// CPU --------------------------------------------------------------------------------------------

/// Work of a known kind, to measure others with: it depends on the core and on nothing else.
struct Yardstick {
    ground: Ground,
    rsa: UploadRequest,
    text: Vec<u8>,
}

impl Yardstick {
    fn new() -> Self {
        let rsa = Backend::of(RSA_2048).upload(0, FULL);
        let decoded = decode(&rsa.body, FULL).expect("the generator writes well-formed bodies");
        let text = CanonicalBytes::of(&decoded).signed_bytes();
        Self {
            ground: Ground::lay(),
            rsa,
            text,
        }
    }

    /// Nanoseconds a key of SHA-256 over the signed text.
    fn sha256(&self) -> f64 {
        fastest(10, || digest(&SHA256, black_box(&self.text)))
    }

    /// Nanoseconds a key of the walk from body to sealed.
    fn walk(&self) -> f64 {
        fastest(10, || self.ground.walk(&self.rsa))
    }
}

/// Nanoseconds a key of the fastest of some runs.
fn fastest<T>(times: usize, mut work: impl FnMut() -> T) -> f64 {
    let mut least = Duration::MAX;
    for _ in 0..times {
        let started = Instant::now();
        let output = work();
        least = least.min(started.elapsed());
        drop(black_box(output));
    }
    least.as_secs_f64() * 1e9 / f64::from(FULL)
}

fn cpu(yardstick: &Yardstick, run: &mut Run) -> anyhow::Result<()> {
    let p256 = Backend::of(ECDSA_P256).upload(0, FULL);
    let json = Backend::of(RSA_2048).json_upload(0, FULL);
    let [mut sha, mut rsa_walk, mut p256_walk, mut json_walk] = [const { Vec::new() }; 4];
    for _ in 0..CPU_ROUNDS {
        sha.push(yardstick.sha256());
        rsa_walk.push(yardstick.walk());
        p256_walk.push(fastest(10, || yardstick.ground.walk(&p256)));
        json_walk.push(fastest(5, || yardstick.ground.walk(&json)));
    }
    run.ratios.extend([
        Ratio::new("walk_rsa_2048/sha256", ratio_of(&rsa_walk, &sha)),
        Ratio::new("walk_ecdsa_p256/sha256", ratio_of(&p256_walk, &sha)),
        Ratio::new("walk_json/walk", ratio_of(&json_walk, &rsa_walk)),
    ]);
    run.figures.extend([
        Figure::new("CPU stages, RSA-2048", "ns/key", rsa_walk).against(350.0, 200.0),
        Figure::new("CPU stages, P-256", "ns/key", p256_walk).against(350.0, 200.0),
        Figure::new("CPU stages, RSA-2048, JSON", "ns/key", json_walk),
        Figure::new("SHA-256 of the signed text", "ns/key", sha),
    ]);
    Ok(())
}

// Ingest -----------------------------------------------------------------------------------------

/// Durable ingest over HTTP, in proxy mode, on one database.
struct Ingest<'a> {
    name: &'static str,
    program: &'a Path,
    server: Option<&'a MariaDb>,
    yardstick: &'a Yardstick,
}

impl Ingest<'_> {
    fn site(&self, what: &str) -> anyhow::Result<Site> {
        let name = format!("{}_{what}", self.name);
        Site::make(
            self.program,
            self.server.map(|server| (server, name.as_str())),
        )
    }

    /// Keys a second from an empty database on, and the latency when nothing else happens.
    fn empty(&self, run: &mut Run) -> anyhow::Result<()> {
        let site = self.site("empty")?;
        let running = site.start()?;
        let latencies = unloaded(&site, &running)?;
        let (mut rates, mut walks) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            walks.push(1e9 / self.yardstick.walk());
            rates.push(rate(&site, &running)?);
        }
        let (ratio, must, goal) = match self.server {
            None => ("ingest_sqlite/walk", 1e6, 2e6),
            Some(_) => ("ingest_mariadb/walk", 1e6, 2.5e6),
        };
        run.ratios.push(Ratio::new(ratio, ratio_of(&rates, &walks)));
        let name = self.name;
        drop(running);
        let peak = self.peak_memory()?;
        if self.server.is_none() {
            run.ratios.push(Ratio::new("peak_memory_mib", vec![peak]));
        }
        let millis = |share| vec![quantile(&latencies.latencies, share).as_secs_f64() * 1e3];
        run.figures.extend([
            Figure::new(format!("ingest over HTTP, {name}"), "keys/s", rates).against(must, goal),
            Figure::new(
                format!("one upload, unloaded, p50, {name}"),
                "ms",
                millis(0.5),
            )
            .against(20.0, 4.0),
            Figure::new(
                format!("one upload, unloaded, p99, {name}"),
                "ms",
                millis(0.99),
            )
            .against(20.0, 4.0),
            Figure::new(format!("peak memory under load, {name}"), "MiB", vec![peak])
                .against(256.0, 128.0),
        ]);
        Ok(())
    }

    /// Most memory at full rate, in MiB, without the bundle cache, which is set to next to nothing,
    /// and without the set, which is taken off.
    fn peak_memory(&self) -> anyhow::Result<f64> {
        let site = self.site("memory")?;
        let running = site.start_with(&[("EFGS__BUNDLE__CACHE_BYTES_MAX", "1048576")])?;
        for _ in 0..3 {
            rate(&site, &running)?;
        }
        let set = 3 * UPLOADS_A_ROUND as u64 * u64::from(FULL) * SET_BYTES_A_KEY;
        Ok(mebibytes(
            running.memory_bytes("VmHWM")?.saturating_sub(set),
        ))
    }

    /// From an answer to the download of its keys: when nothing else happens, and beside ingest at
    /// full rate.
    fn visible(&self, run: &mut Run) -> anyhow::Result<()> {
        let site = self.site("visible")?;
        let running = site.start()?;
        let mut next = 1;
        let idle = visible::delays(&site, &running, 0, &mut next)?;
        let done = AtomicBool::new(false);
        let busy = std::thread::scope(|scope| {
            let load = scope.spawn(|| -> anyhow::Result<()> {
                while !done.load(Ordering::Acquire) {
                    rate(&site, &running)?;
                }
                Ok(())
            });
            let busy = visible::delays(&site, &running, 1, &mut next);
            done.store(true, Ordering::Release);
            load.join().expect("no panic")?;
            busy
        })?;
        for (when, delays) in [("idle", idle), ("beside ingest", busy)] {
            let late = |share: f64| vec![quantile(&delays, share).as_secs_f64() * 1e3];
            let name = self.name;
            run.figures.extend([
                Figure::new(
                    format!("answered to downloadable, {when}, p50, {name}"),
                    "ms",
                    late(0.5),
                ),
                Figure::new(
                    format!("answered to downloadable, {when}, p99, {name}"),
                    "ms",
                    late(0.99),
                )
                .against(
                    f64::from(MAX_DELAY_MS) + 250.0,
                    f64::from(MAX_DELAY_MS) + 50.0,
                ),
            ]);
        }
        Ok(())
    }

    /// The same beside a database that holds many keys; and what a start with them takes.
    fn stored(&self, stored: u64, run: &mut Run) -> anyhow::Result<()> {
        let (empty, full) = (self.site("beside")?, self.site("full")?);
        let filling = full.fill(stored)?;
        let disk = full.disk_bytes();
        let beside = empty.start()?;
        let (mut starts, mut rebuilds) = (Vec::new(), Vec::new());
        let keys = as_f64(stored);
        let mut running = full.start()?;
        for round in 0..3 {
            let nanos = running
                .started_in
                .saturating_sub(beside.started_in)
                .as_secs_f64()
                * 1e9;
            rebuilds.push(nanos / keys / self.yardstick.sha256());
            starts.push(running.started_in.as_secs_f64());
            if round < 2 {
                drop(running);
                running = full.start()?;
            }
        }
        let memory = as_f64(
            running
                .memory_bytes("VmRSS")?
                .saturating_sub(beside.memory_bytes("VmRSS")?),
        ) / keys;
        // The first round of either is for warming up.
        let (mut rates, mut rates_beside) = (Vec::new(), Vec::new());
        for round in 0..=ROUNDS {
            let pair = [rate(&full, &running)?, rate(&empty, &beside)?];
            if round > 0 {
                rates.push(pair[0]);
                rates_beside.push(pair[1]);
            }
        }
        let name = self.name;
        let kept = ratio_of(&rates, &rates_beside);
        let ratio = match self.server {
            None => "ingest_sqlite_stored/empty",
            Some(_) => "ingest_mariadb_stored/empty",
        };
        run.ratios.push(Ratio::new(ratio, kept.clone()));
        if self.server.is_none() {
            run.ratios.push(Ratio::new("set_rebuild/sha256", rebuilds));
            run.ratios.push(Ratio::new("set_bytes_a_key", vec![memory]));
        }
        let millions = keys / 1e6;
        let rebuilt: Vec<f64> = starts
            .iter()
            .map(|start| keys / (start - beside.started_in.as_secs_f64()))
            .collect();
        run.figures.extend([
            Figure::new(
                format!("ingest with {millions} M stored, {name}"),
                "keys/s",
                rates,
            ),
            Figure::new(format!("… against empty, {name}"), "ratio", kept).against(0.85, 0.95),
            Figure::new(
                format!("start with {millions} M stored, {name}"),
                "s",
                starts,
            ),
            // 100 M keys in 15 s, and in 6.
            Figure::new(format!("set rebuilt, {name}"), "keys/s", rebuilt).against(6.67e6, 16.7e6),
            Figure::new(format!("set in memory, {name}"), "bytes/key", vec![memory]),
            Figure::new(
                format!("stored without HTTP, {name}"),
                "keys/s",
                vec![keys / filling.as_secs_f64()],
            ),
        ]);
        if let Some(disk) = disk {
            let disk = as_f64(disk) / keys;
            run.ratios
                .push(Ratio::new("disk_bytes_a_key_sqlite", vec![disk]));
            run.figures
                .push(Figure::new("on the disk, sqlite", "bytes/key", vec![disk]));
        }
        Ok(())
    }
}

#[expect(
    clippy::cast_precision_loss,
    reason = "numbers of keys and bytes stay below 2^53"
)]
const fn as_f64(number: u64) -> f64 {
    number as f64
}

fn mebibytes(bytes: u64) -> f64 {
    as_f64(bytes) / f64::from(1 << 20)
}

/// Keys a second of one round; the uploads are signed before.
fn rate(site: &Site, running: &Running) -> anyhow::Result<f64> {
    let uploads = site.uploads(UPLOADS_A_ROUND, FULL);
    rate_over(&[Route::Plain(running.proxy)], &uploads)
}

fn rate_over(routes: &[Route], uploads: &[Rendered]) -> anyhow::Result<f64> {
    let sent = send(routes, CONNECTIONS, uploads)?;
    Ok(keys_per_second(uploads.len() * FULL as usize, sent.elapsed))
}

fn unloaded(site: &Site, running: &Running) -> anyhow::Result<Sent> {
    let uploads = site.uploads(UNLOADED_UPLOADS, FULL);
    let route = [Route::Plain(running.proxy)];
    send(&route, 1, &uploads)
}

// Downloads --------------------------------------------------------------------------------------

/// Rounds of each shape, two seconds each for the gateway and for nginx.
const DOWNLOAD_ROUNDS: usize = 5;

/// A bundle: its name, its keys; and the ratios, by connections.
type BundleShape = (&'static str, u32, [(u32, &'static str); 3]);

const SHAPES: [BundleShape; 2] = [
    (
        "5000",
        5000,
        [
            (1, "download_5000_c1/nginx"),
            (8, "download_5000_c8/nginx"),
            (64, "download_5000_c64/nginx"),
        ],
    ),
    (
        "100",
        100,
        [
            (1, "download_100_c1/nginx"),
            (8, "download_100_c8/nginx"),
            (64, "download_100_c64/nginx"),
        ],
    ),
];

fn downloads(program: &Path, run: &mut Run) -> anyhow::Result<()> {
    let site = Site::make(program, None)?;
    let running = site.start()?;
    let cuts = SHAPES
        .iter()
        .map(|(name, keys, _)| Ok((*name, download::cut(&site, &running, *keys)?)))
        .collect::<anyhow::Result<Vec<(&str, Cut)>>>()?;
    let files: Vec<_> = cuts
        .iter()
        .map(|(name, cut)| (*name, cut.body.as_slice()))
        .collect();
    let nginx = Nginx::start(&files)?;
    for ((name, keys, counts), (_, cut)) in SHAPES.iter().zip(&cuts) {
        for (connections, ratio) in counts {
            let (mut ours, mut theirs) = (Vec::new(), Vec::new());
            for _ in 0..DOWNLOAD_ROUNDS {
                ours.push(download::gateway_rate(
                    &site,
                    &running,
                    &cut.tag,
                    *connections,
                )?);
                theirs.push(nginx.rate(name, *connections)?);
            }
            let kept = ratio_of(&ours, &theirs);
            run.ratios.push(Ratio::new(ratio, kept.clone()));
            let shape = format!("{name} keys, {connections} connections");
            let against = Figure::new(format!("… against nginx, {shape}"), "ratio", kept);
            run.figures.extend([
                Figure::new(format!("download, {shape}"), "1/s", ours),
                Figure::new(format!("nginx, {shape}"), "1/s", theirs),
                match *keys {
                    FULL => against.against(0.7, 1.0),
                    // The target is of the largest bundle.
                    _ => against,
                },
            ]);
        }
    }
    Ok(())
}

// TLS --------------------------------------------------------------------------------------------

fn mutual_tls(program: &Path, run: &mut Run) -> anyhow::Result<()> {
    let site = Site::make(program, None)?;
    let running = site.start()?;
    let cut = download::cut(&site, &running, FULL)?;
    let plain = [Route::Plain(running.proxy)];
    let of = |index| site.tls_route(&running, index);
    // Uploads go in turn over the participants; connections do, too, and each stays with its own.
    let participants = 0..site.backends.len();
    let each = participants.map(of).collect::<Result<Vec<_>, _>>()?;
    let request = download::request(&site, Some(&cut.tag));
    let [mut down, mut down_tls, mut up, mut up_tls] = [const { Vec::new() }; 4];
    let [mut work, mut work_tls] = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (route, rates, work) in [
            (&plain[0], &mut down, &mut work),
            (&each[1], &mut down_tls, &mut work_tls),
        ] {
            let before = running.cpu_time()?;
            let rate = downloads_per_second(route, &request)?;
            let spent = running.cpu_time()?.saturating_sub(before);
            work.push(spent.as_secs_f64() * 1e6 / (rate * READING.as_secs_f64()));
            rates.push(rate);
        }
        up.push(rate_by_participant(&site, &plain)?);
        up_tls.push(rate_by_participant(&site, &each)?);
    }
    let (kept, kept_up) = (ratio_of(&down_tls, &down), ratio_of(&up_tls, &up));
    run.ratios
        .push(Ratio::new("download_mtls/plain", kept.clone()));
    run.ratios
        .push(Ratio::new("ingest_mtls/plain", kept_up.clone()));
    run.figures.extend([
        Figure::new("download, plain, 4 connections", "1/s", down),
        Figure::new("download, mTLS, 4 connections", "1/s", down_tls),
        Figure::new("download, mTLS against plain", "ratio", kept).against(0.6, 0.8),
        Figure::new("gateway's CPU a download, plain", "µs", work),
        Figure::new("gateway's CPU a download, mTLS", "µs", work_tls),
        Figure::new("ingest, plain, 16 connections", "keys/s", up),
        Figure::new("ingest, mTLS, 16 connections", "keys/s", up_tls),
        Figure::new("ingest, mTLS against plain", "ratio", kept_up).against(0.6, 0.8),
    ]);
    Ok(())
}

/// Connections that download at once.
const READERS: usize = 4;
/// How long they do.
const READING: Duration = Duration::from_secs(1);

fn downloads_per_second(route: &Route, request: &Rendered) -> anyhow::Result<f64> {
    let read = || -> anyhow::Result<u32> {
        let mut connection = Connection::open(route)?;
        let (mut answers, started) = (0, Instant::now());
        while started.elapsed() < READING {
            let answer = connection.ask(request)?;
            ensure!(
                answer.status == 200,
                "a download was answered: {}",
                answer.head
            );
            answers += 1;
        }
        Ok(answers)
    };
    let answers = in_threads((0..READERS).map(|_| read));
    let answers: u32 = answers.into_iter().sum::<anyhow::Result<u32>>()?;
    Ok(f64::from(answers) / READING.as_secs_f64())
}

/// Keys a second, two connections a participant: with TLS, a connection is of one participant.
fn rate_by_participant(site: &Site, routes: &[Route]) -> anyhow::Result<f64> {
    let participants = site.backends.len();
    let uploads = site.owned_uploads(UPLOADS_A_ROUND.next_multiple_of(participants), FULL);
    let mut shares: Vec<Vec<Rendered>> = vec![Vec::new(); participants];
    for (upload, of) in uploads {
        shares[of].push(upload);
    }
    let keys = UPLOADS_A_ROUND.next_multiple_of(participants) * FULL as usize;
    let started = Instant::now();
    let sending = shares.iter().enumerate().map(|(of, share)| {
        let route = std::slice::from_ref(&routes[of % routes.len()]);
        move || send(route, CONNECTIONS / participants, share)
    });
    let each = in_threads(sending);
    each.into_iter().collect::<Result<Vec<_>, _>>()?;
    Ok(keys_per_second(keys, started.elapsed()))
}

// Allocators -------------------------------------------------------------------------------------

/// Ingest and peak memory with mimalloc and with the system's allocator, in turn.
fn allocators(mimalloc: &Path, system: &Path, run: &mut Run) -> anyhow::Result<()> {
    let programs = [("mimalloc", mimalloc), ("system allocator", system)];
    let sites = programs.map(|(_, program)| Site::make(program, None));
    let [first, second] = sites;
    let sites = [first?, second?];
    let running = [sites[0].start()?, sites[1].start()?];
    let mut rates = [const { Vec::new() }; 2];
    for _ in 0..ROUNDS {
        for (at, rates) in rates.iter_mut().enumerate() {
            rates.push(rate(&sites[at], &running[at])?);
        }
    }
    for (((name, _), running), rates) in programs.into_iter().zip(&running).zip(rates) {
        let peak = mebibytes(running.memory_bytes("VmHWM")?);
        let resident = mebibytes(running.memory_bytes("VmRSS")?);
        run.figures.extend([
            Figure::new(format!("ingest over HTTP, sqlite, {name}"), "keys/s", rates),
            Figure::new(format!("peak memory, {name}"), "MiB", vec![peak]),
            Figure::new(format!("memory after, {name}"), "MiB", vec![resident]),
        ]);
    }
    Ok(())
}
