//! `efgs db verify`: whether the database holds what gateways have stored.

use std::io::{self, IsTerminal as _};

use anyhow::bail;
use clap::Args;
use engine::admin::{Admin, Finding, Progress, Verification, Verified};
use engine::domain::Day;
use indicatif::{ProgressBar, ProgressStyle};

use super::config::ConfigArguments;
use super::output::say;

/// Verify that all uploads and download batches are as gateways have stored them
///
/// Checks the chain of the log, the seals, the numbers of keys, the keys against their digests and
/// identities, the batch signatures and the download batches, while gateways run. Names each row that
/// is not as it was stored, and ends with status 1 if there is one. Reads the whole log; memory is
/// bounded. What is found and what can be done about it: docs/integrity.md.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct VerifyArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// Only what was stored and cut since this day, UTC
    #[arg(long, value_name = "YYYY-MM-DD")]
    since: Option<Day>,
    /// Accept what keeps gateways from working, exactly as it is now
    ///
    /// After a look at what was found, and where no good copy can be restored. Nothing is repaired:
    /// gateways start again, and whatever changes after that is found again.
    #[arg(long)]
    accept: bool,
}

const EXAMPLE: &str = "\
Examples:
  efgs db verify --config demo/efgs.toml
  efgs db verify --config demo/efgs.toml --since 2021-06-01";

pub(super) fn verify(arguments: &VerifyArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let keys = settings.keys()?;
    let verification = Verification {
        keys: &keys,
        trust_anchor_pem: &settings.trust_anchor_pem()?,
        since: arguments.since,
    };
    let mut admin = Admin::open(&settings.database)?;
    let bar = bar();
    let mut said = Ok(());
    let mut stopping = Vec::new();
    let mut on_finding = |finding: &Finding| {
        let line = bar.suspend(|| say(finding));
        if said.is_ok() {
            said = line;
        }
        if arguments.accept && finding.stops_gateways() {
            stopping.push(finding.clone());
        }
    };
    let mut on_progress = |progress: Progress| {
        bar.set_length(progress.total);
        bar.set_position(progress.done);
    };
    let verified = admin.verify(&verification, &mut on_progress, &mut on_finding)?;
    bar.finish_and_clear();
    said?;
    for finding in &stopping {
        admin.accept(finding)?;
    }
    say_what_was_verified(&verified)?;
    match (verified.findings, stopping.len()) {
        (0, _) => Ok(()),
        (found, 0) => bail!("{found} findings: see docs/integrity.md for what can be done"),
        (found, accepted) => bail!(
            "{found} findings, of which {accepted} are accepted as they are: start the gateways again"
        ),
    }
}

/// A bar on standard error; hidden if that is not a terminal.
fn bar() -> ProgressBar {
    if !io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} positions, {per_sec}, {eta}");
    ProgressBar::new(0).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

fn say_what_was_verified(verified: &Verified) -> anyhow::Result<()> {
    say(format_args!(
        "{} uploads with {} keys and {} download batches verified",
        verified.uploads, verified.keys, verified.download_batches
    ))?;
    for (count, what) in [
        (verified.emptied, "have no key data any more"),
        (verified.unchained, "are from before the chain of the log"),
        (
            verified.signatures_unchecked,
            "have a batch signature that cannot be checked: its certificate is not listed any more, \
             or it covers an upload that was imported in parts",
        ),
    ] {
        if count > 0 {
            say(format_args!("of the uploads, {count} {what}"))?;
        }
    }
    Ok(())
}
