//! Reads `[database]`, and looks at the files that it names.

use std::path::Path;

use engine::settings::{ClientIdentity, DatabaseUrl, DatabaseUrlError, ServerTls, ServerUrl};

use super::database::Database;
use super::source::{SettingsError, Source};

const SECTION: &str = "database";

/// The database, with the files that it names looked at.
pub(super) fn read(source: &Source, section: &Database) -> Result<DatabaseUrl, SettingsError> {
    section.read(source)
}

impl Database {
    fn read(&self, source: &Source) -> Result<DatabaseUrl, SettingsError> {
        match self.url.parse() {
            Ok(DatabaseUrl::Sqlite(path)) => self.read_file(source, &path),
            Ok(DatabaseUrl::Mysql(server)) => self.read_server(source, *server),
            Err(DatabaseUrlError::Form) => Err(source.refuse(SECTION, "url")),
            Err(error) => Err(source.error(SECTION, "url", &format!("cannot be used: {error}"))),
        }
    }

    fn read_file(&self, source: &Source, path: &Path) -> Result<DatabaseUrl, SettingsError> {
        let of_servers = [
            ("tls_ca", &self.tls_ca),
            ("tls_certificate", &self.tls_certificate),
            ("tls_key", &self.tls_key),
            ("password_file", &self.password_file),
        ];
        let mut given = of_servers.iter().filter(|(_, path)| is_given(path));
        match given.next() {
            None => Ok(DatabaseUrl::Sqlite(source.resolve(path))),
            Some((key, _)) => {
                let must = "is for a server, and [database] url names a file: leave it out";
                Err(source.error(SECTION, key, must))
            }
        }
    }

    fn read_server(
        &self,
        source: &Source,
        mut server: ServerUrl,
    ) -> Result<DatabaseUrl, SettingsError> {
        if let Some(tls) = self.read_tls(source)? {
            server.tls = Some(tls);
        }
        if is_given(&self.password_file) {
            source.read_private((SECTION, "password_file"), &self.password_file)?;
            server.password_file = Some(source.resolve(&self.password_file));
        }
        let checked = server.checked();
        let server = checked.map_err(|_| {
            let must = "is given, and [database] url holds a password, too: take it out there";
            source.error(SECTION, "password_file", must)
        })?;
        Ok(DatabaseUrl::Mysql(Box::new(server)))
    }

    fn read_tls(&self, source: &Source) -> Result<Option<ServerTls>, SettingsError> {
        let identity = self.read_identity(source)?;
        match (is_given(&self.tls_ca), identity) {
            (true, identity) => {
                source.read_pem((SECTION, "tls_ca"), &self.tls_ca, "CERTIFICATE")?;
                let ca = source.resolve(&self.tls_ca);
                Ok(Some(ServerTls { ca, identity }))
            }
            (false, None) => Ok(None),
            (false, Some(_)) => {
                let must = "needs [database] tls_ca, too: there is no TLS without it";
                Err(source.error(SECTION, "tls_certificate", must))
            }
        }
    }

    fn read_identity(&self, source: &Source) -> Result<Option<ClientIdentity>, SettingsError> {
        let Self {
            tls_certificate,
            tls_key,
            ..
        } = self;
        if !is_given(tls_certificate) && !is_given(tls_key) {
            return Ok(None);
        }
        source.read_pem((SECTION, "tls_certificate"), tls_certificate, "CERTIFICATE")?;
        source.read_private_key((SECTION, "tls_key"), tls_key)?;
        Ok(Some(ClientIdentity {
            certificate: source.resolve(tls_certificate),
            key: source.resolve(tls_key),
        }))
    }
}

fn is_given(path: &Path) -> bool {
    !path.as_os_str().is_empty()
}
