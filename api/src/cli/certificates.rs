//! `efgs cert`: the participants' certificates.

use std::path::{Path, PathBuf};

use anyhow::{anyhow, bail};
use api::pem_text;
use clap::{Args, Subcommand};
use engine::admin::{Admin, CertificateError, canonical_pem, sign_with_trust_anchor};
use engine::domain::{CertificateKind, Country, Thumbprint, UnixMillis};
use engine::pki::Certificate;
use engine::trust::{CertificateRow, ListedCertificate};
use engine::{Clock as _, SystemClock};

use super::config::ConfigArguments;
use super::files::read;
use super::output::{instant, say};

pub(super) const GROUP_EXAMPLE: &str = "\
Examples: what is listed, and whether each row is as the operator signed it
  efgs cert list --config demo/efgs.toml
  efgs cert verify --config demo/efgs.toml";

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    Add(AddArguments),
    /// Show all listed certificates
    #[command(after_help = "Example:\n  efgs cert list --config demo/efgs.toml")]
    List(ConfigArguments),
    Revoke(RevokeArguments),
    /// Check every listed certificate against the trust anchor
    ///
    /// Ends with status 1 if the signature of one of them is missing or wrong.
    #[command(after_help = "Example:\n  efgs cert verify --config demo/efgs.toml")]
    Verify(ConfigArguments),
}

/// Add a certificate, so that its owner can connect, sign uploads or receive callbacks
///
/// The trust anchor signs the exact bytes of the PEM file, with RSA or ECDSA and SHA-256. The file
/// must be as `openssl x509` writes it; with --trust-anchor-key it is converted first. Running
/// gateways use it within 5 seconds.
#[derive(Debug, Args)]
#[command(after_help = ADD_EXAMPLE)]
pub(super) struct AddArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Country that the certificate belongs to
    #[arg(long, value_name = "CC", value_parser = Country::parse)]
    country: Country,
    /// What the certificate is for: authentication, signing or callback
    #[arg(long, value_parser = parse_kind)]
    kind: CertificateKind,
    /// The certificate
    #[arg(long, value_name = "PEM")]
    certificate: PathBuf,
    #[command(flatten)]
    anchor_signature: AnchorSignature,
}

const ADD_EXAMPLE: &str = "\
Example: sign on another machine, add here
  openssl x509 -in from-de.pem -out de.pem
  openssl dgst -sha256 -sign trust-anchor.key de.pem | base64 -w0 > de.sig
  efgs cert add --config demo/efgs.toml --country DE --kind signing \\
    --certificate de.pem --signature de.sig";

/// The operator's signature over a certificate, or the key to make it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AnchorSignature {
    /// File with the trust anchor's signature over the PEM file, in base64
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Private key of the trust anchor, to sign now
    #[arg(long, value_name = "KEY")]
    trust_anchor_key: Option<PathBuf>,
}

/// Revoke a certificate; running gateways refuse it within 5 seconds
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  efgs cert revoke --config demo/efgs.toml \
    5de1809c416802b51df9e57fb38adba9f1408d807e2ede3c5d4d8bd8ffaa28aa")]
pub(super) struct RevokeArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// SHA-256 of the certificate's DER, as 64 hexadecimal digits
    #[arg(value_parser = Thumbprint::parse_hex)]
    thumbprint: Thumbprint,
}

pub(super) fn run(command: &CertCommand) -> anyhow::Result<()> {
    match command {
        CertCommand::Add(arguments) => add(arguments),
        CertCommand::List(config) => list(config),
        CertCommand::Revoke(arguments) => revoke(arguments),
        CertCommand::Verify(config) => verify(config),
    }
}

fn parse_kind(text: &str) -> Result<CertificateKind, String> {
    let names = || CertificateKind::ALL.map(CertificateKind::name).join(", ");
    CertificateKind::from_name(text).ok_or_else(|| format!("a kind is one of {}", names()))
}

fn add(arguments: &AddArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let anchor = settings.trust_anchor_pem()?;
    let file = &arguments.certificate;
    let cannot = |error| cannot_list(file, &error);
    let pem = read_pem(file)?;
    let (pem, signature) = match (
        &arguments.anchor_signature.signature,
        &arguments.anchor_signature.trust_anchor_key,
    ) {
        (Some(signature), _) => (pem, read(signature)?.trim().to_owned()),
        (None, Some(key)) => {
            let pem = canonical_pem(&pem).map_err(cannot)?;
            let signature = sign_with_trust_anchor(&read_pem(key)?, &pem)?;
            (pem, signature)
        }
        (None, None) => bail!("name a --signature or a --trust-anchor-key"),
    };
    let (country, kind) = (arguments.country, arguments.kind);
    check_use(&pem, kind, SystemClock.now())
        .map_err(|why| anyhow!("cannot list {}: {why}", file.display()))?;
    let mut admin = Admin::open(&settings.database)?;
    let added = admin.add_certificate(&anchor, country, kind, &pem, &signature);
    let thumbprint = added.map_err(cannot)?;
    if kind != CertificateKind::Signing && !is_for_tls(&pem) {
        say(
            "note: TLS has no use for a key of this kind: its owner can only come through a proxy",
        )?;
    }
    say(format_args!(
        "listed {country} {} {thumbprint}",
        kind.name()
    ))
}

/// Reads a PEM file.
fn read_pem(path: &Path) -> anyhow::Result<String> {
    let text = read(path)?;
    match pem_text::obstacle(&text) {
        Some(obstacle) => bail!("cannot use {}: it {obstacle}", path.display()),
        None => Ok(text),
    }
}

