//! Batch signatures of a national backend: with a key in a file, or by a command that has the key.
//!
//! A command reaches every HSM: `openssl cms -sign` with a PKCS#11 provider, a vendor's tool, a signing
//! service behind curl. PKCS#12 is not read: the crates that do bring a second crypto library, and
//! `openssl pkcs12 -in FILE -nodes` writes PEM.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::clock::{Clock as _, SystemClock};
use rustls_pki_types::pem::{self, PemObject as _};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use testkit::signer::{Encoding, Signer, SignerError};

/// How an RSA key signs. The reference server refuses PSS; our gateway takes it from participants that
/// its operator lists.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum RsaScheme {
    /// PKCS#1 v1.5, which every gateway and every verifier takes.
    #[default]
    Pkcs1,
    /// RSA-PSS.
    Pss,
}

/// Why batches cannot be signed.
#[derive(Debug, thiserror::Error)]
pub enum SigningError {
    /// A PEM file cannot be read.
    #[error("cannot read {path}")]
    Pem {
        /// The file.
        path: PathBuf,
        /// Why.
        source: pem::Error,
    },
    /// Certificate and key cannot be used.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// They do not belong together.
    #[error("the signing key is not that of the signing certificate")]
    OtherKey,
    /// The command cannot be run.
    #[error("cannot run the signing command")]
    Command(#[from] std::io::Error),
    /// The command has failed.
    #[error("the signing command failed: {0}")]
    Failed(String),
    /// The command has written neither a CMS in DER nor one in base64.
    #[error("the signing command wrote neither DER nor base64 to its standard output")]
    Output,
}

/// Makes batch signatures: detached CMS over the canonical bytes (wire §9 and §10), SHA-256.
#[derive(Debug)]
pub enum BatchSigner {
    /// With a key of this process.
    Key(Box<Signer>),
    /// By a command: canonical bytes on its standard input, the signature in DER or base64 on its
    /// standard output.
    Command {
        /// The program.
        program: PathBuf,
        /// Its arguments.
        arguments: Vec<String>,
    },
}

impl BatchSigner {
    /// With PEM files: a certificate, and an RSA key from 2048 bits or one on P-256, in PKCS#8, PKCS#1
    /// or SEC 1.
    ///
    /// # Errors
    /// [`SigningError`] when a file cannot be read or the two do not belong together.
    pub fn from_files(
        certificate: &Path,
        private_key: &Path,
        scheme: RsaScheme,
    ) -> Result<Self, SigningError> {
        let pem = |path: &Path| {
            let path = path.to_owned();
            |source| SigningError::Pem { path, source }
        };
        let der = CertificateDer::from_pem_file(certificate).map_err(pem(certificate))?;
        let key = PrivateKeyDer::from_pem_file(private_key).map_err(pem(private_key))?;
        let signer = Signer::new(&der, key.secret_der())?;
        if !signer.is_consistent() {
            return Err(SigningError::OtherKey);
        }
        let signer = match scheme {
            RsaScheme::Pkcs1 => signer,
            RsaScheme::Pss => signer.with_pss()?,
        };
        Ok(Self::Key(Box::new(signer)))
    }

