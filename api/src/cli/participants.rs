//! `efgs participant`: a country as a whole, with its certificates and subscriptions.

mod hand_over;

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::{anyhow, bail};
use clap::{Args, Subcommand};
use engine::admin::Admin;
use engine::callbacks::SubscriptionState;
use engine::domain::{CertificateKind, Country};
use engine::trust::CertificateRow;
use engine::{Clock as _, SystemClock};
use serde::Serialize;

use super::certificates::{Candidate, ShownRow, SignatureSource, Signer};
use super::config::ConfigArguments;
use super::output::say;
use hand_over::HandOver;

pub(super) const GROUP_EXAMPLE: &str = "\
Example: who takes part, and until when
  efgs participant list --config demo/efgs.toml";

#[derive(Debug, Subcommand)]
pub(super) enum ParticipantCommand {
    Add(AddArguments),
    /// Show all participants
    ///
    /// One line per country: valid certificates by kind, days until the first of them ends, callback
    /// subscriptions.
    #[command(
        after_help = "Examples:\n  efgs participant list --config demo/efgs.toml\n  \
        efgs participant list --config demo/efgs.toml --json"
    )]
    List(ListArguments),
    /// Show one participant: its certificates, its callback subscriptions, its uploads of the last week
    #[command(after_help = "Example:\n  efgs participant show --config demo/efgs.toml DE")]
    Show(Named),
    Remove(RemoveArguments),
}

/// Add a country: list its certificates, and write what it needs to connect
///
/// Nothing is listed unless all certificates and signatures are good. Certificates that are listed
/// already stay, so the command may be repeated. The folder is for the country: README.txt with the
/// address, the thumbprints and the first request, the CA if one is named, the trust anchor, and the
/// protocol's schema.
#[derive(Debug, Args)]
#[command(after_help = ADD_EXAMPLE)]
pub(super) struct AddArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The country
    #[arg(value_name = "CC", value_parser = Country::parse)]
    country: Country,
    /// Certificate with which it connects
    #[arg(long, value_name = "PEM")]
    authentication: PathBuf,
    /// Certificate with which it signs uploads
    #[arg(long, value_name = "PEM")]
    signing: PathBuf,
    /// Certificate of the server that receives callbacks, if it has one
    #[arg(long, value_name = "PEM")]
    callback: Option<PathBuf>,
    #[command(flatten)]
    source: SignatureSource,
    /// Where the country reaches the gateway, as efgs.example.eu or efgs.example.eu:8443
    #[arg(long, value_name = "HOST[:PORT]", value_parser = hand_over::parse_address)]
    address: String,
    /// Certificate of the CA that issued the gateway's TLS certificate, if clients do not know it
    #[arg(long, value_name = "PEM")]
    ca: Option<PathBuf>,
    /// Folder to write for the country; efgs-for-CC if not given
    #[arg(long, value_name = "DIR")]
    hand_over: Option<PathBuf>,
}

const ADD_EXAMPLE: &str = "\
Example: with the trust anchor's key at hand; efgs cert sign-request says how without it
  efgs participant add --config demo/efgs.toml DE --authentication auth.pem --signing sign.pem \\
    --trust-anchor-key demo/pki/trust-anchor.key --address efgs.example.eu --ca demo/pki/server-ca.pem";

/// Which form.
#[derive(Debug, Args)]
pub(super) struct ListArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Print JSON: an array of objects
    #[arg(long)]
    json: bool,
}

/// Which country.
#[derive(Debug, Args)]
pub(super) struct Named {
    #[command(flatten)]
    config: ConfigArguments,
    /// The country
    #[arg(value_name = "CC", value_parser = Country::parse)]
    country: Country,
}

/// Remove a country: revoke all its certificates, and remove its callback subscriptions
///
/// Running gateways refuse it within 5 seconds. What it has uploaded stays: others download it until it
/// is too old (efgs db withdraw takes an upload back). Listing the same certificates again undoes the
/// revocations.
#[derive(Debug, Args)]
#[command(
    after_help = "Examples:\n  efgs participant remove --config demo/efgs.toml --dry-run DE\n  \
    efgs participant remove --config demo/efgs.toml DE"
)]
pub(super) struct RemoveArguments {
    #[command(flatten)]
    named: Named,
    /// Only show what would be revoked and removed
    #[arg(long)]
    dry_run: bool,
}

pub(super) fn run(command: &ParticipantCommand) -> anyhow::Result<()> {
    match command {
        ParticipantCommand::Add(arguments) => add(arguments),
        ParticipantCommand::List(arguments) => list(arguments),
        ParticipantCommand::Show(named) => show(named),
        ParticipantCommand::Remove(arguments) => remove(arguments),
    }
}