/// Refuses what the gateway would refuse at each request. What is no certificate is told elsewhere.
fn check_use(pem: &str, kind: CertificateKind, now: UnixMillis) -> anyhow::Result<()> {
    let der = Certificate::der_of_pem(pem).unwrap_or_default();
    let Ok(certificate) = Certificate::from_der(&der) else {
        return Ok(());
    };
    let ends = u64::try_from(*certificate.validity().end()).unwrap_or(0);
    if ends < now.seconds() {
        let ended = instant(UnixMillis(ends.saturating_mul(1000)));
        bail!("it expired {ended}: ask its owner for a new one");
    }
    if kind == CertificateKind::Signing {
        certificate.check_signing_key()?;
    }
    Ok(())
}

fn cannot_list(file: &Path, error: &CertificateError) -> anyhow::Error {
    let file = file.display();
    match error {
        CertificateError::NotCanonical => anyhow!(
            "cannot list {file}: {error}; write it again with openssl x509 -in {file} -out NEW, and \
             have NEW signed"
        ),
        _ => anyhow!("cannot list {file}: {error}"),
    }
}

/// Whether a handshake can prove the key: RSA, Ed25519, and P-256, P-384 and P-521 by their names.
fn is_for_tls(pem: &str) -> bool {
    let der = Certificate::der_of_pem(pem).unwrap_or_default();
    let certificate = Certificate::from_der(&der).ok();
    let key = certificate.and_then(|certificate| certificate.subject_key());
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let mut algorithms = provider.signature_verification_algorithms.all.iter();
    key.is_some_and(|key| {
        algorithms.any(|algorithm| algorithm.public_key_alg_id().as_ref() == key.algorithm)
    })
}

fn list(config: &ConfigArguments) -> anyhow::Result<()> {
    let mut admin = Admin::open(&config.load()?.database)?;
    for row in admin.certificates()? {
        let state = match row.revoked_at {
            Some(at) => format!("revoked {}", instant(at)),
            None => "listed".to_owned(),
        };
        say(line(&row, &state))?;
    }
    Ok(())
}

fn revoke(arguments: &RevokeArguments) -> anyhow::Result<()> {
    let mut admin = Admin::open(&arguments.config.load()?.database)?;
    admin.revoke_certificate(&arguments.thumbprint)?;
    say(format_args!("revoked {}", arguments.thumbprint))
}

fn verify(config: &ConfigArguments) -> anyhow::Result<()> {
    let settings = config.load()?;
    let anchor = settings.trust_anchor_pem()?;
    let mut admin = Admin::open(&settings.database)?;
    let listed = admin.listed_certificates(&anchor)?;
    let now = SystemClock.now();
    for certificate in &listed {
        say(line(&certificate.row, &state(certificate, now)))?;
    }
    let broken = listed.iter().filter(|certificate| !certificate.is_intact());
    match broken.count() {
        0 => say(format_args!(
            "{} certificates, all signed by the trust anchor",
            listed.len()
        )),
        broken => bail!(
            "{broken} of {} certificates are not as the operator listed them: revoke them, and list them again",
            listed.len()
        ),
    }
}

fn line(row: &CertificateRow, state: &str) -> String {
    let (country, kind, thumbprint) = (row.country, row.kind.name(), row.thumbprint);
    format!("{country}  {kind:<14}  {thumbprint}  {state}")
}

/// What the gateway makes of a certificate now.
fn state(certificate: &ListedCertificate, now: UnixMillis) -> String {
    let (begins, ends) = (certificate.not_before, certificate.not_after);
    if let Some(fault) = certificate.fault {
        return format!("NOT TRUSTED: {fault}");
    }
    match certificate.row.revoked_at {
        Some(at) => format!("revoked {}", instant(at)),
        None if now < begins => format!("not valid before {}", instant(begins)),
        None if now > ends => format!("expired {}", instant(ends)),
        None => format!("valid until {}", instant(ends)),
    }
}

#[cfg(test)]
mod tests {
    use engine::trust::RowFault;

    use super::*;

    #[test]
    fn says_what_the_gateway_makes_of_a_certificate() {
        let check = |fault, revoked_at, now, expected| {
            let certificate = ListedCertificate {
                row: CertificateRow {
                    thumbprint: Thumbprint([0xab; 32]),
                    country: Country::parse("DE").unwrap(),
                    kind: CertificateKind::Signing,
                    pem: "".into(),
                    operator_signature: "".into(),
                    revoked_at,
                },
                not_before: UnixMillis(1_000_000),
                not_after: UnixMillis(1_602_028_800_000),
                fault,
            };
            assert_eq!(state(&certificate, UnixMillis(now)), expected);
            assert!(line(&certificate.row, "x").starts_with("DE  signing         abab"));
        };
        check(None, None, 2_000_000, "valid until 2020-10-07T00:00:00Z");
        check(
            None,
            None,
            1_602_028_800_001,
            "expired 2020-10-07T00:00:00Z",
        );
        check(None, None, 0, "not valid before 1970-01-01T00:16:40Z");
        check(None, Some(UnixMillis(0)), 0, "revoked 1970-01-01T00:00:00Z");
        let fault = Some(RowFault::OperatorSignature);
        check(
            fault,
            Some(UnixMillis(0)),
            0,
            "NOT TRUSTED: not signed by the trust anchor",
        );
    }
}
