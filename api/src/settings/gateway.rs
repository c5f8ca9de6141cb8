//! Settings as the gateway and the admin commands take them: checked, and with the content of the
//! files that they name.

use std::ffi::OsString;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use engine::seal::Keys;
use engine::settings::{
    ContinuitySettings, DatabaseUrl, DownloadSettings, QuotaSettings, Settings as EngineSettings,
};

use super::callback::{CallbackProxy, CallbackSettings};
use super::connections::ConnectionSettings;
use super::database_checks;
use super::exposure;
use super::network::Network;
use super::practice::PracticeSettings;
use super::practice_checks;
use super::proxy::ProxySettings;
use super::proxy_checks::{self, check_networks};
use super::sections::{Encryption, LogSettings, Public, Sections};
use super::source::{SettingsError, Source};
use crate::tls::TlsSettings;

/// Everything that `efgs serve` needs to know.
#[derive(Debug)]
pub struct Settings {
    /// For the engine.
    pub engine: EngineSettings,
    /// `[public]`: mutual TLS; nothing when it is off.
    pub public: Option<PublicSettings>,
    /// `[proxy]`: identity headers; nothing when it is off.
    pub proxy: Option<ProxySettings>,
    /// `[operations] listen`; nothing when it is off.
    pub operations_listen: Option<SocketAddr>,
    /// `[operations] hosts`
    pub operations_hosts: Vec<String>,
    /// `[operations] gateway_name`, if there is one
    pub gateway_name: Option<String>,
    /// `[operations] shutdown_delay_ms`
    pub shutdown_delay: Duration,
    /// `[api] shown_to_participants`
    pub describes_api: bool,
    /// `[connections]`
    pub connections: ConnectionSettings,
    /// `[callback]`
    pub callback: CallbackSettings,
    /// `[log]`
    pub log: LogSettings,
    /// `[practice]`; nothing unless this is a practice gateway.
    pub practice: Option<PracticeSettings>,
    /// The configuration file, and the files that it names and that were read.
    pub files: Vec<PathBuf>,
    /// What an operator should see to, though the gateway works.
    pub warnings: Vec<String>,
}

/// `[public]`
#[derive(Debug, Clone)]
pub struct PublicSettings {
    /// Where participants connect.
    pub listen: SocketAddr,
    /// Load balancers whose connections begin with a PROXY protocol header.
    pub proxy_protocol_from: Vec<Network>,
    /// The server's certificate and private key.
    pub tls: TlsSettings,
}

impl Settings {
    /// Reads and checks all settings, and the files that they name.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let (source, sections) = Source::load(file, environment)?;
        source.check_own_file(&sections.database.url)?;
        let mut settings = Self {
            engine: read_engine(&source, &sections)?,
            public: read_public(&source, sections.public)?,
            proxy: proxy_checks::read(&source, sections.proxy)?,
            operations_listen: sections.operations.listen.0,
            operations_hosts: sections.operations.hosts,
            gateway_name: sections.operations.gateway_name.0,
            shutdown_delay: sections.operations.shutdown_delay,
            describes_api: sections.api.shown_to_participants,
            connections: sections.connections,
            callback: read_callback(&source, sections.callback)?,
            log: sections.log,
            practice: practice_checks::read(&source, &sections.practice)?,
            files: source.files(),
            warnings: Vec::new(),
        };
        if let Some(practice) = &settings.practice {
            practice_checks::check(&source, &settings.engine.trust_anchor_pem)?;
            settings.engine.download.kept = Some(practice.keys_kept);
        }
        if settings.public.is_none() && settings.proxy.is_none() {
            let must =
                "and [proxy] listen are both off, and there is no [proxy] socket: set one of them";
            return Err(source.error("public", "listen", must));
        }
        settings.warnings = source.take_warnings();
        settings.warnings.extend(settings.exposure());
        let practice = settings.practice.as_ref();
        settings
            .warnings
            .extend(practice.map(PracticeSettings::warning));
        Ok(settings)
    }
}

