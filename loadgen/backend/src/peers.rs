//! `peers`: countries of a practice gateway that upload made-up keys, as everybody uploads: signed, with
//! their own certificates, through the front door.
//!
//! Made-up keys that reached phones would alarm people. So it takes certificates of the development PKI
//! alone, which no real gateway lists.

use std::io::Read as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use efgs_client::{
    BatchSigner, Caller, Connection, MemoryJournal, Pending, Protocol, RsaScheme, Target, Uploader,
    decode,
};
use engine::clock::{Clock as _, SystemClock};
use engine::domain::Country;
use engine::output;
use engine::pki::Certificate;
use testkit::keys::{KEYS_PER_PERSON, KeyGenerator, Seed};

/// Upload made-up keys for the peers of a practice gateway, until standard input ends
///
/// `efgs serve` starts it with the settings of a practice gateway. It takes only certificates that `efgs
/// init` has made.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// The folder of certificates that `efgs init` has made
    #[arg(long, value_name = "DIR")]
    pki: PathBuf,
    /// https://HOST:PORT
    #[arg(long, value_name = "URL")]
    gateway: String,
    /// Countries, separated by commas
    #[arg(long, value_name = "CC,…", value_delimiter = ',', required = true)]
    countries: Vec<Country>,
    /// Seconds between two uploads of a country
    #[arg(long, value_name = "N", default_value_t = 60)]
    upload_seconds: u32,
}

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(30);
/// How often one upload is tried before its keys are given up: others follow.
const ATTEMPTS_MAX: u32 = 5;
/// Most people whose keys are in one upload.
const PEOPLE_MAX: u32 = 8;

pub(crate) async fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let peers = arguments.countries.iter();
    let peers = peers.map(|country| Peer::open(arguments, *country));
    let peers: Vec<_> = peers.collect::<Result<_, _>>()?;
    std::thread::spawn(end_with_standard_input);
    let interval = Duration::from_secs(arguments.upload_seconds.max(1).into());
    // Not all at once.
    let apart = interval / u32::try_from(peers.len()).unwrap_or(u32::MAX);
    let mut uploading = tokio::task::JoinSet::new();
    for (peer, number) in peers.into_iter().zip(0_u32..) {
        uploading.spawn(peer.upload_for_ever(apart * number, interval));
    }
    uploading.join_next().await.transpose()?;
    Ok(ExitCode::FAILURE)
}

/// Whoever has started this process holds its standard input, until its own end, whatever that is.
fn end_with_standard_input() {
    let mut nothing = [0];
    while matches!(std::io::stdin().read(&mut nothing), Ok(1..)) {}
    std::process::exit(0);
}

/// A country that uploads.
struct Peer {
    country: Country,
    countries: Vec<Country>,
    uploader: Uploader,
}

impl Peer {
    fn open(arguments: &Arguments, country: Country) -> anyhow::Result<Self> {
        let own = arguments.pki.join(country.as_str());
        let path = |name: &str| own.join(name);
        for name in ["authentication.pem", "signing.pem"] {
            check_is_for_development(&path(name))?;
        }
        let caller = Caller::from_files(
            country.as_str(),
            &path("authentication.pem"),
            &path("authentication.key"),
            &arguments.pki.join("server-ca.pem"),
            Protocol::Http1,
        )?;
        let gateway = Target::parse(&arguments.gateway)?;
        let connection = Connection::new(Arc::new(caller), Arc::from([gateway]), 0, TIMEOUT);
        let (certificate, key) = (path("signing.pem"), path("signing.key"));
        let signer = BatchSigner::from_files(&certificate, &key, RsaScheme::Pkcs1)?;
        Ok(Self {
            country,
            countries: arguments.countries.clone(),
            uploader: Uploader::new(connection, signer, country.as_str()),
        })
    }

    async fn upload_for_ever(mut self, first: Duration, interval: Duration) {
        tokio::time::sleep(first).await;
        loop {
            if let Err(error) = self.upload().await {
                output::note(format_args!("{}: {error:#}", self.country));
            }
            tokio::time::sleep(interval).await;
        }
    }

    async fn upload(&mut self) -> anyhow::Result<()> {
        let seed = Seed {
            number: rand::random(),
            keys_total: 0,
            upload_keys: 0,
            day: SystemClock.now().day(),
        };
        let people = rand::random_range(1..=PEOPLE_MAX);
        let body = KeyGenerator::new(seed, &self.countries);
        let keys = decode(&body.body(self.country, 0, people * KEYS_PER_PERSON))?;
        let mut journal = MemoryJournal {
            pending: vec![Pending::new(self.country.as_str(), keys)],
            ..MemoryJournal::default()
        };
        Ok(self.uploader.drain(&mut journal, ATTEMPTS_MAX).await?)
    }
}

fn check_is_for_development(path: &Path) -> anyhow::Result<()> {
    let pem = std::fs::read_to_string(path);
    let pem = pem.with_context(|| format!("cannot read {}", path.display()))?;
    let der = Certificate::der_of_pem(&pem).ok().unwrap_or_default();
    let certificate = Certificate::from_der(&der);
    if !certificate.is_ok_and(|certificate| certificate.is_for_development()) {
        bail!(
            "{} was not made by efgs init: made-up keys must not reach a real gateway",
            path.display()
        );
    }
    Ok(())
}
