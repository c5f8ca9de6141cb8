//! Reads the configuration file and the environment, which overrides it, by the declarations of
//! the settings. Unknown names are errors; values are never part of a message.

use std::cell::RefCell;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use figment::value::{Dict, Map, Value};
use figment::{Figment, Metadata, Profile, Provider};
use strsim::{damerau_levenshtein, jaro_winkler};
use toml::Table;

use crate::pem_text;

use super::permissions::Others;
use super::schema::{self, Kind, PREFIX, Setting};
use super::sections::Sections;

/// Why the settings cannot be used: one sentence that says what to do, without any value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SettingsError(pub String);

/// All settings, and where each was given.
pub(super) struct Source {
    file: PathBuf,
    given: Figment,
    /// Those that settings name, as far as they were read.
    named_files: RefCell<Vec<PathBuf>>,
    /// What was found that works, and should be seen to.
    warnings: RefCell<Vec<String>>,
}

/// What one place gives: the file, or one variable.
struct Layer {
    place: String,
    values: Dict,
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.place.clone())
    }

    fn data(&self) -> Result<Map<Profile, Dict>, figment::Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

impl Source {
    /// Reads the file and the environment.
    pub(super) fn load(
        file: &Path,
        environment: impl IntoIterator<Item = (OsString, OsString)>,
    ) -> Result<(Self, Sections), SettingsError> {
        let mut given = Figment::from(read_file(file)?);
        for (variable, value) in environment {
            if let Some(layer) = read_variable(&variable.to_string_lossy(), value)? {
                given = given.merge(layer);
            }
        }
        let file = file.to_owned();
        let source = Self {
            file,
            given,
            named_files: RefCell::default(),
            warnings: RefCell::default(),
        };
        source.check_numbers()?;
        let sections = source.given.extract();
        let sections = sections.map_err(|error| source.unreadable(&error))?;
        Ok((source, sections))
    }

    fn check_numbers(&self) -> Result<(), SettingsError> {
        for setting in schema::settings() {
            if let Kind::Number(range) = &setting.kind
                && let Ok(value) = self.given.find_value(&path(setting))
            {
                let number = value
                    .to_i128()
                    .and_then(|number| i64::try_from(number).ok());
                if !number.is_some_and(|number| range.contains(&number)) {
                    return Err(self.not_allowed(setting));
                }
            }
        }
        Ok(())
    }

    /// figment's own message would show the value; the declaration says what is allowed instead.
    fn unreadable(&self, error: &figment::Error) -> SettingsError {
        match error.path.as_slice() {
            [section, key, ..] => self.not_allowed(schema::setting(section, key)),
            _ => SettingsError(format!("{} cannot be read", self.file.display())),
        }
    }

    fn not_allowed(&self, setting: &Setting) -> SettingsError {
        SettingsError(format!(
            "{} must be {}",
            self.place(setting),
            setting.allowed()
        ))
    }

    fn place(&self, setting: &Setting) -> String {
        match self.given.find_metadata(&path(setting)) {
            Some(metadata) => format!("{setting} in {}", metadata.name),
            None => format!("{setting} in {}", self.file.display()),
        }
    }

    /// An error about a setting that was given.
    pub(super) fn error(&self, section: &str, key: &str, must: &str) -> SettingsError {
        let setting = schema::setting(section, key);
        SettingsError(format!("{} {must}", self.place(setting)))
    }

    /// The error about a setting that must be what it is declared to be, or be given at all.
    pub(super) fn refuse(&self, section: &str, key: &str) -> SettingsError {
        let setting = schema::setting(section, key);
        let is_empty = |value: Value| value.as_str().is_some_and(str::is_empty);
        if !self.given.find_value(&path(setting)).map_or(true, is_empty) {
            return self.not_allowed(setting);
        }
        SettingsError(format!(
            "{setting} is missing in {}: set it to {}, there or in {}",
            self.file.display(),
            setting.allowed(),
            setting.variable()
        ))
    }

    /// The configuration file, and those that settings name and that were read.
    pub(super) fn files(&self) -> Vec<PathBuf> {
        let mut files = vec![self.file.clone()];
        files.extend_from_slice(&self.named_files.borrow());
        files
    }

    /// Resolves a path; a relative one starts at the folder of the configuration file.
    pub(super) fn resolve(&self, path: &Path) -> PathBuf {
        match self.file.parent() {
            Some(folder) => folder.join(path),
            None => path.to_owned(),
        }
    }

    /// The text of the file that a setting names.
    pub(super) fn read(
        &self,
        (section, key): (&str, &str),
        path: &Path,
    ) -> Result<String, SettingsError> {
        if path.as_os_str().is_empty() {
            return Err(self.refuse(section, key));
        }
        let path = self.resolve(path);
        self.named_files.borrow_mut().push(path.clone());
        fs::read_to_string(&path).map_err(|error| {
            let cannot = format!(
                "names {}, which cannot be read: {error}; {}",
                path.display(),
                remedy(&error)
            );
            self.error(section, key, &cannot)
        })
    }

