//! `efgs import`: takes over the database of a reference server.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use api::delivery::check_url;
use clap::Args;
use engine::import::{ImportRequest, Imported, UrlCheck, import};
use engine::settings::DatabaseUrl;
use engine::verify::Exceptions;
use engine::{Clock as _, SystemClock, limits};

use super::config::ConfigArguments;
use super::files::read;
use super::output::say;
use super::stats::signature_table;

/// Import the database of a reference server (release 1.1.3)
///
/// Stop the reference server first. Imports its certificates, its callback subscriptions as far as
/// their URLs would be accepted now, its download batches with their names and links, and all keys
/// that it still has. The database of the configuration must be empty: no certificates, no uploads.
/// A participant that is in the middle of a day's downloads continues with its next tag. Prints
/// counts, how each country signs and which settings that needs, and a line for whatever is
/// different afterwards.
///
/// Certificates that `efgs cert add` would refuse, and uploads that would be refused if they were
/// sent (the age of their keys aside), are named, and then nothing is imported, with exit status 1,
/// unless --leave-out is given. If it fails, run it again: it starts over, and no gateway starts on
/// an incomplete import.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct ImportArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The reference's database, as mysql://USER:PASSWORD@HOST:PORT/NAME
    ///
    /// On a shared machine, give it by the environment or by --from-file.
    #[arg(
        long,
        value_name = "URL",
        env = "EFGS_IMPORT_FROM",
        hide_env_values = true,
        required_unless_present = "from_file"
    )]
    from: Option<DatabaseUrl>,
    /// File that contains the URL of the reference's database; used instead of --from
    #[arg(long, value_name = "FILE")]
    from_file: Option<PathBuf>,
    /// File with the password of the reference's encrypted columns (efgs.dbEncryption.password)
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// Read and check everything, and write nothing
    #[arg(long)]
    dry_run: bool,
    /// Import without the certificates and uploads that are refused
    #[arg(long)]
    leave_out: bool,
}

const EXAMPLE: &str = "\
Example: check first, then import
  efgs import --config efgs.toml --from-file old-url --password-file old-password --dry-run
  efgs import --config efgs.toml --from-file old-url --password-file old-password";

impl ImportArguments {
    fn source(&self) -> anyhow::Result<DatabaseUrl> {
        match (&self.from_file, &self.from) {
            (Some(file), _) => Ok(read(file)?.trim().parse()?),
            (None, Some(url)) => Ok(url.clone()),
            (None, None) => bail!("name the reference's database with --from-file or --from"),
        }
    }
}

pub(super) fn run(arguments: &ImportArguments) -> anyhow::Result<()> {
    let settings = arguments.config.load()?;
    let password = read(&arguments.password_file)?;
    let callback = settings.callback()?;
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build();
    let runtime = runtime.context("cannot resolve names")?;
    let check = |url: &str| {
        let checked = runtime.block_on(check_url(&callback, url));
        checked.map_err(|error| error.to_string())
    };
    let imported = import(&ImportRequest {
        from: &arguments.source()?,
        password: password.trim_end_matches(['\r', '\n']),
        into: &settings.database,
        keys: &settings.keys()?,
        trust_anchor_pem: &settings.trust_anchor_pem()?,
        callback_urls: UrlCheck(&check),
        now: SystemClock.now(),
        dry_run: arguments.dry_run,
        leave_out: arguments.leave_out,
    })?;
    for note in &imported.notes {
        say(format_args!("note: {note}"))?;
    }
    for line in lines(&imported) {
        say(line)?;
    }
    say_settings(&imported)?;
    let database = &settings.database;
    if imported.leaves_out() && !arguments.leave_out {
        bail!(
            "{} certificates and {} uploads with {} keys are refused, so nothing was imported: see \
             the notes, and correct the reference's database or give --leave-out",
            imported.left_out_certificates,
            imported.left_out_uploads,
            imported.left_out_keys
        );
    }
    if imported.is_written {
        return say(format_args!("imported into {database}"));
    }
    say(format_args!("nothing was written to {database}"))
}

/// How far back ES asks for download batches at most. When the gateway answers 410, its job fails.
const SPAIN_ASKS_BACK_DAYS: u32 = 6;

