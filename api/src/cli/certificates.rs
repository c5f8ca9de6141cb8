//! `efgs cert`: the participants' certificates.

mod candidate;
mod renewal;

use std::path::PathBuf;

use anyhow::bail;
use clap::{Args, Subcommand};
use engine::admin::{Admin, CheckedList};
use engine::domain::{CertificateKind, Country, Thumbprint, UnixMillis};
use engine::pki::Certificate;
use engine::trust::{CertificateRow, ListedCertificate};
use engine::{Clock as _, SystemClock};
use serde::Serialize;

use super::config::ConfigArguments;
use super::output::{instant, say};
use candidate::days_left;
pub(super) use candidate::{Candidate, Signer, read_pem};
pub(super) use renewal::SignatureSource;
use renewal::{ResignArguments, SignRequestArguments};

pub(super) const GROUP_EXAMPLE: &str = "\
Examples: what is listed, and whether each row is as the operator signed it
  efgs cert list --config demo/efgs.toml
  efgs cert verify --config demo/efgs.toml";

#[derive(Debug, Subcommand)]
pub(super) enum CertCommand {
    Add(AddArguments),
    /// Show all listed certificates
    ///
    /// One row per line: country, kind, thumbprint, state, from, until, days left, subject.
    #[command(after_help = "Examples:\n  efgs cert list --config demo/efgs.toml\n  \
        efgs cert list --config demo/efgs.toml --json")]
    List(ListArguments),
    Resign(ResignArguments),
    Revoke(RevokeArguments),
    SignRequest(SignRequestArguments),
    Verify(VerifyArguments),
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
    #[arg(long, value_name = "CC")]
    country: Country,
    /// What the certificate is for: authentication, signing or callback
    #[arg(long, value_parser = parse_kind)]
    kind: CertificateKind,
    /// The certificate
    #[arg(long, value_name = "PEM")]
    certificate: PathBuf,
    #[command(flatten)]
    anchor_signature: AnchorSignature,
    /// If it is listed already, put this signature in place of its own, as after a change of the anchor
    #[arg(long)]
    replace: bool,
}

const ADD_EXAMPLE: &str = "\
Example: sign on another machine, add here
  openssl x509 -in from-de.pem -out de.pem
  openssl dgst -sha256 -sign trust-anchor.key de.pem | base64 -w0 > de.sig
  efgs cert add --config demo/efgs.toml --country DE --kind signing \\
    --certificate de.pem --signature de.sig";

/// Which form.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,
}

/// The operator's signature over a certificate, or the key to make it.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
struct AnchorSignature {
    /// File with the trust anchor's signature over the PEM file, in base64
    #[arg(long, value_name = "FILE")]
    signature: Option<PathBuf>,
    /// Folder with the trust anchor's signatures, as efgs cert sign-request makes it
    #[arg(long, value_name = "DIR")]
    signatures: Option<PathBuf>,
    /// Private key of the trust anchor, to sign now
    #[arg(long, value_name = "KEY")]
    trust_anchor_key: Option<PathBuf>,
}

/// Revoke a certificate; running gateways refuse it within 5 seconds
///
/// A revocation is undone by listing the same certificate again with efgs cert add.
#[derive(Debug, Args)]
#[command(after_help = "Example:\n  efgs cert revoke --config demo/efgs.toml \
    5de1809c416802b51df9e57fb38adba9f1408d807e2ede3c5d4d8bd8ffaa28aa")]
pub(super) struct RevokeArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// SHA-256 of the certificate's DER in hexadecimal digits, as efgs cert list or openssl x509
    /// -fingerprint -sha256 prints it, or its first 8 digits or more
    #[arg(value_parser = Digits::parse)]
    thumbprint: Digits,
}

/// Check the list against the trust anchor's signatures and this installation's digests
///
/// Every command that changes the list writes a digest over it, with a key derived from the key file;
/// gateways only use a list that matches its digest. This shows each row that something else has
/// changed, added or removed, and ends with status 1 if there is one, or if a signature of the trust
/// anchor is missing or wrong. Lists from before there were digests are shown as added.
#[derive(Debug, Args)]
#[command(after_help = "Example: look, and then accept what was shown\n  \
    efgs cert verify --config demo/efgs.toml\n  \
    efgs cert verify --config demo/efgs.toml --accept")]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Accept the list as it is shown: running gateways use it within 30 seconds
    #[arg(long)]
    accept: bool,
}

pub(super) fn run(command: &CertCommand) -> anyhow::Result<()> {
    match command {
        CertCommand::Add(arguments) => add(arguments),
        CertCommand::List(arguments) => list(arguments),
        CertCommand::Resign(arguments) => renewal::resign(arguments),
        CertCommand::Revoke(arguments) => revoke(arguments),
        CertCommand::SignRequest(arguments) => renewal::sign_request(arguments),
        CertCommand::Verify(arguments) => verify(arguments),
    }
}