    /// The same of a file that nobody else may write, and should not read.
    pub(super) fn read_private(
        &self,
        (section, key): (&str, &str),
        path: &Path,
    ) -> Result<String, SettingsError> {
        let text = self.read((section, key), path)?;
        let path = self.resolve(path);
        match others(&path) {
            Others::Nothing => {}
            Others::Read => self.warn(format!(
                "others can read {}, which [{section}] {key} names: let only the gateway's user read it",
                path.display()
            )),
            Others::Write => {
                let must = format!(
                    "names {0}, which others can write: look at what it holds, then chmod go-w {0}",
                    path.display()
                );
                return Err(self.error(section, key, &must));
            }
        }
        Ok(text)
    }

    /// The text of the private key that a setting names.
    pub(super) fn read_private_key(
        &self,
        name: (&str, &str),
        path: &Path,
    ) -> Result<String, SettingsError> {
        self.read_private(name, path)?;
        self.read_pem(name, path, "PRIVATE KEY")
    }

    /// The same of the configuration file itself, if it holds the database's password.
    pub(super) fn check_own_file(&self, database_url: &str) -> Result<(), SettingsError> {
        let place = self.given.find_metadata("database.url");
        let file = self.file.display();
        let is_elsewhere = place.is_none_or(|place| place.name != file.to_string());
        if is_elsewhere || !has_password(database_url) {
            return Ok(());
        }
        match others(&self.file) {
            Others::Nothing => Ok(()),
            Others::Read => {
                self.warn(format!(
                    "others can read {file}, which holds the password of the database: let only the \
                     gateway's user read it"
                ));
                Ok(())
            }
            Others::Write => Err(SettingsError(format!(
                "others can write {file}, which holds the password of the database: look at what it \
                 holds, then chmod go-w {file}"
            ))),
        }
    }

    pub(super) fn warn(&self, warning: String) {
        self.warnings.borrow_mut().push(warning);
    }

    pub(super) fn take_warnings(&self) -> Vec<String> {
        self.warnings.take()
    }

    /// The text of the PEM file that a setting names; it has a block of the wanted kind.
    pub(super) fn read_pem(
        &self,
        (section, key): (&str, &str),
        path: &Path,
        kind: &str,
    ) -> Result<String, SettingsError> {
        let text = self.read((section, key), path)?;
        if let Some(obstacle) = pem_text::obstacle(&text) {
            let must = format!("names {}, which {obstacle}", self.resolve(path).display());
            return Err(self.error(section, key, &must));
        }
        if text.contains("-----BEGIN ") && text.contains(&format!("{kind}-----")) {
            return Ok(text);
        }
        let path = self.resolve(path);
        let must = format!(
            "must name {}; {} is none",
            schema::setting(section, key).allowed(),
            path.display()
        );
        Err(self.error(section, key, &must))
    }
}

/// What to do about a file that cannot be read.
fn remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => {
            "put it there, or correct the path (a relative one starts at the folder of the configuration \
             file); efgs init makes all files"
        }
        io::ErrorKind::PermissionDenied => "let the gateway's user read it",
        io::ErrorKind::InvalidData => {
            "PEM is wanted: convert DER with openssl x509 or openssl pkey, -inform DER -in FILE -out NEW"
        }
        _ => "look at the disk, or name another file",
    }
}

/// Who else can do what with a file that has been read.
fn others(path: &Path) -> Others {
    let group = rustix::process::getegid().as_raw();
    fs::metadata(path).map_or(Others::Nothing, |metadata| Others::of(&metadata, group))
}

/// Whether a URL has a password: `SCHEME://USER:PASSWORD@HOST`.
fn has_password(url: &str) -> bool {
    let rest = url.split_once("://").map(|(_, rest)| rest);
    let user = rest.and_then(|rest| rest.rsplit_once('@'));
    user.is_some_and(|(user, _)| user.contains(':'))
}

fn path(setting: &Setting) -> String {
    format!("{}.{}", setting.section, setting.key)
}

fn read_file(file: &Path) -> Result<Layer, SettingsError> {
    let place = file.display().to_string();
    let text = fs::read_to_string(file).map_err(|error| {
        SettingsError(format!(
            "cannot read the configuration file {place}: {error}; make one with `efgs init`, or name another with --config"
        ))
    })?;
    let table = toml::from_str(&text).map_err(|error| not_toml(&place, &text, &error))?;
    check_names(&place, &table)?;
    // A TOML table has nothing that the library's values cannot hold.
    let values = Value::serialize(table).ok().and_then(Value::into_dict);
    Ok(Layer {
        values: values.unwrap_or_default(),
        place,
    })
}