fn add(arguments: &AddArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let signer = match (
        &arguments.source.signatures,
        &arguments.source.trust_anchor_key,
    ) {
        (Some(folder), _) => Signer::Folder(folder.clone()),
        (None, Some(key)) => Signer::key(key)?,
        (None, None) => bail!("name --signatures or a --trust-anchor-key"),
    };
    let files = [
        (
            CertificateKind::Authentication,
            Some(&arguments.authentication),
        ),
        (CertificateKind::Signing, Some(&arguments.signing)),
        (CertificateKind::Callback, arguments.callback.as_ref()),
    ];
    let files = files
        .into_iter()
        .filter_map(|(kind, file)| Some((kind, file?)));
    let country = arguments.country;
    let candidates = files.map(|(kind, file)| Candidate::read(country, kind, file, &signer));
    let candidates = candidates.collect::<anyhow::Result<Vec<_>>>()?;
    let mut admin = Admin::open(&settings.database)?;
    let known = admin.certificates()?;
    let mut hand_over = HandOver::new(
        country,
        &arguments.address,
        arguments.ca.as_deref(),
        settings.trust_anchor_pem()?,
    )?;
    let mut new = Vec::new();
    for candidate in &candidates {
        let (kind, thumbprint) = (candidate.kind(), candidate.check(&settings)?);
        hand_over.add(kind, thumbprint);
        let is_listed = |row: &CertificateRow| {
            (row.thumbprint, row.kind) == (thumbprint, kind) && row.revoked_at.is_none()
        };
        match known.iter().any(is_listed) {
            true => say(format_args!(
                "listed already: {country} {} {thumbprint}",
                kind.name()
            ))?,
            false => new.push(candidate),
        }
    }
    for candidate in new {
        candidate.list(&mut admin, &settings, false)?;
    }
    let folder = arguments.hand_over.clone();
    let folder = folder.unwrap_or_else(|| PathBuf::from(format!("efgs-for-{country}")));
    hand_over.write(&folder)?;
    say(format_args!(
        "next: send the folder {} to {country}; it has no secrets",
        folder.display()
    ))
}

/// A participant in one line.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Summary {
    country: String,
    authentication: usize,
    signing: usize,
    callback: usize,
    /// Until the first of its valid certificates ends, in days; nothing if it has none.
    days_left: Option<i64>,
    subscriptions: usize,
}

impl Summary {
    fn new(country: Country, rows: &[&CertificateRow], subscriptions: usize) -> Self {
        let now = SystemClock.now();
        let valid = rows.iter().filter(|row| row.revoked_at.is_none());
        let valid = valid.map(|row| (row.kind, ShownRow::new(row, now).days_left()));
        let valid: Vec<_> = valid
            .filter(|(_, days)| days.is_some_and(|days| days >= 0))
            .collect();
        let count = |kind| valid.iter().filter(|(found, _)| *found == kind).count();
        Self {
            country: country.to_string(),
            authentication: count(CertificateKind::Authentication),
            signing: count(CertificateKind::Signing),
            callback: count(CertificateKind::Callback),
            days_left: valid.iter().filter_map(|(_, days)| *days).min(),
            subscriptions,
        }
    }

    fn line(&self) -> String {
        let days = match self.days_left {
            Some(days) => format!("first ends in {days} days"),
            None => "none valid".to_owned(),
        };
        format!(
            "{}  authentication {}  signing {}  callback {}  {days}  subscriptions {}",
            self.country, self.authentication, self.signing, self.callback, self.subscriptions
        )
    }
}

fn list(arguments: &ListArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let mut admin = Admin::open(&settings.database)?;
    let rows = admin.certificates()?;
    let mut by_country: BTreeMap<Country, Vec<&CertificateRow>> = BTreeMap::new();
    for row in &rows {
        by_country.entry(row.country).or_default().push(row);
    }
    let states = subscriptions(&mut admin, settings.download().max_age_days)?;
    let summaries = by_country.iter().map(|(country, rows)| {
        let own = states.iter().filter(|state| state.country == *country);
        Summary::new(*country, rows, own.count())
    });
    let summaries: Vec<_> = summaries.collect();
    if arguments.json {
        return say(serde_json::to_string_pretty(&summaries)?);
    }
    summaries.iter().map(Summary::line).try_for_each(say)
}

fn subscriptions(admin: &mut Admin, max_age_days: u32) -> anyhow::Result<Vec<SubscriptionState>> {
    Ok(admin.subscriptions(SystemClock.now().day(), max_age_days)?)
}

fn show(named: &Named) -> anyhow::Result<()> {
    let settings = named.config.load()?;
    let mut admin = Admin::open(&settings.database)?;
    let rows = certificates_of(&mut admin, named.country)?;
    for row in &rows {
        say(ShownRow::new(row, SystemClock.now()).line(row))?;
    }
    let states = subscriptions(&mut admin, settings.download().max_age_days)?;
    for state in states.iter().filter(|state| state.country == named.country) {
        say(super::callbacks::line(state))?;
    }
    let today = SystemClock.now().day();
    let mut days = admin.statistics(today.minus_days(6), today)?.days;
    days.retain(|day| day.country == named.country);
    say(super::stats::day_table(&days).trim_end())
}

fn certificates_of(admin: &mut Admin, country: Country) -> anyhow::Result<Vec<CertificateRow>> {
    let mut rows = admin.certificates()?;
    rows.retain(|row| row.country == country);
    match rows.is_empty() {
        true => Err(anyhow!(
            "{country} does not take part: efgs participant list shows who does"
        )),
        false => Ok(rows),
    }
}

fn remove(arguments: &RemoveArguments) -> anyhow::Result<()> {
    let Named { config, country } = &arguments.named;
    let settings = config.load()?;
    let mut admin = Admin::open(&settings.database)?;
    let rows = certificates_of(&mut admin, *country)?;
    let (keys, would) = (
        settings.keys()?,
        if arguments.dry_run { "would be " } else { "" },
    );
    for row in rows.iter().filter(|row| row.revoked_at.is_none()) {
        if !arguments.dry_run {
            admin.revoke_certificate(&keys, &row.thumbprint)?;
        }
        let kind = row.kind.name();
        say(format_args!(
            "{would}revoked {country} {kind} {}",
            row.thumbprint
        ))?;
    }
    let states = subscriptions(&mut admin, settings.download().max_age_days)?;
    for state in states.iter().filter(|state| state.country == *country) {
        if !arguments.dry_run {
            admin.remove_subscription(*country, &state.callback_id)?;
        }
        say(format_args!(
            "{would}removed {country} {}",
            state.callback_id
        ))?;
    }
    Ok(())
}
