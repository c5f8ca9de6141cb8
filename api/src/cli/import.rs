//! `efgs import`: what a reference server has, for a gateway to go on with.

use std::path::PathBuf;

use anyhow::Context as _;
use api::delivery::check_url;
use clap::Args;
use engine::import::{ImportRequest, Imported, UrlCheck, import};
use engine::settings::DatabaseUrl;
use engine::{Clock as _, SystemClock};

use super::files::read;
use super::{ConfigArguments, say};

/// Take over the database of a reference server (release 1.1.3)
///
/// Stop the reference first. Its certificates, its callback subscriptions as far as their URLs would
/// be accepted now, its download batches with their names and links, and all keys that it still has
/// go into the database of the configuration, which must be fresh:
/// without certificates and uploads. A participant that is half through a day's downloads goes on
/// with its next tag. Prints counts, and a line for whatever is different afterwards. When it
/// fails, run it again: it begins anew, and no gateway starts on half an import.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct ImportArguments {
    #[command(flatten)]
    config: ConfigArguments,
    /// The reference's database, as mysql://USER:PASSWORD@HOST:PORT/NAME
    #[arg(long, value_name = "URL")]
    from: DatabaseUrl,
    /// File with the password of the reference's encrypted columns (efgs.dbEncryption.password)
    #[arg(long, value_name = "FILE")]
    password_file: PathBuf,
    /// Read and check everything, and write nothing
    #[arg(long)]
    dry_run: bool,
}

const EXAMPLE: &str = "\
Example: look first, then do it
  efgs import --config efgs.toml --from mysql://efgs:secret@db:3306/efgs --password-file old-password --dry-run
  efgs import --config efgs.toml --from mysql://efgs:secret@db:3306/efgs --password-file old-password";

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
        from: &arguments.from,
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
            "{} uploads that wait for a download batch, {} keys",
            imported.waiting_uploads, imported.waiting_keys
        ),
    ]
}
