//! The declarations of all settings as data: what reading, template and help go by.

use std::fmt;
use std::ops::RangeInclusive;
use std::sync::LazyLock;

use schemars::generate::SchemaSettings;
use serde_json::Value;

use super::sections::Sections;

/// A section of the configuration file.
pub(super) struct Section {
    pub(super) name: String,
    pub(super) doc: String,
    pub(super) settings: Vec<Setting>,
}

/// A setting.
pub(super) struct Setting {
    pub(super) section: String,
    pub(super) key: String,
    pub(super) doc: String,
    /// In TOML.
    pub(super) default: String,
    pub(super) kind: Kind,
    /// What it is, where its kind does not say it.
    described: Option<String>,
    /// For a secret, which must not stand in the configuration file: the setting that names a file
    /// with it.
    pub(super) file_setting: Option<String>,
}

/// What TOML value a setting is.
pub(super) enum Kind {
    /// A text.
    Text,
    /// A list of texts.
    List,
    /// A whole number in a range.
    Number(RangeInclusive<i64>),
    /// True or false.
    Switch,
}

impl Setting {
    /// The environment variable.
    pub(super) fn variable(&self) -> String {
        format!("{PREFIX}_{}__{}", self.section, self.key).to_ascii_uppercase()
    }

    /// What an error asks for.
    pub(super) fn allowed(&self) -> String {
        match (&self.described, &self.kind) {
            (Some(described), _) => described.clone(),
            (None, Kind::Text) => "text in quotes".to_owned(),
            (None, Kind::List) => "a list of texts, as in [\"a\", \"b\"]".to_owned(),
            (None, Kind::Switch) => "true or false".to_owned(),
            (None, Kind::Number(range)) => {
                format!("a whole number from {} to {}", range.start(), range.end())
            }
        }
    }
}

/// As in the configuration file.
impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[{}] {}", self.section, self.key)
    }
}

/// What the names of all our environment variables begin with.
pub(super) const PREFIX: &str = "EFGS_";

/// All sections, in the order of their declaration.
pub(super) fn sections() -> &'static [Section] {
    static SECTIONS: LazyLock<Vec<Section>> = LazyLock::new(read_declarations);
    &SECTIONS
}

/// All settings, in the order of their declaration.
pub(super) fn settings() -> impl Iterator<Item = &'static Setting> {
    sections().iter().flat_map(|section| &section.settings)
}

/// A setting that is declared.
pub(super) fn setting(section: &str, key: &str) -> &'static Setting {
    let is = |setting: &&Setting| setting.section == section && setting.key == key;
    settings().find(is).expect("code names declared settings")
}

/// The schema's objects are ordered by name; the defaults are written in order of declaration.
fn read_declarations() -> Vec<Section> {
    let inline = SchemaSettings::default().with(|settings| settings.inline_subschemas = true);
    let schema = inline.into_generator().into_root_schema_for::<Sections>();
    let schema = schema.to_value();
    let defaults = toml::to_string(&Sections::default()).expect("defaults can be written");
    let mut sections: Vec<Section> = Vec::new();
    for line in defaults.lines() {
        if let Some(name) = line
            .strip_prefix('[')
            .and_then(|rest| rest.strip_suffix(']'))
        {
            sections.push(Section {
                name: name.to_owned(),
                doc: doc(&schema["properties"][name]),
                settings: Vec::new(),
            });
        } else if let Some((key, default)) = line.split_once(" = ")
            && let Some(section) = sections.last_mut()
        {
            let declared = &schema["properties"][&section.name]["properties"][key];
            let setting = read_declaration(declared, &section.name, key, default);
            section.settings.push(setting);
        }
    }
    sections
}

fn read_declaration(declared: &Value, section: &str, key: &str, default: &str) -> Setting {
    let text = |name| declared[name].as_str().map(str::to_owned);
    let bound = |name| declared[name].as_i64().expect("numbers have a range");
    Setting {
        section: section.to_owned(),
        key: key.to_owned(),
        doc: doc(declared),
        default: default.to_owned(),
        kind: match declared["type"].as_str() {
            Some("integer") => Kind::Number(bound("minimum")..=bound("maximum")),
            Some("array") => Kind::List,
            Some("boolean") => Kind::Switch,
            _ => Kind::Text,
        },
        described: text("allowed"),
        file_setting: text("file_setting"),
    }
}

/// Documentation on one line.
fn doc(declared: &Value) -> String {
    let doc = declared["description"].as_str().unwrap_or_default();
    doc.replace('\n', " ")
}
