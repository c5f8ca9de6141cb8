//! `efgs init`: everything that a gateway needs to start on this machine.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Args;
use engine::admin::{Admin, sign_with_trust_anchor};
use engine::domain::Country;
use engine::seal::Keys;
use engine::settings::DatabaseUrl;
use engine::{Clock as _, SystemClock};

use super::files::{Readable, make_folder, write};
use super::pki::{self, EU_MEMBERS, Subject};
use super::say;

/// Make a folder with all that a gateway needs: configuration, keys, certificates for everybody
///
/// Writes DIR/efgs.toml, a DIR/loadgen.toml to go with it, fresh encryption keys, and a development
/// PKI below DIR/pki: a trust anchor, a server certificate for localhost, one that the gateway
/// shows to the receivers of callbacks, and certificates for each participant, which are
/// onboarded. Nothing of it is fit for real use but the form.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct InitArguments {
    /// Folder to make; must not hold an efgs.toml or encryption keys yet
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Countries that take part, separated by commas [default: the 27 members of the EU]
    #[arg(long, value_name = "CC,…", value_delimiter = ',', value_parser = Country::parse)]
    participants: Vec<Country>,
    /// Database: sqlite:PATH (relative to DIR) or mysql://USER:PASSWORD@HOST:PORT/NAME
    #[arg(long, value_name = "URL", default_value = "sqlite:efgs.sqlite")]
    database: String,
    /// Where participants connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
}

const EXAMPLE: &str = "\
Examples:
  efgs init --dir demo
  efgs init --dir demo --participants DE,IT,FR \\
    --database mysql://efgs:secret@127.0.0.1:3306/efgs";

pub(super) fn run(arguments: &InitArguments) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    let config = dir.join("efgs.toml");
    for path in [&config, &dir.join("keys")] {
        if path.exists() {
            bail!(
                "{} exists already: name another folder with --dir",
                path.display()
            );
        }
    }
    let participants = participants(arguments)?;
    make_folder(dir)?;
    let mut admin = open_database(arguments)?;
    let identities = pki::make(&participants, SystemClock.now())?;
    write_pki(dir, &identities)?;
    onboard(&mut admin, &identities)?;
    write(&dir.join("keys"), &Keys::generate_text(), Readable::Owner)?;
    write(
        &dir.join(".gitignore"),
        "# Keys and data of this gateway.\n*\n",
        Readable::All,
    )?;
    let load = load_configuration(arguments);
    write(&dir.join("loadgen.toml"), &load, Readable::All)?;
    // The configuration comes last: with it the folder is whole.
    write(&config, &configuration(arguments), Readable::Owner)?;
    say(format_args!(
        "made {} for {} participants, with their certificates in {}",
        config.display(),
        participants.len(),
        dir.join("pki").display()
    ))?;
    say(format_args!(
        "next: efgs serve --config {}",
        config.display()
    ))
}