fn parse_kind(text: &str) -> Result<CertificateKind, String> {
    let names = || CertificateKind::ALL.map(CertificateKind::name).join(", ");
    CertificateKind::from_name(text).ok_or_else(|| format!("a kind is one of {}", names()))
}

fn add(arguments: &AddArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let anchor = &arguments.anchor_signature;
    let signer = match (
        &anchor.signature,
        &anchor.signatures,
        &anchor.trust_anchor_key,
    ) {
        (Some(file), _, _) => Signer::File(file.clone()),
        (_, Some(folder), _) => Signer::Folder(folder.clone()),
        (_, _, Some(key)) => Signer::key(key)?,
        _ => bail!("name a --signature, --signatures or a --trust-anchor-key"),
    };
    let (country, kind) = (arguments.country, arguments.kind);
    let candidate = Candidate::read(country, kind, &arguments.certificate, &signer)?;
    let mut admin = Admin::open(&settings.database)?;
    candidate.list(&mut admin, &settings, arguments.replace)
}

/// A row of the list, with what its certificate says.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct ShownRow {
    country: String,
    kind: &'static str,
    thumbprint: String,
    /// `listed`, or `revoked` and when.
    state: String,
    /// Nothing of what cannot be read as a certificate.
    from: Option<String>,
    until: Option<String>,
    days_left: Option<i64>,
    subject: Option<String>,
}

impl ShownRow {
    pub(super) fn new(row: &CertificateRow, now: UnixMillis) -> Self {
        let der = Certificate::der_of_pem(&row.pem).unwrap_or_default();
        let certificate = Certificate::from_der(&der).ok();
        let certificate = certificate.as_ref();
        let validity = certificate.map(Certificate::validity);
        let date = |seconds: i64| {
            let seconds = u64::try_from(seconds).unwrap_or(0);
            instant(UnixMillis(seconds.saturating_mul(1000)))
        };
        Self {
            country: row.country.to_string(),
            kind: row.kind.name(),
            thumbprint: row.thumbprint.to_string(),
            state: match row.revoked_at {
                Some(at) => format!("revoked {}", instant(at)),
                None => "listed".to_owned(),
            },
            from: validity.as_ref().map(|validity| date(*validity.start())),
            until: validity.as_ref().map(|validity| date(*validity.end())),
            days_left: validity.and_then(|validity| days_left(*validity.end(), now)),
            subject: certificate.map(Certificate::subject),
        }
    }

    /// Until it ends; nothing of what cannot be read as a certificate.
    pub(super) const fn days_left(&self) -> Option<i64> {
        self.days_left
    }

    pub(super) fn line(&self, row: &CertificateRow) -> String {
        let line = line(row, &self.state);
        let (Some(from), Some(until), Some(days), Some(subject)) =
            (&self.from, &self.until, self.days_left, &self.subject)
        else {
            return format!("{line}  not a certificate");
        };
        format!("{line}  {from}  {until}  {days} days left  {subject}")
    }
}

fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let mut admin = Admin::open(&arguments.config.load()?.database)?;
    let (rows, now) = (admin.certificates()?, SystemClock.now());
    let shown: Vec<_> = rows.iter().map(|row| ShownRow::new(row, now)).collect();
    if arguments.json {
        return say(serde_json::to_string_pretty(&shown)?);
    }
    for (row, shown) in rows.iter().zip(&shown) {
        say(shown.line(row))?;
    }
    Ok(())
}

/// The first digits of a thumbprint, however they are written.
#[derive(Debug, Clone)]
struct Digits(String);

impl Digits {
    /// As OpenSSL prints it: in capitals, with colons, behind a name.
    fn parse(text: &str) -> Result<Self, String> {
        let digits = text.rsplit('=').next().unwrap_or(text).trim();
        let digits = digits.replace(':', "").to_ascii_lowercase();
        let is_hex = digits.bytes().all(|digit| digit.is_ascii_hexdigit());
        if is_hex && (8..=64).contains(&digits.len()) {
            return Ok(Self(digits));
        }
        Err("write 8 to 64 hexadecimal digits, with or without colons".to_owned())
    }

