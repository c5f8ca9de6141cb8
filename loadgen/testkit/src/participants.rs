//! Participants, read from the folder that `efgs init` writes.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use engine::domain::Country;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::signer::{Signer, SignerError};

/// Why participants cannot be read from a folder.
#[derive(Debug, thiserror::Error)]
pub enum ParticipantsError {
    /// The folder cannot be listed.
    #[error("cannot list {path}; `efgs init --dir DIR` writes DIR/pki")]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// The folder has no sub-folder that is named like a country.
    #[error("{0} holds no participant; `efgs init --dir DIR` writes DIR/pki")]
    Empty(PathBuf),
    /// A PEM file is missing or malformed.
    #[error("cannot read {path}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Signing certificate and key of a participant cannot be used.
    #[error("{country}")]
    Signer {
        /// The participant.
        country: Country,
        /// Why.
        source: SignerError,
    },
}

/// A certificate and its key, for TLS.
#[derive(Debug)]
pub struct Identity {
    /// The certificate and, if the file has more, its chain.
    pub chain: Vec<CertificateDer<'static>>,
    /// The private key.
    pub key: PrivateKeyDer<'static>,
}

/// A synthetic national backend.
#[derive(Debug)]
pub struct Participant {
    /// Its country, from the name of its folder.
    pub country: Country,
    /// Authenticates it to the gateway.
    pub authentication: Identity,
    /// Signs its uploads.
    pub signer: Signer,
}

/// Reads `PKI/CC/{authentication,signing}.{pem,key}` of every country, ordered by country.
///
/// # Errors
/// [`ParticipantsError`] names the first missing or malformed file or folder.
pub fn read(pki: &Path) -> Result<Vec<Participant>, ParticipantsError> {
    let folder = |source| ParticipantsError::Folder {
        path: pki.to_owned(),
        source,
    };
    let mut countries = Vec::new();
    for entry in fs::read_dir(pki).map_err(folder)? {
        let entry = entry.map_err(folder)?;
        let country = entry
            .file_name()
            .to_str()
            .and_then(|name| Country::parse(name).ok());
        if let Some(country) = country.filter(|_| entry.path().is_dir()) {
            countries.push((country, entry.path()));
        }
    }
    countries.sort();
    if countries.is_empty() {
        return Err(ParticipantsError::Empty(pki.to_owned()));
    }
    countries
        .iter()
        .map(|(country, folder)| read_participant(*country, folder))
        .collect()
}

/// Reads the certificate of the authority that issued the gateway's server certificate.
///
/// # Errors
/// When `PKI/server-ca.pem` is missing or malformed.
pub fn read_server_ca(pki: &Path) -> Result<CertificateDer<'static>, ParticipantsError> {
    let path = pki.join("server-ca.pem");
    CertificateDer::from_pem_file(&path).map_err(|source| ParticipantsError::Pem { path, source })
}

/// Reads the certificate of the trust anchor, in DER: `PKI/trust-anchor.pem`, or any other file.
///
/// # Errors
/// When the file is missing or malformed.
pub fn read_trust_anchor(path: &Path) -> Result<CertificateDer<'static>, ParticipantsError> {
    CertificateDer::from_pem_file(path).map_err(|source| ParticipantsError::Pem {
        path: path.to_owned(),
        source,
    })
}

fn read_participant(country: Country, folder: &Path) -> Result<Participant, ParticipantsError> {
    let signing = read_identity(folder, "signing")?;
    let signer = Signer::new(&signing.chain[0], signing.key.secret_der());
    Ok(Participant {
        country,
        authentication: read_identity(folder, "authentication")?,
        signer: signer.map_err(|source| ParticipantsError::Signer { country, source })?,
    })
}

/// Reads `FOLDER/NAME.pem` and `FOLDER/NAME.key`.
///
/// # Errors
/// When either is missing or malformed.
pub fn read_identity(folder: &Path, name: &str) -> Result<Identity, ParticipantsError> {
    let path = folder.join(format!("{name}.pem"));
    let chain = CertificateDer::pem_file_iter(&path)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .and_then(|chain| {
            if chain.is_empty() {
                Err(pem::Error::NoItemsFound)
            } else {
                Ok(chain)
            }
        })
        .map_err(|source| ParticipantsError::Pem { path, source })?;
    let path = folder.join(format!("{name}.key"));
    let key = PrivateKeyDer::from_pem_file(&path)
        .map_err(|source| ParticipantsError::Pem { path, source })?;
    Ok(Identity { chain, key })
}
