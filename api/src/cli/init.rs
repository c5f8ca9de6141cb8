//! `efgs init`: everything that a gateway needs to start on this machine.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use api::settings::{Given, template};
use clap::Args;
use engine::admin::{Admin, NewCertificate, sign_with_trust_anchor};
use engine::domain::Country;
use engine::seal::Keys;
use engine::settings::DatabaseUrl;
use engine::{Clock as _, SystemClock};

use super::files::{Readable, check_folder, check_place, make_folder, read, write};
use super::output::say;
use super::pki::{self, EU_MEMBERS, Subject};

/// Create a folder with all that a gateway needs: configuration, keys and certificates
///
/// Writes DIR/efgs.toml, DIR/loadgen.toml, new encryption keys, and a development PKI to DIR/pki: a
/// trust anchor, a server certificate for localhost, a certificate for delivering callbacks, and
/// certificates for each participant, which are added to the database. The PKI is for development
/// and tests only.
#[derive(Debug, Args)]
#[command(after_help = EXAMPLE)]
pub(super) struct InitArguments {
    /// Folder to create; must not contain an efgs.toml or encryption keys yet
    #[arg(long, value_name = "DIR")]
    dir: PathBuf,
    /// Participating countries, separated by commas [default: the 27 members of the EU]
    #[arg(long, value_name = "CC,…", value_delimiter = ',')]
    participants: Vec<Country>,
    /// Database: sqlite:PATH (relative to DIR) or mysql://USER:PASSWORD@HOST:PORT/NAME
    ///
    /// It is written to DIR/efgs.toml, which only its owner can read. On a shared machine, give a
    /// password by the environment or by --database-file.
    #[arg(
        long,
        value_name = "URL",
        default_value = "sqlite:efgs.sqlite",
        env = "EFGS__DATABASE__URL",
        hide_env_values = true
    )]
    database: String,
    /// File that contains the database URL; used instead of --database
    #[arg(long, value_name = "FILE")]
    database_file: Option<PathBuf>,
    /// Where participants connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:8443")]
    listen: SocketAddr,
    /// Make a practice gateway, for the development of national backends
    ///
    /// It keeps keys for an hour, calls back to private networks and this machine, and has three more
    /// participants, its peers, for which `efgs serve` has `efgs-backend` upload made-up keys.
    #[arg(long)]
    practice: bool,
}

const EXAMPLE: &str = "\
Examples:
  efgs init --dir demo
  efgs init --dir demo --participants DE,IT,FR --database-file database-url
  efgs init --dir practice --practice --participants DE";

/// Participants whose national backends sign with SHA-1.
const SIGN_WITH_SHA1: [&str; 2] = ["CZ", "IE"];

/// Who uploads by itself on a practice gateway.
const PEERS: [&str; 8] = ["ES", "FR", "PL", "AT", "NL", "SE", "PT", "GR"];
/// How many of them.
const PEERS_COUNT: usize = 3;

/// Where the callbacks of a practice gateway may lead: this machine, and private networks (RFC 1918,
/// RFC 4193).
const PRIVATE_NETWORKS: [&str; 6] = [
    "127.0.0.0/8",
    "::1",
    "10.0.0.0/8",
    "172.16.0.0/12",
    "192.168.0.0/16",
    "fc00::/7",
];

pub(super) fn run(arguments: &InitArguments) -> anyhow::Result<()> {
    let dir = &arguments.dir;
    let config = dir.join("efgs.toml");
    for path in [&config, &dir.join("keys")] {
        if path.symlink_metadata().is_ok() {
            bail!(
                "{} exists already: name another folder with --dir",
                path.display()
            );
        }
    }
    let participants = participants(arguments)?;
    make_folder(dir)?;
    check_folder(dir)?;
    let url = database_url(arguments)?;
    let mut admin = open_database(dir, &url)?;
    let identities = pki::make(&participants, SystemClock.now())?;
    write_pki(dir, &identities)?;
    let keys = Keys::generate_text();
    onboard(&mut admin, &Keys::parse(&keys)?, &identities)?;
    write(&dir.join("keys"), &keys, Readable::Owner)?;
    write(
        &dir.join(".gitignore"),
        "# Keys and data of this gateway.\n*\n",
        Readable::All,
    )?;
    let load = load_configuration(arguments);
    write(&dir.join("loadgen.toml"), &load, Readable::All)?;
    // The configuration comes last: with it the folder is whole.
    let peers = practice_peers(arguments);
    let configuration = configuration(arguments.listen, &url, &participants, peers.as_deref());
    write(&config, &configuration, Readable::Owner)?;
    say(format_args!(
        "created {} for {} participants, with their certificates in {}",
        config.display(),
        participants.len(),
        dir.join("pki").display()
    ))?;
    if let Some(peers) = peers {
        let peers: Vec<_> = peers.iter().map(Country::as_str).collect();
        say(format_args!(
            "a practice gateway: {} upload made-up keys by themselves",
            peers.join(", ")
        ))?;
    }
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
    chosen.extend(practice_peers(arguments).unwrap_or_default());
    chosen.sort_unstable();
    chosen.dedup();
    Ok(chosen)
}