/// The chosen countries, each once, ordered.
fn participants(arguments: &InitArguments) -> anyhow::Result<Vec<Country>> {
    let mut chosen = arguments.participants.clone();
    if chosen.is_empty() {
        let all = EU_MEMBERS.into_iter().map(Country::parse);
        chosen = all.collect::<Result<_, _>>()?;
    }
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

fn open_database(arguments: &InitArguments) -> anyhow::Result<Admin> {
    let database = match arguments.database.parse()? {
        DatabaseUrl::Sqlite(path) => DatabaseUrl::Sqlite(arguments.dir.join(path)),
        DatabaseUrl::Mysql(url) => DatabaseUrl::Mysql(url),
    };
    Admin::migrate(&database)?;
    let mut admin = Admin::open(&database)?;
    if !admin.certificates()?.is_empty() {
        bail!(
            "the database {database} lists certificates already: name an empty one with --database"
        );
    }
    Ok(admin)
}

type Identities = std::collections::BTreeMap<Subject, pki::Identity>;

fn write_pki(dir: &Path, identities: &Identities) -> anyhow::Result<()> {
    for (subject, identity) in identities {
        let path = dir.join("pki").join(subject.path());
        if let Some(folder) = path.parent() {
            make_folder(folder)?;
        }
        let certificate = path.with_extension("pem");
        write(&certificate, &identity.certificate_pem, Readable::All)?;
        let private_key = path.with_extension("key");
        write(&private_key, &identity.private_key_pem, Readable::Owner)?;
    }
    Ok(())
}

/// Lists every participant's certificates, each vouched for by the trust anchor.
fn onboard(admin: &mut Admin, identities: &Identities) -> anyhow::Result<()> {
    let anchor = identities.get(&Subject::TrustAnchor);
    let anchor = anchor.context("the development PKI has a trust anchor")?;
    for (subject, identity) in identities {
        let &Subject::Participant(country, kind) = subject else {
            continue;
        };
        let pem = &identity.certificate_pem;
        let signature = sign_with_trust_anchor(&anchor.private_key_pem, pem)?;
        admin.add_certificate(&anchor.certificate_pem, country, kind, pem, &signature)?;
    }
    Ok(())
}

/// The configuration file, with a word on every setting.
fn configuration(arguments: &InitArguments) -> String {
    let text = |value: &str| toml::Value::from(value).to_string();
    let mut out = String::from(HEAD);
    let listen = text(&arguments.listen.to_string());
    let url = text(&arguments.database);
    let written = write!(
        out,
        r#"
[public]
# Where participants connect, with mutual TLS; "off" for none.
listen = {listen}
certificate = "pki/server.pem"
private_key = "pki/server.key"

[database]
# sqlite:PATH, or mysql://USER:PASSWORD@HOST:PORT/NAME, which several gateways can share. The
# connection to a server is not encrypted: same host, private network, or a TLS proxy as stunnel.
url = {url}
"#
    );
    written.expect("a string takes whatever is written to it");
    out.push_str(TAIL);
    out
}

/// What `loadgen run --config` reads.
fn load_configuration(arguments: &InitArguments) -> String {
    let target = toml::Value::from(format!("https://{}", arguments.listen));
    format!(
        "# For `loadgen run --config` and `loadgen verify --config`.\n\
         pki = \"pki\"\n\
         target = {target}\n\
         profile = \"planning-2020\"\n\
         seed = 1\n\
         record = \"loadgen-record.jsonl\"\n"
    )
}

const HEAD: &str = "\
# Configuration of an EFGS gateway, for development: see `efgs serve --help`.
# Relative paths begin at this file's folder. Settings that are commented out show their default.
# The environment overrides each of them, as EFGS__DATABASE__URL does for [database] url.
";

const TAIL: &str = r#"
[encryption]
# Keys that seal stored diagnosis keys. Without this file nobody can read them: keep a copy.
key_file = "keys"

[trust_anchor]
# Vouches for every certificate that `efgs cert add` lists.
certificate = "pki/trust-anchor.pem"

[operations]
# Health, metrics and dashboard. For operators only: there is no authentication.
listen = "127.0.0.1:9090"

# [proxy]
# Where a proxy that terminates TLS connects; it says in headers who its client is.
# listen = "127.0.0.1:8080"
# Whom to believe: addresses and networks. On a loopback address they may be left out.
# trusted_peers = ["10.0.0.7", "10.1.0.0/16"]
# thumbprint_header = "X-SSL-Client-SHA256"
# distinguished_name_header = "X-SSL-Client-DN"

[callback]
# What the gateway shows to the receivers of callbacks; without it, it delivers none.
certificate = "pki/gateway-callback.pem"
private_key = "pki/gateway-callback.key"
# Authorities that may vouch for receivers by host name, beside the receivers' listed certificates.
# ca_file = ""
# Where callbacks may lead though it is no public address, as 10.1.0.0/16 and receiver.internal.
# allowed_networks = []
# allowed_hosts = []
# http://HOST:PORT of a proxy that takes CONNECT to addresses; its password has a file of its own.
# proxy_url = "off"
# proxy_user = ""
# proxy_password_file = ""
# interval_ms = 1000
# connect_timeout_ms = 10000
# read_timeout_ms = 10000
# Attempts in a row after which a subscription is disabled; the wait between them doubles.
# attempts_max = 6
# retry_wait_ms = 300000
# retry_wait_max_ms = 3600000
# deliveries_max = 64

# [upload]
# keys_max = 5000
# body_bytes_max = 8388608
# batches_in_flight_max = 200
# bytes_in_flight_max = 67108864

# [bundle]
# Longest wait of an upload before others can download it.
# max_delay_ms = 2000
# keys_max = 5000
# Memory for encoded download batches; uploads that wait for one may take a quarter as much again.
# cache_bytes_max = 268435456

# [download]
# max_age_days = 2

# [signatures]
# Participants that still sign with SHA-1.
# legacy_sha1 = ["CZ", "IE"]
# Participants that sign with RSA-PSS. Verifiers built like the reference do not know it.
# pss = []

# [log]
# "text" or "json", on standard error.
# format = "text"
# level = "info"

# [engine]
# Threads for decoding and verifying; 0 means one a core.
# cpu_threads = 0
"#;

#[cfg(test)]
mod tests {
    use api::settings::Settings;
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Arguments, Command};

    fn parse(arguments: &[&str]) -> InitArguments {
        let arguments = ["efgs", "init", "--dir", "x"].iter().chain(arguments);
        match Arguments::try_parse_from(arguments).unwrap().command {
            Command::Init(arguments) => arguments,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn takes_all_members_or_the_named_ones_once() {
        assert_eq!(participants(&parse(&[])).unwrap().len(), 27);
        let named = participants(&parse(&["--participants", "it,DE,IT"])).unwrap();
        assert_eq!(format!("{named:?}"), "[DE, IT]");
    }

    /// Writes the configuration with the files that it names.
    fn folder(configuration: &str) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        let identities = pki::make(&[], SystemClock.now()).unwrap();
        write_pki(folder.path(), &identities).unwrap();
        std::fs::write(folder.path().join("keys"), Keys::generate_text()).unwrap();
        std::fs::write(folder.path().join("efgs.toml"), configuration).unwrap();
        folder
    }

    #[test]
    fn writes_a_configuration_that_can_be_read() {
        let database = r#"mysql://u:"p\@h:1/d"#;
        let configuration = configuration(&parse(&["--listen", "[::1]:1", "--database", database]));
        let folder = folder(&configuration);
        let settings = Settings::load(&folder.path().join("efgs.toml"), []).unwrap();
        assert_eq!(settings.public.unwrap().listen.to_string(), "[::1]:1");
        assert_eq!(
            settings.engine.database,
            DatabaseUrl::Mysql(database.to_owned())
        );
    }

    /// What the comments call a default is the default.
    #[test]
    fn shows_the_defaults_in_comments() {
        let shown = configuration(&parse(&[]));
        let uncommented: String = shown
            .lines()
            .map(|line| match line.strip_prefix("# ") {
                Some(setting) if setting.contains(" = ") || setting.starts_with('[') => setting,
                _ => line,
            })
            .filter(|line| !line.starts_with("trusted_peers") && !line.starts_with("legacy_sha1"))
            .map(|line| format!("{line}\n"))
            .collect();
        let (commented, uncommented) = (folder(&shown), folder(&uncommented));
        let load = |folder: &tempfile::TempDir| {
            let mut settings = Settings::load(&folder.path().join("efgs.toml"), []).unwrap();
            settings.engine.database = DatabaseUrl::Sqlite("x".into());
            settings.engine.trust_anchor_pem.clear();
            settings
        };
        let (with_defaults, mut spelled_out) = (load(&commented), load(&uncommented));
        let proxy = spelled_out.proxy.take().unwrap();
        assert_eq!(proxy.thumbprint_header, "x-ssl-client-sha256");
        assert_eq!(proxy.distinguished_name_header, "x-ssl-client-dn");
        assert_eq!(format!("{with_defaults:?}"), format!("{spelled_out:?}"));
    }
}