    /// The one thumbprint that begins so.
    fn resolve(&self, rows: &[CertificateRow]) -> anyhow::Result<Thumbprint> {
        let digits = &self.0;
        let begins = |thumbprint: &Thumbprint| thumbprint.to_string().starts_with(digits);
        let thumbprints = rows.iter().map(|row| row.thumbprint);
        let mut found: Vec<_> = thumbprints.filter(begins).collect();
        found.sort_unstable_by_key(|thumbprint| thumbprint.0);
        found.dedup();
        match found.as_slice() {
            [only] => Ok(*only),
            [] => bail!("no certificate with thumbprint {digits} is listed"),
            several => bail!(
                "{} listed certificates begin with {digits}: give more digits",
                several.len()
            ),
        }
    }
}

fn revoke(arguments: &RevokeArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let mut admin = Admin::open(&settings.database)?;
    let thumbprint = arguments.thumbprint.resolve(&admin.certificates()?)?;
    admin.revoke_certificate(&settings.keys()?, &thumbprint)?;
    say(format_args!("revoked {thumbprint}"))
}

fn verify(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let (keys, anchor) = (settings.keys()?, settings.trust_anchor_pem()?);
    let mut admin = Admin::open(&settings.database)?;
    let list = admin.check_certificates(&keys, &anchor)?;
    show(&list)?;
    let differences = differences(&list);
    if arguments.accept {
        admin.accept_certificates(&keys, &list)?;
        say("accepted: this is the certificate list from now on")?;
    } else if let Some(found) = differences {
        bail!("{found}; correct it, or accept the list as shown with efgs cert verify --accept");
    }
    let all = list.certificates.len();
    let listed = list.certificates.iter();
    let listed = listed.map(|certificate| &certificate.listed);
    let (revoked, in_force): (Vec<_>, Vec<_>) = listed
        .filter(|listed| !listed.is_intact())
        .partition(|listed| listed.is_revoked());
    match (in_force.len(), revoked.len()) {
        (0, 0) => say(format_args!(
            "{all} certificates, all signed by the trust anchor"
        )),
        (0, revoked) => say(format_args!(
            "{all} certificates; of the revoked ones, {revoked} are not signed by the trust anchor, so that \
             others cannot verify what their owners uploaded before: efgs cert resign signs them again"
        )),
        (broken, _) => bail!(
            "{broken} of {all} certificates are not as the operator listed them: revoke them, and list them again"
        ),
    }
}

fn show(list: &CheckedList) -> anyhow::Result<()> {
    let now = SystemClock.now();
    for certificate in &list.certificates {
        let mut state = state(&certificate.listed, now);
        if let Some(change) = certificate.change {
            state = format!("{state}; {}", change.to_string().to_uppercase());
        }
        say(line(&certificate.listed.row, &state))?;
    }
    for (thumbprint, kind) in &list.removed {
        say(format_args!(
            "--  {kind:<14}  {thumbprint}  REMOVED BY SOMETHING ELSE THAN EFGS"
        ))?;
    }
    for error in &list.unreadable {
        say(format_args!("--  not readable, not trusted: {error}"))?;
    }
    Ok(())
}

/// How the list differs from what `efgs` has written.
fn differences(list: &CheckedList) -> Option<String> {
    let changed = list.certificates.iter();
    let changed = changed.filter(|certificate| certificate.change.is_some());
    let rows = changed.count() + list.removed.len();
    match list.fault {
        None if rows == 0 => None,
        None => Some(format!(
            "the certificate list is as efgs has written it, but not the digests of {rows} rows"
        )),
        Some(fault) if rows == 0 => Some(format!(
            "gateways do not use this certificate list: {fault}, and no single row shows where: an \
             earlier state of a row, or of the list, was put back"
        )),
        Some(fault) => Some(format!(
            "gateways do not use this certificate list: {fault}, at {rows} rows"
        )),
    }
}

fn line(row: &CertificateRow, state: &str) -> String {
    let (country, kind, thumbprint) = (row.country, row.kind.name(), row.thumbprint);
    format!("{country}  {kind:<14}  {thumbprint}  {state}")
}

/// What the gateway makes of a certificate now.
fn state(certificate: &ListedCertificate, now: UnixMillis) -> String {
    let (begins, ends) = (certificate.not_before, certificate.not_after);
    match (certificate.row.revoked_at, certificate.fault) {
        (Some(at), None) => format!("revoked {}", instant(at)),
        (Some(at), Some(fault)) => format!("revoked {}; {fault}", instant(at)),
        (None, Some(fault)) => format!("NOT TRUSTED: {fault}"),
        _ if now < begins => format!("not valid before {}", instant(begins)),
        _ if now > ends => format!("expired {}", instant(ends)),
        _ => format!("valid until {}", instant(ends)),
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
            "revoked 1970-01-01T00:00:00Z; not signed by a trust anchor",
        );
        check(fault, None, 0, "NOT TRUSTED: not signed by a trust anchor");
    }
}