/// With --practice, the first of [`PEERS`] that are not among the participants that are asked for.
fn practice_peers(arguments: &InitArguments) -> Option<Vec<Country>> {
    let peers = PEERS
        .into_iter()
        .filter_map(|code| Country::parse(code).ok());
    let peers = peers.filter(|peer| !arguments.participants.contains(peer));
    arguments
        .practice
        .then(|| peers.take(PEERS_COUNT).collect())
}

fn database_url(arguments: &InitArguments) -> anyhow::Result<String> {
    match &arguments.database_file {
        Some(file) => Ok(read(file)?.trim().to_owned()),
        None => Ok(arguments.database.clone()),
    }
}

fn open_database(dir: &Path, url: &str) -> anyhow::Result<Admin> {
    let database = match url.parse()? {
        DatabaseUrl::Sqlite(path) => {
            let path = dir.join(path);
            for end in ["", "-wal", "-shm"] {
                let mut file = path.clone().into_os_string();
                file.push(end);
                check_place(Path::new(&file))?;
            }
            DatabaseUrl::Sqlite(path)
        }
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
    check_place(&dir.join("pki"))?;
    for (subject, identity) in identities {
        let path = dir.join("pki").join(subject.path());
        if let Some(folder) = path.parent() {
            check_place(folder)?;
            make_folder(folder)?;
        }
        let certificate = path.with_extension("pem");
        write(&certificate, &identity.certificate_pem, Readable::All)?;
        let private_key = path.with_extension("key");
        write(&private_key, &identity.private_key_pem, Readable::Owner)?;
    }
    Ok(())
}

/// Lists every participant's certificates, each signed by the trust anchor.
fn onboard(admin: &mut Admin, keys: &Keys, identities: &Identities) -> anyhow::Result<()> {
    let anchor = identities.get(&Subject::TrustAnchor);
    let anchor = anchor.context("the development PKI has a trust anchor")?;
    for (subject, identity) in identities {
        let &Subject::Participant(country, kind) = subject else {
            continue;
        };
        let pem = &identity.certificate_pem;
        let signature = sign_with_trust_anchor(&anchor.private_key_pem, pem)?;
        let new = NewCertificate {
            country,
            kind,
            pem,
            operator_signature: &signature,
        };
        admin.add_certificate(keys, &anchor.certificate_pem, &new)?;
    }
    Ok(())
}

/// The configuration file.
fn configuration(
    listen: SocketAddr,
    database: &str,
    participants: &[Country],
    peers: Option<&[Country]>,
) -> String {
    let mut given = vec![
        Given("public", "listen", listen.to_string().into()),
        Given("database", "url", database.into()),
    ];
    for (section, key, file) in [
        ("public", "certificate", "pki/server.pem"),
        ("public", "private_key", "pki/server.key"),
        ("encryption", "key_file", "keys"),
        ("trust_anchor", "certificate", "pki/trust-anchor.pem"),
        ("callback", "certificate", "pki/gateway-callback.pem"),
        ("callback", "private_key", "pki/gateway-callback.key"),
    ] {
        given.push(Given(section, key, file.into()));
    }
    let mut legacy: Vec<&str> = participants.iter().map(Country::as_str).collect();
    legacy.retain(|country| SIGN_WITH_SHA1.contains(country));
    if !legacy.is_empty() {
        given.push(Given("signatures", "legacy_sha1", legacy.into()));
    }
    if let Some(peers) = peers {
        let peers: Vec<&str> = peers.iter().map(Country::as_str).collect();
        let networks = PRIVATE_NETWORKS.to_vec();
        given.extend([
            Given("practice", "enabled", true.into()),
            Given("practice", "peers", peers.into()),
            Given("callback", "allowed_networks", networks.into()),
            // The peers would use up the budget of small download batches, and testers wait.
            Given("bundle", "paced", false.into()),
            // Nobody has to notice that it stops.
            Given("operations", "shutdown_delay_ms", 0.into()),
        ]);
    }
    template(&given)
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

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use api::settings::Settings;
    use clap::Parser;

    use super::*;

    #[derive(Parser)]
    struct Parsed {
        #[command(flatten)]
        init: InitArguments,
    }

    fn parse(arguments: &[&str]) -> InitArguments {
        Parsed::parse_from(["init", "--dir", "x"].iter().chain(arguments)).init
    }

    /// What `init` writes for these participants.
    fn written(participants: &[&str]) -> String {
        let countries = participants
            .iter()
            .map(|country| Country::parse(country).unwrap());
        let listen = "127.0.0.1:8443".parse().unwrap();
        let countries = countries.collect::<Vec<_>>();
        configuration(listen, "sqlite:efgs.sqlite", &countries, None)
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
        let folder = folder(&configuration(
            "[::1]:1".parse().unwrap(),
            database,
            &[],
            None,
        ));
        let settings = Settings::load(&folder.path().join("efgs.toml"), []).unwrap();
        assert_eq!(settings.public.unwrap().listen.to_string(), "[::1]:1");
        assert_eq!(
            settings.engine.database,
            database.parse::<DatabaseUrl>().unwrap()
        );
    }

    #[test]
    fn makes_a_practice_gateway_with_peers_that_are_nobody_else() {
        let arguments = parse(&["--practice", "--participants", "FR,DE"]);
        let peers = practice_peers(&arguments).unwrap();
        assert_eq!(format!("{peers:?}"), "[ES, PL, AT]");
        let all = participants(&arguments).unwrap();
        assert_eq!(format!("{all:?}"), "[AT, DE, ES, FR, PL]");
        let all = participants(&parse(&["--practice"])).unwrap();
        assert_eq!(all.len(), 27);
        let listen = "127.0.0.1:8443".parse().unwrap();
        let text = configuration(listen, "sqlite:efgs.sqlite", &all, Some(&peers));
        let folder = folder(&text);
        let settings = Settings::load(&folder.path().join("efgs.toml"), []).unwrap();
        let practice = settings.practice.unwrap();
        assert_eq!(practice.peers, peers);
        assert_eq!(practice.keys_kept.as_secs(), 3600);
        assert_eq!(settings.engine.download.kept, Some(practice.keys_kept));
        let warnings = settings.warnings.join("\n");
        assert!(
            warnings.contains("this is a practice gateway"),
            "{warnings}"
        );
        let private = "192.168.1.2".parse().unwrap();
        let mut networks = settings.callback.allowed_networks.iter();
        assert!(networks.any(|network| network.contains(private)));
    }

    #[test]
    fn permits_sha1_to_those_who_need_it() {
        let legacy = |participants| {
            let folder = folder(&written(participants));
            let settings = Settings::load(&folder.path().join("efgs.toml"), []).unwrap();
            format!("{:?}", settings.engine.legacy_sha1)
        };
        assert_eq!(legacy(&["AT", "CZ", "DE", "IE"]), "[CZ, IE]");
        assert_eq!(legacy(&["CZ", "DE"]), "[CZ]");
        assert_eq!(legacy(&["DE"]), "[]");
    }

    /// What a comment calls the default is the default: each line alone, uncommented.
    #[test]
    fn shows_the_defaults_in_comments() {
        let shown = written(&[]);
        let folder = folder(&shown);
        let path = folder.path().join("efgs.toml");
        let load = || format!("{:?}", Settings::load(&path, []).unwrap());
        let with_defaults = load();
        let is_setting = |line: &&str| line.starts_with("# ") && line.contains(" = ");
        let commented: Vec<&str> = shown.lines().filter(is_setting).collect();
        let all: BTreeSet<&str> = commented.iter().copied().collect();
        assert!(
            all.contains("# legacy_sha1 = []") && commented.len() > 25,
            "{shown}"
        );
        for (number, _) in shown
            .lines()
            .enumerate()
            .filter(|(_, line)| is_setting(line))
        {
            let uncommented = shown
                .lines()
                .enumerate()
                .map(|(at, line)| match at == number {
                    true => line.trim_start_matches("# "),
                    false => line,
                });
            let uncommented = uncommented.collect::<Vec<_>>().join("\n");
            std::fs::write(&path, &uncommented).unwrap();
            assert_eq!(load(), with_defaults, "{uncommented}");
        }
    }
}
