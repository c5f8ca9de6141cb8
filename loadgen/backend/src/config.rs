//! The configuration file.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail};
use efgs_client::signature::SigningCertificate;
use efgs_client::{Auditor, BatchSigner, Caller, Connection, Protocol, RsaScheme, Target};
use rustls_pki_types::CertificateDer;
use rustls_pki_types::pem::PemObject as _;
use serde::Deserialize;

/// What a backend needs to know; relative paths start at the file's folder.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    /// Two letters.
    pub(crate) country: String,
    /// `https://HOST:PORT`; several are tried in turn.
    gateways: Vec<String>,
    /// PEM of the authority that issued the gateway's certificate.
    server_ca: PathBuf,
    authentication_certificate: PathBuf,
    authentication_key: PathBuf,
    signing_certificate: Option<PathBuf>,
    signing_key: Option<PathBuf>,
    #[serde(default)]
    rsa_scheme: Scheme,
    /// In place of a key: a program and its arguments, canonical bytes to CMS.
    #[serde(default)]
    signing_command: Vec<String>,
    /// PEM of the trust anchor, or of several; without it nothing that is downloaded is verified.
    trust_anchor: Option<PathBuf>,
    /// First day to download, `yyyy-MM-dd`; the day before the first start by default.
    pub(crate) since: Option<String>,
    /// Whether batches are written as JSON lines.
    #[serde(default)]
    pub(crate) json: bool,
    /// Between looks at the outbox and for new batches, in milliseconds.
    #[serde(default = "default_poll_ms")]
    poll_ms: u64,
    /// Where `/health` and `/metrics` are; nowhere by default.
    pub(crate) status_listen: Option<SocketAddr>,
    /// Where outbox, inbox, sent, refused and state.sqlite are.
    #[serde(default)]
    folder: PathBuf,
    #[serde(skip)]
    base: PathBuf,
}

#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(rename_all = "lowercase")]
enum Scheme {
    #[default]
    Pkcs1,
    Pss,
}

const fn default_poll_ms() -> u64 {
    60_000
}

/// How long a request may take.
const TIMEOUT: Duration = Duration::from_secs(60);
/// Trust anchors of one operator, as gateways have at most.
const ANCHORS_MAX: usize = 8;

impl Config {
    pub(crate) fn read(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path);
        let text = text.with_context(|| format!("cannot read {}", path.display()))?;
        let config: Self =
            toml::from_str(&text).with_context(|| format!("in {}", path.display()))?;
        if config.gateways.is_empty() {
            bail!("{}: gateways names none", path.display());
        }
        let base = path.parent().unwrap_or_else(|| Path::new("")).to_owned();
        let config = Self { base, ..config };
        config
            .check_country()
            .with_context(|| format!("in {}", path.display()))?;
        Ok(config)
    }

    /// A gateway would refuse every key: they have to be of the country that the certificates name. What
    /// cannot be read as a certificate is found by whoever uses it.
    fn check_country(&self) -> anyhow::Result<()> {
        let files = [
            Some(&self.authentication_certificate),
            self.signing_certificate.as_ref(),
        ];
        for file in files.into_iter().flatten() {
            let der = CertificateDer::from_pem_file(self.base.join(file)).ok();
            let certificate = der.and_then(|der| SigningCertificate::from_der(&der).ok());
            let countries = certificate.map_or_else(Vec::new, |certificate| certificate.countries);
            if !countries.is_empty() && countries != [self.country.as_str()] {
                bail!(
                    "country is {}, but {} is for {}",
                    self.country,
                    file.display(),
                    countries.join(", ")
                );
            }
        }
        Ok(())
    }

    pub(crate) const fn poll(&self) -> Duration {
        Duration::from_millis(self.poll_ms)
    }

    /// The folder of the exchange.
    pub(crate) fn folder(&self) -> PathBuf {
        self.base.join(&self.folder)
    }

    /// The authentication certificate, its key, and the authority of the gateway's certificate.
    pub(crate) fn tls_files(&self) -> [PathBuf; 3] {
        let (certificate, key) = (&self.authentication_certificate, &self.authentication_key);
        [certificate, key, &self.server_ca].map(|path| self.base.join(path))
    }

    /// The gateway that is tried first.
    pub(crate) fn first_gateway(&self) -> anyhow::Result<Target> {
        let first = self.gateways.first().context("gateways names none")?;
        Ok(Target::parse(first)?)
    }

    pub(crate) fn connection(&self) -> anyhow::Result<Connection> {
        let [certificate, key, server_ca] = self.tls_files();
        let country = &self.country;
        let caller = Caller::from_files(country, &certificate, &key, &server_ca, Protocol::Http1)?;
        let targets = self.gateways.iter().map(|gateway| Target::parse(gateway));
        let targets: Vec<_> = targets.collect::<Result<_, _>>()?;
        Ok(Connection::new(
            Arc::new(caller),
            targets.into(),
            0,
            TIMEOUT,
        ))
    }

    pub(crate) fn signer(&self) -> anyhow::Result<BatchSigner> {
        if let Some((program, arguments)) = self.signing_command.split_first() {
            return Ok(BatchSigner::Command {
                program: program.into(),
                arguments: arguments.to_vec(),
            });
        }
        let (Some(certificate), Some(key)) = (&self.signing_certificate, &self.signing_key) else {
            bail!("set signing_certificate and signing_key, or signing_command");
        };
        let scheme = match self.rsa_scheme {
            Scheme::Pkcs1 => RsaScheme::Pkcs1,
            Scheme::Pss => RsaScheme::Pss,
        };
        let (certificate, key) = (self.base.join(certificate), self.base.join(key));
        Ok(BatchSigner::from_files(&certificate, &key, scheme)?)
    }

    /// Nothing without a trust anchor.
    pub(crate) fn auditor(&self) -> anyhow::Result<Option<Auditor>> {
        let Some(path) = &self.trust_anchor else {
            return Ok(None);
        };
        let path = self.base.join(path);
        let cannot_read = || format!("cannot read {}", path.display());
        let certificates = CertificateDer::pem_file_iter(&path).with_context(cannot_read)?;
        let certificates: Vec<_> = certificates
            .collect::<Result<_, _>>()
            .with_context(cannot_read)?;
        if !(1..=ANCHORS_MAX).contains(&certificates.len()) {
            bail!(
                "{} holds {} certificates: name a file with 1 to {ANCHORS_MAX}",
                path.display(),
                certificates.len()
            );
        }
        let anchors = certificates.iter().map(|der| {
            let anchor = SigningCertificate::from_der(der);
            anchor.with_context(|| path.display().to_string())
        });
        let anchors = anchors.collect::<anyhow::Result<_>>()?;
        Ok(Some(Auditor::new(anchors, &self.country)))
    }
}
