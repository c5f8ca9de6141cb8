//! Where settings come from: the configuration file, overridden by the environment.
//!
//! Every name is known here; an unknown one is an error wherever it stands. Values are never part
//! of a message: any of them may be a secret.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use toml::{Table, Value};

/// Why the settings cannot be used: one sentence that says what to do, without any value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

/// Every setting, by section. What stands in the environment only is a secret.
const KNOWN: &[(&str, &[&str])] = &[
    ("public", &["listen", "certificate", "private_key"]),
    (
        "proxy",
        &[
            "listen",
            "trusted_peers",
            "thumbprint_header",
            "distinguished_name_header",
        ],
    ),
    ("operations", &["listen"]),
    ("database", &["url"]),
    ("encryption", &["key_file", "keys"]),
    ("trust_anchor", &["certificate"]),
    (
        "upload",
        &[
            "keys_max",
            "body_bytes_max",
            "batches_in_flight_max",
            "bytes_in_flight_max",
        ],
    ),
    ("bundle", &["max_delay_ms", "keys_max", "cache_bytes_max"]),
    ("download", &["max_age_days"]),
    (
        "callback",
        &[
            "certificate",
            "private_key",
            "ca_file",
            "allowed_networks",
            "allowed_hosts",
            "proxy_url",
            "proxy_user",
            "proxy_password_file",
            "proxy_password",
            "interval_ms",
            "connect_timeout_ms",
            "read_timeout_ms",
            "attempts_max",
            "retry_wait_ms",
            "retry_wait_max_ms",
            "deliveries_max",
        ],
    ),
    ("signatures", &["legacy_sha1", "pss"]),
    ("log", &["format", "level"]),
    ("engine", &["cpu_threads"]),
];

/// A setting: section and key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Name(pub(super) &'static str, pub(super) &'static str);

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.0, self.1)
    }
}

/// All settings that were given, as they were given.
pub(super) struct Source {
    file: PathBuf,
    values: BTreeMap<Name, Given>,
}

/// Does not show what was given.
impl fmt::Debug for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Source")
            .field("file", &self.file)
            .finish_non_exhaustive()
    }
}

enum Given {
    File(Value),
    Environment(String),
}

impl Source {
    /// Reads the file and lays the environment over it.
    pub(super) fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<Self, SettingsError> {
        let text = fs::read_to_string(file).map_err(|error| {
            SettingsError(format!(
                "cannot read the configuration file {}: {error}; make one with `efgs init`, or name another with --config",
                file.display()
            ))
        })?;
        let mut values = read_file(file, &text)?;
        values.extend(read_environment(environment)?);
        Ok(Self {
            file: file.to_owned(),
            values,
        })
    }

    /// Where a setting was given, for messages.
    pub(super) fn place(&self, name: Name) -> String {
        match self.values.get(&name) {
            Some(Given::Environment(_)) => format!("{name} in {}", variable(name)),
            _ => format!("{name} in {}", self.file.display()),
        }
    }

    /// An error about a setting, with its place.
    pub(super) fn error(&self, name: Name, must: &str) -> SettingsError {
        SettingsError(format!("{} {must}", self.place(name)))
    }

    /// A text, if given.
    pub(super) fn text(&self, name: Name) -> Result<Option<&str>, SettingsError> {
        match self.values.get(&name) {
            None => Ok(None),
            Some(Given::Environment(text) | Given::File(Value::String(text))) => Ok(Some(text)),
            Some(Given::File(_)) => Err(self.error(name, "must be text in quotes")),
        }
    }

    /// A text that must be there.
    pub(super) fn required(&self, name: Name, what: &str) -> Result<&str, SettingsError> {
        match self.text(name)? {
            Some(text) if !text.is_empty() => Ok(text),
            _ => Err(SettingsError(format!(
                "{name} is missing in {}: set it to {what}, there or in {}",
                self.file.display(),
                variable(name)
            ))),
        }
    }

    /// A path, if given; a relative one begins at the folder of the configuration file.
    pub(super) fn path(&self, name: Name) -> Result<Option<PathBuf>, SettingsError> {
        let given = self.text(name)?.filter(|text| !text.is_empty());
        Ok(given.map(|text| self.resolve(Path::new(text))))
    }

    /// What a path means: a relative one begins at the folder of the configuration file.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        match self.file.parent() {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        }
    }

    /// The text of the file that a setting names.
    pub(super) fn file_text(&self, name: Name, path: &Path) -> Result<String, SettingsError> {
        fs::read_to_string(path).map_err(|error| {
            self.error(
                name,
                &format!("names {}, which cannot be read: {error}", path.display()),
            )
        })
    }

    /// A whole number within a range, or `default`.
    pub(super) fn number<T>(
        &self,
        name: Name,
        range: RangeInclusive<T>,
        default: T,
    ) -> Result<T, SettingsError>
    where
        T: TryFrom<i64> + PartialOrd + fmt::Display,
    {
        let number = match self.values.get(&name) {
            None => return Ok(default),
            Some(Given::File(value)) => value.as_integer(),
            Some(Given::Environment(text)) => text.trim().parse().ok(),
        };
        let number = number.and_then(|number| T::try_from(number).ok());
        number
            .filter(|number| range.contains(number))
            .ok_or_else(|| {
                let (least, most) = (range.start(), range.end());
                self.error(
                    name,
                    &format!("must be a whole number from {least} to {most}"),
                )
            })
    }

    /// A list of texts, if given: an array in the file, separated by commas in the environment.
    pub(super) fn list(&self, name: Name) -> Result<Option<Vec<&str>>, SettingsError> {
        match self.values.get(&name) {
            None => Ok(None),
            Some(Given::Environment(text)) => {
                let items = text.split(',').map(str::trim);
                Ok(Some(items.filter(|item| !item.is_empty()).collect()))
            }
            Some(Given::File(value)) => {
                let items = value.as_array().map(Vec::as_slice);
                let items = items.and_then(|items| items.iter().map(Value::as_str).collect());
                let wrong = || self.error(name, "must be a list of texts, as in [\"a\", \"b\"]");
                items.map(Some).ok_or_else(wrong)
            }
        }
    }

    /// An address to listen on: the default if not given, nothing for `off`.
    pub(super) fn listen(
        &self,
        name: Name,
        default: Option<SocketAddr>,
    ) -> Result<Option<SocketAddr>, SettingsError> {
        match self.text(name)? {
            None => Ok(default),
            Some("off") => Ok(None),
            Some(text) => text.parse().map(Some).map_err(|_| {
                self.error(
                    name,
                    "must be ADDRESS:PORT, as in \"127.0.0.1:8443\", or \"off\"",
                )
            }),
        }
    }
}

