//! `efgs import`: takes over the database of a reference server.

use std::path::PathBuf;

use anyhow::{Context as _, bail};
use api::delivery::check_url;
use clap::Args;
use engine::import::{ImportRequest, Imported, UrlCheck, import};
use engine::settings::DatabaseUrl;
use engine::{Clock as _, SystemClock};

use super::config::ConfigArguments;
use super::files::read;
use super::output::say;

/// Import the database of a reference server (release 1.1.3)
///
/// Stop the reference server first. Imports its certificates, its callback subscriptions as far as
/// their URLs would be accepted now, its download batches with their names and links, and all keys
/// that it still has. The database of the configuration must be empty: no certificates, no uploads.
/// A participant that is in the middle of a day's downloads continues with its next tag. Prints
/// counts, and a line for whatever is different afterwards. If it fails, run it again: it starts
/// over, and no gateway starts on an incomplete import.
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
    })?;
    for note in &imported.notes {
        say(format_args!("note: {note}"))?;
    }
    for line in lines(&imported) {
        say(line)?;
    }
    if arguments.dry_run {
        return say(format_args!("nothing was written to {}", settings.database));
    }
    say(format_args!("imported into {}", settings.database))
}

fn lines(imported: &Imported) -> [String; 4] {
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
    ]
}