fn not_toml(place: &str, text: &str, error: &toml::de::Error) -> SettingsError {
    let start = error.span().map_or(0, |span| span.start);
    let lines = text.bytes().take(start).filter(|&byte| byte == b'\n');
    let (line, reason) = (lines.count() + 1, error.message().lines().next());
    let reason = reason.unwrap_or_default();
    SettingsError(format!("line {line} of {place} is not TOML: {reason}"))
}

/// Refuses sections and settings that are not declared, and secrets.
fn check_names(place: &str, table: &Table) -> Result<(), SettingsError> {
    for (name, content) in table {
        let mut sections = schema::sections().iter();
        let Some(section) = sections.find(|section| section.name == *name) else {
            let known = schema::sections().iter().map(|section| &*section.name);
            let hint = hint(name, known);
            return Err(SettingsError(format!(
                "unknown section [{name}] in {place}: {hint}"
            )));
        };
        let content = content.as_table().ok_or_else(|| {
            SettingsError(format!(
                "{name} in {place} must be a section: write [{name}]"
            ))
        })?;
        for key in content.keys() {
            check_key(place, &section.settings, name, key)?;
        }
    }
    Ok(())
}

fn check_key(
    place: &str,
    settings: &[Setting],
    section: &str,
    key: &str,
) -> Result<(), SettingsError> {
    let Some(setting) = settings.iter().find(|setting| setting.key == key) else {
        let hint = hint(key, settings.iter().map(|setting| &*setting.key));
        return Err(SettingsError(format!(
            "unknown setting {key} in [{section}] of {place}: {hint}"
        )));
    };
    match &setting.file_setting {
        None => Ok(()),
        Some(other) => Err(SettingsError(format!(
            "{setting} must not stand in {place}: move it to a file of its own and name that in [{section}] {other}"
        ))),
    }
}

/// The nearest of the known names, and all of them.
fn hint<'a>(found: &str, known: impl Iterator<Item = &'a str> + Clone) -> String {
    let all = known.clone().collect::<Vec<_>>().join(", ");
    let similarities = known.map(|name| (jaro_winkler(found, name), name));
    match similarities.max_by(|a, b| a.0.total_cmp(&b.0)) {
        Some((similarity, name)) if similarity > 0.7 => {
            format!("did you mean {name}? Known are {all}")
        }
        _ => format!("known are {all}"),
    }
}

/// What a variable sets; nothing if it is not ours.
fn read_variable(variable: &str, value: OsString) -> Result<Option<Layer>, SettingsError> {
    let Some(setting) = schema::settings().find(|setting| setting.variable() == variable) else {
        return refuse_variable(variable).map(|()| None);
    };
    let place = variable.to_owned();
    let text = value
        .into_string()
        .map_err(|_| SettingsError(format!("the environment variable {place} must be UTF-8")))?;
    let value = match setting.kind {
        Kind::Number(_) => match text.trim().parse::<i64>() {
            Ok(number) => Value::from(number),
            Err(_) => Value::from(text),
        },
        Kind::List => {
            let items = text.split(',').map(str::trim);
            let items = items.filter(|item| !item.is_empty());
            Value::from(items.collect::<Vec<_>>())
        }
        Kind::Switch => match text.trim().parse::<bool>() {
            Ok(is_on) => Value::from(is_on),
            Err(_) => Value::from(text),
        },
        Kind::Text => Value::from(text),
    };
    let section = Dict::from([(setting.key.clone(), value)]);
    let values = Dict::from([(setting.section.clone(), Value::from(section))]);
    Ok(Some(Layer { place, values }))
}

/// Refuses a variable whose name is like a setting's.
///
/// With the whole prefix it must be one. With one underscore it may be somebody else's (Kubernetes
/// names variables after services, as `EFGS_DATABASE_SERVICE_HOST`), so only a near miss counts.
fn refuse_variable(variable: &str) -> Result<(), SettingsError> {
    let plain = |name: &str| name.replace("__", "_").to_ascii_uppercase();
    let distances = schema::settings().map(|setting| {
        let known = setting.variable();
        (damerau_levenshtein(&plain(variable), &plain(&known)), known)
    });
    let nearest = distances.min_by_key(|(distance, _)| *distance);
    let ours = variable
        .strip_prefix(PREFIX)
        .is_some_and(|rest| rest.starts_with('_'));
    let near = if ours { 4 } else { 1 };
    let hint = match nearest {
        Some((distance, known)) if distance <= near => format!("did you mean {known}?"),
        _ if ours => "unset it, or see `efgs help serve`".to_owned(),
        _ => return Ok(()),
    };
    Err(SettingsError(format!(
        "the environment variable {variable} names no setting: {hint}"
    )))
}

/// The variables of the process that may be ours, as [`super::Settings::load`] wants them.
pub fn environment() -> impl Iterator<Item = (OsString, OsString)> {
    let ours = |name: &OsString| name.as_encoded_bytes().starts_with(PREFIX.as_bytes());
    std::env::vars_os().filter(move |(name, _)| ours(name))
}