fn read_file(file: &Path, text: &str) -> Result<BTreeMap<Name, Given>, SettingsError> {
    let table: Table = toml::from_str(text).map_err(|error: toml::de::Error| {
        let start = error.span().map_or(0, |span| span.start);
        let line = text
            .bytes()
            .take(start)
            .filter(|&byte| byte == b'\n')
            .count()
            + 1;
        SettingsError(format!(
            "line {line} of {} is not TOML: {}",
            file.display(),
            error.message().lines().next().unwrap_or_default()
        ))
    })?;
    let mut values = BTreeMap::new();
    for (section, content) in table {
        let known = section_keys(&section).ok_or_else(|| unknown_section(file, &section))?;
        let Value::Table(content) = content else {
            let message = format!(
                "{section} in {} must be a section: write [{section}]",
                file.display()
            );
            return Err(SettingsError(message));
        };
        for (key, value) in content {
            let found = known.1.iter().find(|known| **known == key);
            let key = found.ok_or_else(|| unknown_key(file, known, &key))?;
            values.insert(Name(known.0, key), Given::File(value));
        }
    }
    if values.contains_key(&ENCRYPTION_KEYS) {
        return Err(SettingsError(format!(
            "{ENCRYPTION_KEYS} must not stand in {}: move the keys to a file of their own and name it in [encryption] key_file",
            file.display()
        )));
    }
    if values.contains_key(&CALLBACK_PROXY_PASSWORD) {
        return Err(SettingsError(format!(
            "{CALLBACK_PROXY_PASSWORD} must not stand in {}: move the password to a file of its own and name it in [callback] proxy_password_file",
            file.display()
        )));
    }
    Ok(values)
}

/// A setting that the file must not hold.
pub(super) const ENCRYPTION_KEYS: Name = Name("encryption", "keys");
/// The other one.
pub(super) const CALLBACK_PROXY_PASSWORD: Name = Name("callback", "proxy_password");

const PREFIX: &str = "EFGS__";

fn read_environment(
    environment: impl IntoIterator<Item = (OsString, OsString)>,
) -> Result<BTreeMap<Name, Given>, SettingsError> {
    let mut values = BTreeMap::new();
    for (variable, value) in environment {
        let variable = variable.to_string_lossy();
        let Some(path) = variable.strip_prefix(PREFIX) else {
            continue;
        };
        let name = find_variable(path).ok_or_else(|| {
            SettingsError(format!(
                "the environment variable {variable} names no setting: unset it, or spell it {PREFIX}SECTION__KEY with one of the settings that `efgs help serve` lists"
            ))
        })?;
        let value = value.into_string().map_err(|_| {
            SettingsError(format!("the environment variable {variable} must be UTF-8"))
        })?;
        values.insert(name, Given::Environment(value));
    }
    Ok(values)
}

fn find_variable(path: &str) -> Option<Name> {
    let (section, key) = path.split_once("__")?;
    let (section, keys) = section_keys(&in_lower_case(section)?)?;
    let key = in_lower_case(key)?;
    let key = keys.iter().find(|known| **known == key)?;
    Some(Name(section, key))
}

/// The lower-case form of a name in capitals.
fn in_lower_case(name: &str) -> Option<String> {
    let capital = !name.bytes().any(|byte| byte.is_ascii_lowercase());
    capital.then(|| name.to_ascii_lowercase())
}

fn variable(name: Name) -> String {
    format!("{PREFIX}{}__{}", name.0, name.1).to_ascii_uppercase()
}

fn section_keys(section: &str) -> Option<(&'static str, &'static [&'static str])> {
    let mut sections = KNOWN.iter().copied();
    sections.find(|(known, _)| *known == section)
}

fn unknown_section(file: &Path, section: &str) -> SettingsError {
    let known: Vec<_> = KNOWN.iter().map(|(section, _)| *section).collect();
    SettingsError(format!(
        "unknown section [{section}] in {}: known are {}",
        file.display(),
        known.join(", ")
    ))
}

fn unknown_key(file: &Path, section: (&str, &[&str]), key: &str) -> SettingsError {
    SettingsError(format!(
        "unknown setting {key} in [{}] of {}: known are {}",
        section.0,
        file.display(),
        section.1.join(", ")
    ))
}

/// All settings with their environment variables, for help texts.
pub fn variables() -> impl Iterator<Item = String> {
    let names = KNOWN
        .iter()
        .flat_map(|(section, keys)| keys.iter().map(|key| Name(section, key)));
    names.map(variable)
}

/// The process environment, as [`super::Settings::load`] wants it.
pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    std::env::vars_os().filter(|(name, _)| starts_with(name, PREFIX))
}

fn starts_with(name: &OsStr, prefix: &str) -> bool {
    name.as_encoded_bytes().starts_with(prefix.as_bytes())
}