/// Shows how each country signs, and the settings that it and the age of the download batches need.
fn say_settings(imported: &Imported) -> anyhow::Result<()> {
    say(signature_table(&imported.signatures).trim_end())?;
    for (name, countries) in [
        ("legacy_sha1", needing(imported, |needs| needs.sha1)),
        ("pss", needing(imported, |needs| needs.pss)),
    ] {
        if !countries.is_empty() {
            let countries: Vec<_> = countries.iter().map(|cc| format!("{cc:?}")).collect();
            let countries = countries.join(", ");
            say(format_args!(
                "needed: [signatures] {name} = [{countries}] at least"
            ))?;
        }
    }
    match max_age_line(imported) {
        Some(line) => say(line),
        None => Ok(()),
    }
}

/// The countries that need an exception, in their order.
fn needing(imported: &Imported, needs: impl Fn(Exceptions) -> bool) -> Vec<&str> {
    let uses = imported.signatures.iter();
    let uses = uses.filter(|signed| needs(signed.form.demand.exceptions()));
    let mut countries: Vec<_> = uses.map(|signed| signed.country.as_str()).collect();
    countries.dedup();
    countries
}

/// What `[download] max_age_days` has to be, so that all that is imported can be downloaded.
fn max_age_line(imported: &Imported) -> Option<String> {
    let (batch, age) = imported.oldest.as_ref()?;
    let needed = (*age).max(SPAIN_ASKS_BACK_DAYS);
    let needed = needed.min(limits::MAX_AGE_DAYS_SETTING_MAX);
    Some(format!(
        "needed: [download] max_age_days = {needed} at least: the oldest \
         download batch, {batch}, is of {age} days ago, and ES asks for up to \
         {SPAIN_ASKS_BACK_DAYS} days back and fails on 410"
    ))
}

fn lines(imported: &Imported) -> [String; 5] {
    [
        format!(
            "{} certificates, {} of them revoked",
            imported.certificates, imported.revoked_certificates
        ),
        format!("{} callback subscriptions", imported.subscriptions),
        format!(
            "{} download batches, {} uploads, {} keys",
            imported.download_batches, imported.uploads, imported.keys
        ),
        format!(
            "{} uploads not yet in a download batch, {} keys",
            imported.waiting_uploads, imported.waiting_keys
        ),
        format!(
            "left out: {} certificates, {} uploads, {} keys",
            imported.left_out_certificates, imported.left_out_uploads, imported.left_out_keys
        ),
    ]
}

#[cfg(test)]
mod tests {
    use engine::domain::{BatchTag, Country};
    use engine::statistics::SignatureUse;
    use engine::verify::{SignatureDemand, SignatureForm};

    use super::*;

    #[test]
    fn says_how_old_download_batches_may_have_to_be() {
        let check = |age: Option<u32>, needed: Option<&str>| {
            let imported = Imported {
                oldest: age.map(|age| (BatchTag::parse("20210531-1").unwrap(), age)),
                ..Imported::default()
            };
            let line = max_age_line(&imported);
            assert_eq!(line.is_some(), needed.is_some());
            assert!(
                line.unwrap_or_default()
                    .contains(needed.unwrap_or_default())
            );
        };
        check(None, None);
        check(Some(1), Some("max_age_days = 6 at least"));
        check(Some(9), Some("max_age_days = 9 at least"));
        check(Some(40), Some("max_age_days = 14 at least"));
    }

    #[test]
    fn names_each_country_that_needs_a_setting_once() {
        let used = |country: &str, sha1, pss| SignatureUse {
            country: Country::parse(country).unwrap(),
            form: SignatureForm {
                algorithm: "RSA",
                digest: "SHA-1".to_owned(),
                key: "RSA 2048".to_owned(),
                demand: SignatureDemand::Settings { sha1, pss },
            },
            uploads: 1,
            keys: 1,
        };
        let imported = Imported {
            signatures: vec![
                used("CZ", true, false),
                used("CZ", true, false),
                used("DE", false, false),
                used("IE", true, false),
                used("NL", false, true),
            ],
            ..Imported::default()
        };
        assert_eq!(needing(&imported, |needs| needs.sha1), ["CZ", "IE"]);
        assert_eq!(needing(&imported, |needs| needs.pss), ["NL"]);
    }
}
