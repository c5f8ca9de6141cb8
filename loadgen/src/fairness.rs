//! Whether large uploads are stored in time on a cluster: two gateways take uploads of 20 keys all the time,
//! a third takes uploads of 5000, on a private Galera cluster, with one order of hosts for all gateways
//! and with a node for each.

use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::task::block_in_place;

use crate::client::{Protocol, Target};
use crate::load::{Experiment, LoadError, LoadOptions, Participants, Watch};
use crate::local::{Galera, Gateway, GatewayOptions, LocalError, initialise_for};
use crate::profiles::Distribution;
use crate::results::{Figures, Percentiles};
use crate::scenario::{Arrivals, Operation, Phase, Stream};

/// A participant for each gateway.
const UPLOADERS: [Uploader; 3] = [
    Uploader::new("DE", 20, 8),
    Uploader::new("FR", 20, 8),
    Uploader::new("IT", 5000, 2),
];
/// One that takes longer is counted as failed.
const TIMEOUT: Duration = Duration::from_secs(60);
const DATABASE_NAME: &str = "efgs";

/// What one gateway gets, as soon as it has answered what came before.
#[derive(Debug, Clone, Copy)]
struct Uploader {
    country: &'static str,
    upload_keys: u32,
    connections: usize,
}

/// What to try.
#[derive(Debug, Clone)]
pub struct FairnessOptions {
    /// The program `efgs`.
    pub efgs: PathBuf,
    /// How long each order is under load.
    pub lasts: Duration,
    /// Seed of every key.
    pub seed: u64,
}

/// Why it failed.
#[derive(Debug, thiserror::Error)]
pub enum FairnessError {
    /// A server failed to start.
    #[error(transparent)]
    Local(#[from] LocalError),
    /// Uploads stopped.
    #[error(transparent)]
    Load(#[from] LoadError),
    /// The temporary folder or the terminal fails.
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Runs both orders, each on a cluster of its own, and prints a row for each gateway.
///
/// # Errors
/// When a server does not start, or the load cannot be sent.
pub async fn fairness(
    options: &FairnessOptions,
    out: &mut (impl Write + Send),
) -> Result<(), FairnessError> {
    writeln!(
        out,
        "| hosts of the gateways | keys per upload | connections | stored | p50 ms | p90 ms | max ms | 503 | others |\n\
         | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    )?;
    for (name, orders) in [
        ("a node each", [[0, 1, 2], [1, 2, 0], [2, 0, 1]]),
        ("one order", [[0, 1, 2]; 3]),
    ] {
        let figures = under_load(options, name, &orders).await?;
        for (uploader, figures) in UPLOADERS.iter().zip(figures) {
            uploader.print(name, &figures, out)?;
        }
    }
    Ok(())
}

async fn under_load(
    options: &FairnessOptions,
    name: &str,
    orders: &[[usize; 3]; 3],
) -> Result<[Figures; 3], FairnessError> {
    // In this order, so that the gateways end before the cluster, and the folder goes last.
    let folder = tempfile::Builder::new().prefix("efgs-load").tempdir()?;
    let home = folder.path().join("efgs");
    let cluster = block_in_place(Galera::start)?;
    cluster.node(0).create_database(DATABASE_NAME)?;
    let urls = orders.map(|order| cluster.url(&order, DATABASE_NAME));
    let gateways = block_in_place(|| start(&options.efgs, &home, &urls))?;
    let run = |at: usize| {
        let experiment = Run {
            uploader: UPLOADERS[at],
            name,
            pki: home.join("pki"),
            target: gateways[at].target(),
        };
        experiment.run(options)
    };
    let (first, second, large) = tokio::join!(run(0), run(1), run(2));
    Ok([first?, second?, large?])
}

fn start(efgs: &Path, home: &Path, urls: &[String; 3]) -> Result<Vec<Gateway>, LocalError> {
    let countries = UPLOADERS.map(|uploader| uploader.country);
    initialise_for(efgs, home, Some(&urls[0]), &countries)?;
    let start = |(number, url): (usize, &String)| {
        let mut gateway = GatewayOptions::new(efgs, home);
        gateway.name = format!("gateway-{number}");
        let url = ("EFGS__DATABASE__URL".to_owned(), url.clone());
        gateway.environment.push(url);
        Gateway::start(gateway)
    };
    urls.iter().enumerate().map(start).collect()
}

/// The load on one gateway.
struct Run<'a> {
    uploader: Uploader,
    name: &'a str,
    pki: PathBuf,
    target: Target,
}

impl Run<'_> {
    async fn run(self, options: &FairnessOptions) -> Result<Figures, FairnessError> {
        let Uploader { country, .. } = self.uploader;
        let count = UPLOADERS.len();
        let all = Participants::read(&self.pki, count, Distribution::Even, Protocol::Http1)?;
        let load = LoadOptions {
            targets: vec![self.target],
            timeout: TIMEOUT,
            seed: options.seed,
            memory_bytes_max: 0,
            watch: Watch::default(),
            results: None,
            record: None,
            name: format!("{} {country}", self.name),
            text: String::new(),
        };
        let mut experiment = Experiment::new(all.only(country), load)?;
        let phase = self.uploader.phase(options.lasts);
        Ok(experiment.phase(&phase).await?.all)
    }
}

impl Uploader {
    const fn new(country: &'static str, upload_keys: u32, connections: usize) -> Self {
        Self {
            country,
            upload_keys,
            connections,
        }
    }

    fn phase(self, lasts: Duration) -> Phase {
        let stream = Stream {
            name: "uploads".to_owned(),
            does: Operation::Upload {
                upload_keys: self.upload_keys,
                keys: None,
                duplicates: 0.0,
            },
            arrivals: Arrivals::Closed,
            participants: None,
            skip: 0,
            connections: self.connections,
            bytes_per_second: 0,
            // What is refused is counted, not hidden in a longer wait.
            retry_seconds: 0.0,
            expect: [503].into(),
            expect_broken: false,
        };
        Phase {
            name: "uploads".to_owned(),
            seconds: Some(lasts.as_secs_f64()),
            ahead: false,
            restart: false,
            streams: vec![stream],
        }
    }

    fn print(self, order: &str, figures: &Figures, out: &mut impl Write) -> io::Result<()> {
        let latency = figures.upload.map(|latency| latency.service);
        let Percentiles { p50, p90, max, .. } = latency.unwrap_or_default();
        let unavailable = figures.refused.get(&503).copied().unwrap_or(0);
        let refused: u64 = figures.refused.values().sum();
        writeln!(
            out,
            "| {order} | {} | {} | {} | {} | {} | {} | {unavailable} | {} |",
            self.upload_keys,
            self.connections,
            figures.uploads,
            p50 / 1000,
            p90 / 1000,
            max / 1000,
            refused - unavailable + figures.failed,
        )?;
        out.flush()
    }
}