impl Settings {
    /// Warnings about ports that are exposed more widely than intended.
    fn exposure(&self) -> Vec<String> {
        let public = self.public.as_ref();
        let proxy_listen = self.proxy.as_ref().and_then(|proxy| proxy.listen);
        let participants = [public.map(|public| public.listen), proxy_listen];
        let server = public.map(|public| &*public.tls.certificate_chain_pem);
        let certificates = [server, Some(&*self.engine.trust_anchor_pem)];
        exposure::warnings(self.operations_listen, participants, certificates)
    }
}

/// What the admin commands need to know: the database, and on demand more.
pub struct AdminSettings {
    /// `[database] url`
    pub database: DatabaseUrl,
    source: Source,
    sections: Sections,
}

/// Without the settings, some of which are secret.
impl fmt::Debug for AdminSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AdminSettings")
            .field("database", &self.database)
            .finish_non_exhaustive()
    }
}

impl AdminSettings {
    /// Reads all settings; of the files that they name none yet.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let (source, sections) = Source::load(file, environment)?;
        Ok(Self {
            database: database_checks::read(&source, &sections.database)?,
            source,
            sections,
        })
    }

    /// PEM of the trust anchor's certificate.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn trust_anchor_pem(&self) -> Result<String, SettingsError> {
        read_trust_anchor(&self.source, &self.sections)
    }

    /// The encryption keys.
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn keys(&self) -> Result<Keys, SettingsError> {
        read_keys(&self.source, &self.sections.encryption)
    }

    /// `[database] state_file`
    pub fn state_file(&self) -> Option<PathBuf> {
        read_state_file(&self.source, &self.sections)
    }

    /// `[database] accept_unflushed_commits`
    pub fn accepts_unflushed_commits(&self) -> bool {
        self.sections.database.accept_unflushed_commits
    }

    /// `[download]`
    pub fn download(&self) -> DownloadSettings {
        self.sections.download
    }

    /// `[quota]`
    pub fn quota(&self) -> QuotaSettings {
        self.sections.quota.read()
    }

    /// `[callback]`
    ///
    /// # Errors
    /// [`SettingsError`].
    pub fn callback(&self) -> Result<CallbackSettings, SettingsError> {
        read_callback(&self.source, self.sections.callback.clone())
    }

    /// The file of the encryption keys.
    ///
    /// # Errors
    /// When the keys come from the environment, or are missing.
    pub fn key_file(&self) -> Result<PathBuf, SettingsError> {
        let Encryption { key_file, keys } = &self.sections.encryption;
        if !keys.0.is_empty() {
            let must = "holds the encryption keys, which only their owner can rotate: add a line `sealing ID BASE64` there";
            return Err(self.source.error("encryption", "keys", must));
        }
        if key_file.as_os_str().is_empty() {
            return Err(self.source.refuse("encryption", "key_file"));
        }
        Ok(self.source.resolve(key_file))
    }
}

fn read_engine(source: &Source, sections: &Sections) -> Result<EngineSettings, SettingsError> {
    let settings = EngineSettings {
        database: database_checks::read(source, &sections.database)?,
        keys: read_keys(source, &sections.encryption)?,
        trust_anchor_pem: read_trust_anchor(source, sections)?,
        upload: sections.upload,
        bundle: sections.bundle,
        download: sections.download,
        legacy_sha1: sections.signatures.legacy_sha1.clone(),
        pss: sections.signatures.pss.clone(),
        cpu_threads: sections.engine.cpu_threads,
        continuity: ContinuitySettings {
            state_file: read_state_file(source, sections),
            accept_unflushed_commits: sections.database.accept_unflushed_commits,
        },
        quota: sections.quota.read(),
        memory: sections.memory,
    };
    match settings.contradiction() {
        None => Ok(settings),
        Some(found) => Err(source.error(found.section, found.key, &found.must)),
    }
}

