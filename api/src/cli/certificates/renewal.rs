//! Signatures of the trust anchor, made where its key is, and made again when another anchor takes
//! its place.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, anyhow, bail};
use clap::Args;
use engine::admin::{Admin, NewCertificate, canonical_pem, sign_with_trust_anchor};
use engine::trust::CertificateRow;

use super::candidate::{read_pem, thumbprint};
use crate::cli::config::ConfigArguments;
use crate::cli::files::{Readable, make_folder, read, write};
use crate::cli::output::say;

/// Put signatures of another trust anchor in place of those that all listed certificates have
///
/// For a change of the trust anchor without a moment in which a certificate is not trusted: add the new
/// anchor's certificate to the file of `[trust_anchor] certificate`, which may hold several, on all
/// gateways (they read it again within 10 seconds, or on SIGHUP); run this; then remove the old
/// certificate from the file. Revoked certificates stay revoked, and are signed again as well: audits show
/// them for what their owners uploaded before. Nothing is changed unless all new signatures are good.
#[derive(Debug, Args)]
#[command(after_help = RESIGN_EXAMPLE)]
pub(in crate::cli) struct ResignArguments {
    #[command(flatten)]
    config: ConfigArguments,
    #[command(flatten)]
    source: SignatureSource,
}

const RESIGN_EXAMPLE: &str = "\
Examples: with the key at hand, or with signatures made elsewhere
  efgs cert resign --config demo/efgs.toml --trust-anchor-key new-anchor.key
  efgs cert sign-request --config demo/efgs.toml --out requests
  efgs cert resign --config demo/efgs.toml --signatures requests";

/// The trust anchor's signatures, or the key to make them.
#[derive(Debug, Args)]
#[group(required = true, multiple = false)]
pub(in crate::cli) struct SignatureSource {
    /// Folder with the trust anchor's signatures, one file THUMBPRINT.sig per certificate, in base64
    #[arg(long, value_name = "DIR")]
    pub(in crate::cli) signatures: Option<PathBuf>,
    /// Private key of the trust anchor, to sign now
    #[arg(long, value_name = "KEY")]
    pub(in crate::cli) trust_anchor_key: Option<PathBuf>,
}

/// Write what the trust anchor is to sign, for a machine that has its key
///
/// Writes each certificate as THUMBPRINT.pem, in the form that is signed, and sign.sh, which signs them
/// all with openssl. Take the folder to the machine with the key, run the script there, bring the folder
/// back, and name it with --signatures to efgs participant add or efgs cert resign.
#[derive(Debug, Args)]
#[command(after_help = REQUEST_EXAMPLE)]
pub(in crate::cli) struct SignRequestArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Certificate to be signed; may be repeated. Without it, all listed ones, revoked ones included
    #[arg(long = "certificate", value_name = "PEM")]
    certificates: Vec<PathBuf>,
    /// Folder to write to
    #[arg(long, value_name = "DIR")]
    out: PathBuf,
}

const REQUEST_EXAMPLE: &str = "\
Example: before a country is added
  efgs cert sign-request --certificate de-auth.pem --certificate de-sign.pem --out requests
  (there) sh requests/sign.sh trust-anchor.key
  efgs participant add DE --signatures requests --authentication de-auth.pem --signing de-sign.pem";

/// Signs each request beside it.
const SIGN_SH: &str = "\
#!/bin/sh
# Signs every certificate in this folder with the trust anchor's key: sh sign.sh trust-anchor.key
set -eu
[ $# -eq 1 ] || { echo \"usage: sh sign.sh trust-anchor.key\" >&2; exit 2; }
folder=$(dirname \"$0\")
for pem in \"$folder\"/*.pem; do
    openssl x509 -in \"$pem\" -noout -subject
    openssl dgst -sha256 -sign \"$1\" \"$pem\" | openssl base64 -A >\"${pem%.pem}.sig\"
done
";

pub(super) fn sign_request(arguments: &SignRequestArguments) -> anyhow::Result<()> {
    let out = &arguments.out;
    let pems = match arguments.certificates.as_slice() {
        [] => listed(&arguments.config)?,
        files => files
            .iter()
            .map(|file| canonical(file))
            .collect::<Result<_, _>>()?,
    };
    if pems.is_empty() {
        bail!("no certificate is listed: name files with --certificate");
    }
    if fs::read_dir(out).is_ok_and(|mut files| files.next().is_some()) {
        bail!(
            "{} is not empty, and sign.sh signs all certificates in its folder: name a new folder",
            out.display()
        );
    }
    make_folder(out)?;
    for pem in &pems {
        let file = out.join(format!("{}.pem", thumbprint(pem)?));
        write(&file, pem, Readable::All)?;
    }
    write(&out.join("sign.sh"), SIGN_SH, Readable::All)?;
    say(format_args!(
        "{} certificates to sign in {}: on the machine with the trust anchor's key, run sh sign.sh KEY in it",
        pems.len(),
        out.display()
    ))
}

fn listed(config: &ConfigArguments) -> anyhow::Result<Vec<String>> {
    let mut admin = Admin::open(&config.load()?.database)?;
    let rows = admin.certificates()?.into_iter();
    let mut pems: Vec<_> = rows.map(|row| row.pem.to_string()).collect();
    pems.sort();
    pems.dedup();
    Ok(pems)
}

fn canonical(file: &Path) -> anyhow::Result<String> {
    let pem = canonical_pem(&read_pem(file)?);
    pem.map_err(|error| anyhow!("cannot use {}: {error}", file.display()))
}

pub(super) fn resign(arguments: &ResignArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let (keys, anchor) = (settings.keys()?, settings.trust_anchor_pem()?);
    let sign = signer(&arguments.source)?;
    let mut admin = Admin::open(&settings.database)?;
    let rows = admin.certificates()?;
    let signatures = rows.iter().map(|row| {
        let signature = sign(row)?;
        Admin::check_certificate(&anchor, &new(row, &signature))
            .with_context(|| format!("nothing is signed again: {}", name(row)))?;
        Ok(signature)
    });
    let signatures = signatures.collect::<anyhow::Result<Vec<_>>>()?;
    for (row, signature) in rows.iter().zip(&signatures) {
        let replaced = admin.resign_certificate(&keys, &anchor, &new(row, signature));
        replaced.with_context(|| name(row))?;
    }
    say(format_args!("signed {} certificates again", rows.len()))
}

/// How a row gets its signature.
type Sign = Box<dyn Fn(&CertificateRow) -> anyhow::Result<String>>;

fn signer(source: &SignatureSource) -> anyhow::Result<Sign> {
    match (&source.signatures, &source.trust_anchor_key) {
        (Some(folder), _) => {
            let folder = fs::canonicalize(folder)
                .with_context(|| format!("cannot use the folder {}", folder.display()))?;
            Ok(Box::new(move |row| {
                let file = folder.join(format!("{}.sig", row.thumbprint));
                Ok(read(&file)?.trim().to_owned())
            }))
        }
        (None, Some(key)) => {
            let key = read_pem(key)?;
            Ok(Box::new(move |row| {
                Ok(sign_with_trust_anchor(&key, &row.pem)?)
            }))
        }
        (None, None) => bail!("name --signatures or a --trust-anchor-key"),
    }
}

fn new<'a>(row: &'a CertificateRow, signature: &'a str) -> NewCertificate<'a> {
    NewCertificate {
        country: row.country,
        kind: row.kind,
        pem: &row.pem,
        operator_signature: signature,
    }
}

fn name(row: &CertificateRow) -> String {
    format!("{} {} {}", row.country, row.kind.name(), row.thumbprint)
}
