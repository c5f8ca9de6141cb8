//! `keygen`: keys, certificates to send to the operator, and requests for those with a CA.

use std::fs;
use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use clap::ValueEnum;
use engine::clock::{Clock as _, SystemClock};
use engine::domain::Country;
use engine::pki::DEVELOPMENT_ORGANIZATION;
use rcgen::{CertificateParams, DnType, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256};
use time::{Duration, OffsetDateTime};

/// Make keys, self-signed certificates and certificate requests for a participant
///
/// Writes authentication and signing as NAME.key (keep it), NAME.pem (send it to the gateway's operator)
/// and NAME.csr (for a CA in place of the self-signed certificate).
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Your country, two letters
    #[arg(long, value_name = "CC")]
    country: Country,
    /// Folder to write to; nothing in it is overwritten
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Kind of the keys
    #[arg(long, value_enum, default_value_t = Kind::Rsa)]
    kind: Kind,
    /// Days for which the certificates are valid
    #[arg(long, default_value_t = 365)]
    days: u16,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub(crate) enum Kind {
    /// RSA with 2048 bits
    Rsa,
    /// EC on P-256
    P256,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let dir = &arguments.dir;
    fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    for name in ["authentication", "signing"] {
        let identity = NewIdentity {
            country: arguments.country,
            name,
            kind: arguments.kind,
            days: arguments.days,
            organization: None,
        };
        identity.write(dir)?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A key and its certificate, to be made.
pub(crate) struct NewIdentity {
    pub(crate) country: Country,
    /// What it is for, and the name of its files.
    pub(crate) name: &'static str,
    pub(crate) kind: Kind,
    /// For how long the certificate is valid.
    pub(crate) days: u16,
    pub(crate) organization: Option<&'static str>,
}

impl NewIdentity {
    /// One that says that it is for development.
    pub(crate) const fn for_tests(country: Country, name: &'static str) -> Self {
        Self {
            country,
            name,
            kind: Kind::Rsa,
            days: 365,
            organization: Some(DEVELOPMENT_ORGANIZATION),
        }
    }

    /// Writes NAME.key, NAME.csr and NAME.pem, self-signed; overwrites nothing.
    pub(crate) fn write(&self, dir: &Path) -> anyhow::Result<()> {
        let algorithm = match self.kind {
            Kind::Rsa => &PKCS_RSA_SHA256,
            Kind::P256 => &PKCS_ECDSA_P256_SHA256,
        };
        let key = KeyPair::generate_for(algorithm)?;
        let params = self.params()?;
        let path = |ending: &str| dir.join(format!("{}.{ending}", self.name));
        write_new(&path("key"), &key.serialize_pem(), 0o600)?;
        let request = params.serialize_request(&key)?.pem()?;
        write_new(&path("csr"), &request, 0o644)?;
        write_new(&path("pem"), &params.self_signed(&key)?.pem(), 0o644)
    }

    fn params(&self) -> anyhow::Result<CertificateParams> {
        let (country, name) = (self.country.as_str(), self.name);
        let mut params = CertificateParams::new([])?;
        let subject = &mut params.distinguished_name;
        subject.push(DnType::CountryName, country);
        if let Some(organization) = self.organization {
            subject.push(DnType::OrganizationName, organization);
        }
        subject.push(DnType::CommonName, format!("EFGS {country} {name}"));
        let now = i64::try_from(SystemClock.now().seconds())?;
        let now = OffsetDateTime::from_unix_timestamp(now)?;
        // Clocks differ.
        params.not_before = now - Duration::hours(1);
        params.not_after = now + Duration::days(i64::from(self.days));
        Ok(params)
    }
}

fn write_new(path: &Path, text: &str, mode: u32) -> anyhow::Result<()> {
    let created = fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path);
    created
        .and_then(|mut file| file.write_all(text.as_bytes()))
        .with_context(|| format!("cannot create {}", path.display()))
}
