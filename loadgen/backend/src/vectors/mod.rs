//! `vectors`: signed uploads with the answers that they must get, to try a signer and a gateway with.

mod cases;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use efgs_client::{BatchSigner, RsaScheme, canonical_texts, encode, signed_bytes};
use engine::domain::Country;
use engine::output;
use testkit::digest::sha256;

use crate::config::Config;
use crate::files::write_executable;
use crate::keygen::{Kind, NewIdentity};

use self::cases::Case;

/// Write signed uploads with the answers that they must get, and a script that tries them
///
/// To test your own signer before the first call, and any gateway. With --config they are signed as that
/// configuration says, for gateways that list its certificates; otherwise with new certificates, in
/// DIR/pki, that a gateway for tests has to list. DIR/README.md explains the files. The keys are made up.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Folder to create
    dir: PathBuf,
    /// Configuration file whose certificates and signer are used
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Your country, two letters, for new certificates
    #[arg(long, value_name = "CC", conflicts_with = "config")]
    country: Option<Country>,
}

pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<ExitCode> {
    let dir = &arguments.dir;
    fs::create_dir(dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let identity = match (&arguments.config, arguments.country) {
        (Some(config), _) => Identity::of(&Config::read(config)?)?,
        (None, Some(country)) => Identity::make(dir, country)?,
        (None, None) => bail!("name your country with --country, or a configuration with --config"),
    };
    let unlisted = unlisted_signer(&identity.country)?;
    let signers = cases::Signers {
        country: &identity.country,
        own: &identity.signer,
        unlisted: &unlisted,
    };
    let cases = cases::all(&signers)?;
    let mut table = String::new();
    for (case, number) in cases.iter().zip(1_u32..) {
        let name = format!("{number:02}-{}", case.name);
        write_case(&dir.join("cases").join(&name), case)?;
        table += &case.line(&name, number);
    }
    write(&dir.join("cases.tsv"), table.as_bytes())?;
    write(&dir.join("settings.sh"), identity.settings.as_bytes())?;
    write(&dir.join("README.md"), include_bytes!("README.md"))?;
    write_executable(&dir.join("try.sh"), include_bytes!("try.sh"))?;
    let (count, dir) = (cases.len(), dir.display());
    let said = format!("wrote {count} cases to {dir}; next: read {dir}/README.md\n");
    output::print(said)?;
    Ok(ExitCode::SUCCESS)
}

/// Who uploads the cases.
struct Identity {
    country: String,
    signer: BatchSigner,
    /// What the script reads.
    settings: String,
}

impl Identity {
    fn of(config: &Config) -> anyhow::Result<Self> {
        let [certificate, key, server_ca] = config.tls_files();
        let mut settings = "IDENTITY=own\n".to_owned();
        for (name, path) in [
            ("CERTIFICATE", certificate),
            ("KEY", key),
            ("SERVER_CA", server_ca),
        ] {
            let path = path.canonicalize();
            let path = path.with_context(|| format!("the configuration's {name}"))?;
            settings += &default_of(name, &quoted(&path)?);
        }
        settings += &default_of("GATEWAY", &format!("'{}'", config.first_gateway()?));
        Ok(Self {
            country: config.country.clone(),
            signer: config.signer()?,
            settings,
        })
    }

    fn make(dir: &Path, country: Country) -> anyhow::Result<Self> {
        let pki = dir.join("pki");
        fs::create_dir(&pki).with_context(|| format!("cannot create {}", pki.display()))?;
        for name in ["authentication", "signing"] {
            NewIdentity::for_tests(country, name).write(&pki)?;
        }
        let settings = "IDENTITY=made\n".to_owned()
            + &default_of("CERTIFICATE", "$here/pki/authentication.pem")
            + &default_of("KEY", "$here/pki/authentication.key");
        Ok(Self {
            country: country.to_string(),
            signer: signer_in(&pki)?,
            settings,
        })
    }
}

/// A line of shell that sets a variable, unless the environment does.
fn default_of(name: &str, value: &str) -> String {
    format!("[ -n \"${{{name}:-}}\" ] || {name}={value}\n")
}

fn quoted(path: &Path) -> anyhow::Result<String> {
    let text = path.to_str().filter(|text| !text.contains('\''));
    let text = text.with_context(|| format!("{} cannot stand in a script", path.display()))?;
    Ok(format!("'{text}'"))
}

/// A signer whose certificate no gateway lists.
fn unlisted_signer(country: &str) -> anyhow::Result<BatchSigner> {
    let country = Country::parse(country).context("country has two letters")?;
    let folder = tempfile::tempdir()?;
    let identity = NewIdentity {
        kind: Kind::P256,
        ..NewIdentity::for_tests(country, "signing")
    };
    identity.write(folder.path())?;
    signer_in(folder.path())
}

fn signer_in(pki: &Path) -> anyhow::Result<BatchSigner> {
    let (certificate, key) = (pki.join("signing.pem"), pki.join("signing.key"));
    Ok(BatchSigner::from_files(
        &certificate,
        &key,
        RsaScheme::Pkcs1,
    )?)
}

fn write_case(folder: &Path, case: &Case) -> anyhow::Result<()> {
    fs::create_dir_all(folder).with_context(|| format!("cannot create {}", folder.display()))?;
    let whole = encode(&case.keys);
    let texts: String = canonical_texts(&whole)?
        .into_iter()
        .map(|text| text + "\n")
        .collect();
    let signed = signed_bytes(&whole)?;
    let digest: String = sha256(&signed)
        .iter()
        .map(|byte| format!("{byte:02x}"))
        .collect();
    let json = serde_json::to_string(&serde_json::json!({"keys": case.keys}))?;
    let body = &whole[..whole.len() - case.cut_bytes];
    for (name, content) in [
        ("keys.pb", body),
        ("keys.json", json.as_bytes()),
        ("canonical.txt", texts.as_bytes()),
        ("signed-bytes", &signed),
        ("sha256", (digest + "\n").as_bytes()),
        ("signature.b64", (case.signature.clone() + "\n").as_bytes()),
    ] {
        write(&folder.join(name), content)?;
    }
    Ok(())
}

fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    fs::write(path, content).with_context(|| format!("cannot write {}", path.display()))
}
