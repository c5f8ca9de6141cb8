//! A certificate authority for a private database server.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use engine::{Clock as _, SystemClock};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};
use time::{Duration, OffsetDateTime};

use super::error::LocalError;

/// The authority, with everything that it issues in PEM files of one folder.
#[derive(Debug)]
pub struct DatabaseAuthority {
    folder: PathBuf,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its private key, in PEM files.
#[derive(Debug, Clone)]
pub struct IssuedFiles {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

impl DatabaseAuthority {
    /// Makes one; its certificate is in a file of the folder, which has to exist.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn make(folder: &Path) -> Result<Self, LocalError> {
        let mut params = params(&[], 1)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let name = format!("database authority {:08x}", rand::random::<u32>());
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.self_signed(&key).map_err(failed)?;
        let authority = Self {
            folder: folder.to_owned(),
            issuer: Issuer::new(params, key),
        };
        write(&authority.ca(), &certificate.pem())?;
        Ok(authority)
    }

    /// The file of its certificate.
    pub fn ca(&self) -> PathBuf {
        self.folder.join("ca.pem")
    }

    /// Issues a certificate for servers on these hosts and for clients, which ends in some days, or
    /// has ended; in files that are named so, and replaced.
    ///
    /// # Errors
    /// When a file cannot be written.
    pub fn issue(&self, name: &str, hosts: &[&str], days: i64) -> Result<IssuedFiles, LocalError> {
        let mut params = params(hosts, days)?;
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().map_err(failed)?;
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        let files = IssuedFiles {
            certificate: self.folder.join(format!("{name}.pem")),
            key: self.folder.join(format!("{name}.key")),
        };
        write(&files.certificate, &certificate.pem())?;
        write(&files.key, &key.serialize_pem())?;
        Ok(files)
    }
}

fn params(hosts: &[&str], days: i64) -> Result<CertificateParams, LocalError> {
    let hosts: Vec<String> = hosts.iter().map(ToString::to_string).collect();
    let mut params = CertificateParams::new(hosts).map_err(failed)?;
    let now = i128::from(SystemClock.now().0) * 1_000_000;
    let now = OffsetDateTime::from_unix_timestamp_nanos(now).unwrap_or(OffsetDateTime::UNIX_EPOCH);
    params.not_before = now - Duration::days(3);
    params.not_after = now + Duration::days(days);
    Ok(params)
}

fn write(path: &Path, text: &str) -> Result<(), LocalError> {
    let written = fs::write(path, text);
    let private = fs::Permissions::from_mode(0o600);
    let done = written.and_then(|()| fs::set_permissions(path, private));
    done.map_err(LocalError::io("cannot write a certificate"))
}

#[expect(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(error: rcgen::Error) -> LocalError {
    LocalError::Failed {
        what: "cannot make a certificate".to_owned(),
        why: error.to_string(),
    }
}