fn read_state_file(source: &Source, sections: &Sections) -> Option<PathBuf> {
    let path = &sections.database.state_file;
    (!path.as_os_str().is_empty()).then(|| source.resolve(path))
}

fn read_keys(source: &Source, section: &Encryption) -> Result<Keys, SettingsError> {
    let cannot = |error| format!("cannot be used: {error}");
    if !section.keys.0.is_empty() {
        // A variable of one line is easier to pass on.
        let text = section.keys.0.replace(';', "\n");
        let keys = Keys::parse(&text);
        return keys.map_err(|error| source.error("encryption", "keys", &cannot(error)));
    }
    let text = source.read_private(("encryption", "key_file"), &section.key_file)?;
    Keys::parse(&text).map_err(|error| {
        let path = source.resolve(&section.key_file);
        let names = format!("names {}, which {}", path.display(), cannot(error));
        source.error("encryption", "key_file", &names)
    })
}

fn read_trust_anchor(source: &Source, sections: &Sections) -> Result<String, SettingsError> {
    let name = ("trust_anchor", "certificate");
    source.read_pem(name, &sections.trust_anchor.certificate, "CERTIFICATE")
}

fn read_public(source: &Source, section: Public) -> Result<Option<PublicSettings>, SettingsError> {
    let Some(listen) = section.listen.0 else {
        return Ok(None);
    };
    let pem = |name, path, kind| source.read_pem(("public", name), path, kind);
    check_networks(
        source,
        ("public", "proxy_protocol_from"),
        &section.proxy_protocol_from,
    )?;
    Ok(Some(PublicSettings {
        listen,
        proxy_protocol_from: section.proxy_protocol_from,
        tls: TlsSettings {
            certificate_chain_pem: pem("certificate", &section.certificate, "CERTIFICATE")?,
            private_key_pem: source
                .read_private_key(("public", "private_key"), &section.private_key)?,
        },
    }))
}

fn read_callback(
    source: &Source,
    mut settings: CallbackSettings,
) -> Result<CallbackSettings, SettingsError> {
    settings.identity = read_callback_identity(source, &settings)?;
    if !settings.ca_file.as_os_str().is_empty() {
        let pem = source.read_pem(("callback", "ca_file"), &settings.ca_file, "CERTIFICATE")?;
        settings.ca_pem = Some(pem);
    }
    if let Some((host, port)) = settings.proxy_url.0.clone() {
        let credentials = read_credentials(source, &settings)?;
        settings.proxy = Some(CallbackProxy {
            host,
            port,
            credentials,
        });
    }
    settings.retry_wait_max = settings.retry_wait_max.max(settings.retry_wait);
    Ok(settings)
}

fn read_callback_identity(
    source: &Source,
    settings: &CallbackSettings,
) -> Result<Option<TlsSettings>, SettingsError> {
    let (certificate, key) = (&settings.certificate, &settings.private_key);
    if certificate.as_os_str().is_empty() && key.as_os_str().is_empty() {
        return Ok(None);
    }
    let pem = |name, path, kind| source.read_pem(("callback", name), path, kind);
    Ok(Some(TlsSettings {
        certificate_chain_pem: pem("certificate", certificate, "CERTIFICATE")?,
        private_key_pem: source.read_private_key(("callback", "private_key"), key)?,
    }))
}

fn read_credentials(
    source: &Source,
    settings: &CallbackSettings,
) -> Result<Option<(String, String)>, SettingsError> {
    let user = &settings.proxy_user;
    if user.is_empty() {
        return Ok(None);
    }
    // RFC 7617 §2: the first colon ends the user.
    if user.contains(':') {
        return Err(source.error("callback", "proxy_user", "must not have a colon"));
    }
    let mut password = settings.proxy_password.0.clone();
    if password.is_empty() {
        let file = ("callback", "proxy_password_file");
        let text = source.read_private(file, &settings.proxy_password_file)?;
        password = text.trim_end_matches(['\r', '\n']).to_owned();
    }
    Ok(Some((user.clone(), password)))
}
