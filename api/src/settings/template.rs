//! The configuration file that `efgs init` writes, and the list of settings in `efgs help serve`.

use super::schema::{self, Kind, Setting};

/// A setting that a template sets: section, key and value.
#[derive(Debug)]
pub struct Given<'a>(pub &'a str, pub &'a str, pub toml::Value);

const HEAD: &str = "\
# Configuration of an EFGS gateway; `efgs help serve` lists the settings, too.
# Relative paths start at this file's folder. Settings that are commented out show their default.
# The environment overrides each of them, as EFGS__DATABASE__URL does for [database] url.
";

/// Writes a configuration file with every setting: the given ones are set, the others stand in
/// comments with their default.
pub fn template(given: &[Given<'_>]) -> String {
    let mut out = String::from(HEAD);
    for section in schema::sections() {
        out.push('\n');
        comment(&mut out, &section.doc);
        out += &format!("[{}]\n", section.name);
        let in_file = |setting: &&Setting| setting.file_setting.is_none();
        for setting in section.settings.iter().filter(in_file) {
            comment(&mut out, &doc(setting));
            let Setting { section, key, .. } = setting;
            let mut given = given.iter();
            match given.find(|given| given.0 == section && given.1 == key) {
                Some(Given(_, _, value)) => out += &format!("{key} = {value}\n"),
                None => out += &format!("# {key} = {}\n", setting.default),
            }
        }
    }
    out
}

/// Every setting with its environment variable, default and meaning, for help texts.
pub fn help() -> String {
    let mut out = String::new();
    for section in schema::sections() {
        out += &format!("\n[{}] {}\n", section.name, section.doc);
        for setting in &section.settings {
            let (variable, default) = (setting.variable(), &setting.default);
            match &setting.file_setting {
                None => out += &format!("  {} = {default}\n", setting.key),
                Some(_) => out += "  (in the environment only)\n",
            }
            out += &format!("      {variable}\n      {}\n", doc(setting));
        }
    }
    out
}

fn doc(setting: &Setting) -> String {
    match &setting.kind {
        Kind::Number(range) => format!("{} ({} to {})", setting.doc, range.start(), range.end()),
        Kind::Text | Kind::List | Kind::Switch => setting.doc.clone(),
    }
}

/// Longest line of a comment, in characters.
const WIDTH: usize = 100;

/// Writes a text as lines of comment.
fn comment(out: &mut String, text: &str) {
    let mut line = String::from("#");
    for word in text.split_whitespace() {
        if line.chars().count() + 1 + word.chars().count() > WIDTH {
            out.push_str(&std::mem::replace(&mut line, String::from("#")));
            out.push('\n');
        }
        line.push(' ');
        line.push_str(word);
    }
    out.push_str(&line);
    out.push('\n');
}