    /// The signature over these bytes, in base64 on one line: the header `batchSignature`. Blocks while
    /// a command runs.
    ///
    /// # Errors
    /// [`SigningError`] when the command fails.
    pub fn sign(&self, canonical_bytes: &[u8]) -> Result<String, SigningError> {
        match self {
            Self::Key(signer) => {
                Ok(signer.sign_base64(canonical_bytes, SystemClock.now(), Encoding::Der))
            }
            Self::Command { program, arguments } => {
                read_signature(&run(program, arguments, canonical_bytes)?)
            }
        }
    }
}

fn run(program: &Path, arguments: &[String], input: &[u8]) -> Result<Vec<u8>, SigningError> {
    let mut child = Command::new(program)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_vec();
    // Beside reading its output: a command may write before it has read everything. That it has not
    // read to the end shows in its output.
    let writer = std::thread::spawn(move || stdin.write_all(&input).ok());
    let output = child.wait_with_output()?;
    let _ = writer.join();
    if output.status.success() {
        return Ok(output.stdout);
    }
    let said = String::from_utf8_lossy(&output.stderr);
    let said = said.trim().lines().last().unwrap_or_default();
    Err(SigningError::Failed(format!("{}; {said}", output.status)))
}

/// DER begins with a SEQUENCE, which base64 cannot.
fn read_signature(output: &[u8]) -> Result<String, SigningError> {
    const SEQUENCE: u8 = 0x30;
    let text: String = String::from_utf8_lossy(output)
        .split_ascii_whitespace()
        .collect();
    match STANDARD.decode(&text) {
        Ok(der) if der.first() == Some(&SEQUENCE) => Ok(text),
        _ if output.first() == Some(&SEQUENCE) => Ok(STANDARD.encode(output)),
        _ => Err(SigningError::Output),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::signature::{Content, SigningCertificate};

    const SIGNED: &[u8] = b"canonical";

    /// Makes a key and its certificate with OpenSSL.
    fn identity(folder: &Path, kind: &str) -> (PathBuf, PathBuf) {
        let (pem, key) = (folder.join("c.pem"), folder.join("c.key"));
        let made = Command::new("openssl")
            .args([
                "req",
                "-x509",
                "-nodes",
                "-subj",
                "/C=DE/CN=x",
                "-days",
                "2",
            ])
            .args(["-newkey", kind])
            .args(
                ["-pkeyopt", "ec_paramgen_curve:P-256"]
                    .iter()
                    .filter(|_| kind == "ec"),
            )
            .arg("-keyout")
            .arg(&key)
            .arg("-out")
            .arg(&pem)
            .output();
        assert!(made.expect("openssl is installed").status.success());
        (pem, key)
    }

    fn check(pem: &Path, signer: &BatchSigner) {
        let signature = STANDARD.decode(signer.sign(SIGNED).unwrap()).unwrap();
        let der = CertificateDer::from_pem_file(pem).unwrap();
        let certificate = SigningCertificate::from_der(&der).unwrap();
        assert_eq!(
            certificate.check(&signature, Content::Bytes(SIGNED)),
            Ok(())
        );
        assert!(
            certificate
                .check(&signature, Content::Bytes(b"other"))
                .is_err()
        );
    }

    #[test]
    fn signs_with_rsa_pss_and_p256_and_by_a_command() {
        let folder = tempfile::tempdir().unwrap();
        let (pem, key) = identity(folder.path(), "rsa:2048");
        check(
            &pem,
            &BatchSigner::from_files(&pem, &key, RsaScheme::Pkcs1).unwrap(),
        );
        check(
            &pem,
            &BatchSigner::from_files(&pem, &key, RsaScheme::Pss).unwrap(),
        );
        let other = tempfile::tempdir().unwrap();
        let (ec_pem, ec_key) = identity(other.path(), "ec");
        check(
            &ec_pem,
            &BatchSigner::from_files(&ec_pem, &ec_key, RsaScheme::Pkcs1).unwrap(),
        );
        let mixed = BatchSigner::from_files(&pem, &ec_key, RsaScheme::Pkcs1);
        assert!(matches!(mixed, Err(SigningError::OtherKey)), "{mixed:?}");
        let pss = BatchSigner::from_files(&ec_pem, &ec_key, RsaScheme::Pss);
        assert!(
            matches!(pss, Err(SigningError::Signer(SignerError::NotRsa))),
            "{pss:?}"
        );

        let openssl = format!(
            "openssl cms -sign -binary -md sha256 -signer {} -inkey {} -outform DER",
            pem.display(),
            key.display()
        );
        for shell in [openssl.clone(), format!("{openssl} | base64")] {
            check(&pem, &command(&shell));
        }
        let failed = command("echo no token >&2; exit 3")
            .sign(SIGNED)
            .unwrap_err();
        assert!(failed.to_string().contains("no token"), "{failed}");
        assert!(matches!(
            command("echo x").sign(SIGNED),
            Err(SigningError::Output)
        ));
    }

    fn command(shell: &str) -> BatchSigner {
        BatchSigner::Command {
            program: "sh".into(),
            arguments: vec!["-c".to_owned(), shell.to_owned()],
        }
    }
}
