//! What comments and documents cite exists: `docs/protocol/README.md` says how one cites.
//!
//! Reads all code, SQL, settings and documents of the repository. Each rule has a planted violation
//! below that it has to find, so that a rule that checks nothing fails, too.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// The pages whose sections are cited as `PAGE §…`.
const PAGES: [&str; 4] = ["wire", "clients", "sizing", "reference"];

/// Words that begin the name of an external document.
const STANDARDS: [&str; 6] = ["RFC", "X.690", "FIPS", "NIST", "W3C", "ISO"];

/// How documents were cited that the repository does not have.
const FORMER: [&str; 10] = [
    "wire behaviour",
    "wire-behaviour",
    "client study",
    "compatibility study",
    "compatibility checklist, row",
    "design, semantics",
    "design §",
    "design: ",
    "spec: sizing",
    "the sizing",
];

/// This file, whose violations are planted.
const THIS: &str = "engine/tests/citations.rs";

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn read(path: &str) -> String {
    fs::read_to_string(workspace().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All texts of the repository: path relative to the workspace, and content.
fn texts() -> Vec<(String, String)> {
    let mut found = Vec::new();
    collect("", &mut found);
    assert!(found.len() > 100, "the repository was read");
    found
}

fn collect(folder: &str, found: &mut Vec<(String, String)>) {
    for entry in fs::read_dir(workspace().join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{folder}{name}");
        if entry.file_type().unwrap().is_dir() {
            if !matches!(name.as_str(), "target" | "run") && !name.starts_with('.') {
                collect(&format!("{path}/"), found);
            }
        } else if is_text(&name) && path != THIS {
            found.push((path, fs::read_to_string(entry.path()).unwrap()));
        }
    }
}

fn is_text(name: &str) -> bool {
    let extension = Path::new(name).extension().and_then(|e| e.to_str());
    matches!(extension, Some("rs" | "sql" | "md" | "toml" | "sh")) || name == "Makefile"
}

/// What can be cited.
#[derive(Debug)]
struct Targets {
    /// Sections and rows by page: `11.10` of `wire`.
    sections: BTreeMap<String, BTreeSet<String>>,
    decisions: BTreeSet<u32>,
    defects: BTreeSet<String>,
    /// Rows of the conformance document: `4.0.11`.
    rules: BTreeSet<String>,
}

impl Targets {
    fn read() -> Self {
        let page = |page: &str| read(&format!("docs/protocol/{page}.md"));
        let sections = PAGES.map(|name| (name.to_owned(), sections(&page(name))));
        let (decisions, reference) = (page("decisions"), page("reference"));
        let numbers = headings(&decisions).filter_map(|heading| decision(&heading));
        let names = first_cells(&reference).filter(|cell| is_defect(cell));
        Self {
            sections: sections.into(),
            decisions: numbers.collect(),
            defects: names.collect(),
            rules: sections_of_cells(&read("docs/conformance.md")),
        }
    }

    fn has(&self, page: &str, number: &str) -> bool {
        self.sections[page].contains(number)
    }

    /// A section without the name of its page: in these documents one of their own, among the rows
    /// of the conformance tests one of those.
    fn has_unnamed(&self, path: &str, number: &str) -> bool {
        if path == "docs/conformance.md" || path.starts_with("api/tests/conformance/rows/") {
            return self.rules.contains(number) || self.has("wire", number);
        }
        let own = path.strip_prefix("docs/protocol/");
        match own.and_then(|page| page.strip_suffix(".md")) {
            Some("README") => self.has("wire", number),
            Some("wire") => self.has("wire", number) || self.rules.contains(number),
            Some(page) => self.sections.contains_key(page) && self.has(page, number),
            None => false,
        }
    }
}

/// The texts of all headings.
fn headings(page: &str) -> impl Iterator<Item = String> {
    let lines = page.lines().filter(|line| line.starts_with('#'));
    lines.map(|line| line.trim_start_matches('#').trim().to_owned())
}

/// The first cell of each row of a table.
fn first_cells(page: &str) -> impl Iterator<Item = String> {
    let rows = page.lines().filter_map(|line| line.strip_prefix("| "));
    rows.map(|row| row.split(" |").next().unwrap().to_owned())
}

fn sections_of_cells(page: &str) -> BTreeSet<String> {
    let cells = first_cells(page);
    cells
        .filter_map(|cell| cell.strip_prefix('§').map(number_at))
        .collect()
}

/// Headings, rows of tables and items of lists that begin with a number.
fn sections(page: &str) -> BTreeSet<String> {
    let mut found = sections_of_cells(page);
    let items = page.lines().filter_map(|line| line.strip_prefix("- "));
    let begins = headings(page).chain(items.map(str::to_owned));
    found.extend(begins.filter_map(|text| text.strip_prefix('§').map(number_at)));
    found.extend(first_cells(page).filter(|cell| cell.starts_with("(a).")));
    found
}

/// The number of a section at the beginning of a text: digits and dots, perhaps a letter behind.
fn number_at(text: &str) -> String {
    let is_number = |c: char| c.is_ascii_digit() || c == '.';
    let end = text.find(|c| !is_number(c)).unwrap_or(text.len());
    let letter = text[end..].starts_with(['a', 'b']);
    let ends = |c: char| !c.is_alphanumeric();
    let is_word_end = text
        .get(end + 1..)
        .is_none_or(|rest| rest.is_empty() || rest.starts_with(ends));
    let end = if letter && is_word_end { end + 1 } else { end };
    text[..end].trim_end_matches('.').to_owned()
}

/// N of a heading `Decision N: …`.
fn decision(heading: &str) -> Option<u32> {
    let rest = heading.strip_prefix("Decision ")?;
    rest.split(':').next()?.parse().ok()
}

/// Whether a word looks like the name of a defect: `A-1`.
fn is_defect(word: &str) -> bool {
    matches!(word.as_bytes(), [b'A'..=b'Z', b'-', b'1'..=b'9'])
}

/// A text on one line: comments continue behind the end of a line.
struct Joined {
    text: String,
    /// Where each line begins.
    lines: Vec<usize>,
}

impl Joined {
    fn new(text: &str) -> Self {
        let (mut joined, mut lines) = (String::new(), Vec::new());
        for line in text.lines() {
            lines.push(joined.len());
            let line = line.trim().trim_end_matches('\\');
            let markers: &[char] = &['/', '!', '#', '>'];
            let line = line.trim_start_matches(markers);
            let line = line.strip_prefix("-- ").unwrap_or(line);
            joined.push_str(line.trim());
            joined.push(' ');
        }
        Self {
            text: joined,
            lines,
        }
    }

    fn line(&self, offset: usize) -> usize {
        self.lines.partition_point(|begin| *begin <= offset)
    }
}

/// All broken citations of a text.
fn offences(path: &str, text: &str, places: &Targets) -> Vec<String> {
    let joined = Joined::new(text);
    let checks = [
        former,
        unknown_sections,
        unknown_decisions,
        unknown_defects,
        unknown_items,
    ];
    let found = checks
        .iter()
        .flat_map(|check| check(path, &joined.text, places));
    found
        .map(|(offset, what)| format!("{path}:{}: {what}", joined.line(offset)))
        .collect()
}

/// A broken citation and its location.
type Offences = Vec<(usize, String)>;

fn former(_: &str, text: &str, _: &Targets) -> Offences {
    let text = text.to_ascii_lowercase();
    let places = FORMER.iter().flat_map(|form| text.match_indices(form));
    places
        .map(|(offset, form)| (offset, format!("a former citation: {form}")))
        .collect()
}

fn unknown_sections(path: &str, text: &str, places: &Targets) -> Offences {
    let mut found = Vec::new();
    for (offset, sign) in text.match_indices('§') {
        let number = number_at(&text[offset + sign.len()..]);
        let is_known = match document(&text[..offset]) {
            Document::Page(page) => places.has(page, &number),
            Document::Standard => true,
            // In prose the sign may stand for itself.
            Document::Unnamed => number.is_empty() || places.has_unnamed(path, &number),
        };
        if !is_known {
            let begin = text[..offset].char_indices().rev().take(30).last();
            let before = &text[begin.map_or(offset, |(index, _)| index)..offset];
            found.push((offset, format!("no such section: …{before}§{number}")));
        }
    }
    found
}

/// The document that a section is of.
enum Document {
    Page(&'static str),
    Standard,
    Unnamed,
}

/// Reads backwards from a section's sign to the name of its document: `wire §9, §10 and `.
fn document(before: &str) -> Document {
    let mut words = before.split_whitespace().rev().peekable();
    while let Some(word) = words.peek() {
        let is_between = matches!(*word, "and" | "to" | "or") || word.starts_with('§');
        if !is_between {
            break;
        }
        words.next();
    }
    let nearest: Vec<&str> = words
        .take(4)
        .map(|word| word.trim_start_matches(|c: char| !c.is_alphanumeric()))
        .collect();
    let is_page = |page: &&str| {
        nearest
            .first()
            .is_some_and(|word| word.eq_ignore_ascii_case(page))
    };
    if let Some(page) = PAGES.into_iter().find(|page| is_page(page)) {
        return Document::Page(page);
    }
    let is_standard = |word: &&str| STANDARDS.iter().any(|name| word.starts_with(name));
    match nearest.iter().any(is_standard) {
        true => Document::Standard,
        false => Document::Unnamed,
    }
}

fn unknown_decisions(_: &str, text: &str, places: &Targets) -> Offences {
    let mut found = Vec::new();
    for (offset, word) in text.to_ascii_lowercase().match_indices("decision") {
        let rest = text[offset + word.len()..].trim_start_matches('s');
        for cited in cited_numbers(rest) {
            let number = cited.parse().ok();
            if number.is_none_or(|number| !places.decisions.contains(&number)) {
                found.push((offset, format!("no such decision: {cited}")));
            }
        }
    }
    found
}

/// The numbers that follow: ` 3 and 14`, ` 3, 4 to 6`.
fn cited_numbers(rest: &str) -> Vec<&str> {
    let begins_with_number = rest
        .strip_prefix(' ')
        .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
    if !begins_with_number {
        return Vec::new();
    }
    let words = rest.split_whitespace().take_while(|word| {
        matches!(*word, "and" | "to" | "or") || word.starts_with(|c: char| c.is_ascii_digit())
    });
    words
        .filter_map(|word| word.split(|c: char| !c.is_ascii_digit()).next())
        .filter(|number| !number.is_empty())
        .collect()
}

fn unknown_defects(_: &str, text: &str, places: &Targets) -> Offences {
    let is_part = |c: char| c.is_ascii_alphanumeric() || c == '-';
    let mut found = Vec::new();
    let mut offset = 0;
    for word in text.split_inclusive(|c| !is_part(c)) {
        let name = word.trim_end_matches(|c| !is_part(c));
        let is_called = ends_with_ignoring_case(&text[..offset], "defect ");
        let has_letter = places
            .defects
            .iter()
            .any(|defect| name.starts_with(&defect[..1]));
        if is_defect(name) && (is_called || has_letter) && !places.defects.contains(name) {
            found.push((offset, format!("no such defect: {name}")));
        }
        offset += word.len();
    }
    found
}

fn ends_with_ignoring_case(text: &str, end: &str) -> bool {
    let begin = text.len().saturating_sub(end.len());
    text.get(begin..)
        .is_some_and(|last| last.eq_ignore_ascii_case(end))
}

/// Items of the checklist: `(a).7`.
fn unknown_items(_: &str, text: &str, places: &Targets) -> Offences {
    let items = text.match_indices("(a).");
    let items = items.map(|(offset, sign)| (offset, number_at(&text[offset + sign.len()..])));
    items
        .filter(|(_, number)| !number.is_empty())
        .map(|(offset, number)| (offset, format!("(a).{number}")))
        .filter(|(_, item)| !places.has("clients", item))
        .map(|(offset, item)| (offset, format!("no such item: {item}")))
        .collect()
}

/// The anchor that a heading gets where Markdown is shown.
fn anchor(heading: &str) -> String {
    let lower = heading.to_lowercase().replace(' ', "-");
    let is_kept = |c: &char| c.is_alphanumeric() || matches!(c, '-' | '_');
    lower.chars().filter(is_kept).collect()
}

/// The broken links of a document.
fn broken_links(path: &str, text: &str) -> Vec<String> {
    let folder = Path::new(path).parent().unwrap();
    let ends = text.split("](").skip(1);
    let targets = ends.filter_map(|rest| rest.split(')').next());
    targets
        .filter(|target| !target.contains("://") && !leads_somewhere(folder, text, target))
        .map(|target| format!("{path}: a link that leads nowhere: {target}"))
        .collect()
}

fn leads_somewhere(folder: &Path, text: &str, target: &str) -> bool {
    let (file, section) = target.split_once('#').unwrap_or((target, ""));
    let other = workspace().join(folder).join(file);
    if !other.exists() {
        return false;
    }
    let page = match file {
        "" => text.to_owned(),
        _ if section.is_empty() => return true,
        _ => fs::read_to_string(other).unwrap(),
    };
    headings(&page).any(|heading| anchor(&heading) == section)
}

fn assert_none(found: &[String]) {
    assert!(
        found.is_empty(),
        "{} offences:\n{}",
        found.len(),
        found.join("\n")
    );
}

#[test]
fn every_citation_names_an_existing_heading_or_row() {
    let places = Targets::read();
    let found = texts().into_iter();
    let found = found.flat_map(|(path, text)| offences(&path, &text, &places));
    assert_none(&found.collect::<Vec<_>>());
}

#[test]
fn no_link_of_the_documents_is_broken() {
    let documents = texts().into_iter().filter(|(path, _)| {
        path.ends_with(".md") && (path.starts_with("docs/") || !path.contains('/'))
    });
    let found = documents.flat_map(|(path, text)| broken_links(&path, &text));
    assert_none(&found.collect::<Vec<_>>());
}

#[test]
fn finds_every_planted_violation() {
    let places = Targets::read();
    let planted = [
        "/// A rule (wire §99).",
        "/// A rule (wire §11.99).",
        "/// A rule (wire §9, §10 and §99).",
        "/// A rule (wire §1 to §99).",
        "/// A rule that goes on (wire\n    /// §99).",
        "/// What it needs (clients §9.9).",
        "/// A volume (sizing §9).",
        "/// A table (reference §9).",
        "/// A section of nothing (§11).",
        "/// A choice (decision 99).",
        "/// Two choices (decisions 3 and 99).",
        "/// Another (defect X-9).",
        "/// Another (A-9).",
        "/// An item (clients (a).99).",
        "/// As it was (wire behaviour §11, row 10).",
        "/// As it was (wire\n/// behaviour §11).",
        "/// As it was (client study §1.4).",
        "-- As it was (design, semantics 3).",
        "// As it was: the sizing.",
    ];
    for text in planted {
        let found = offences("engine/src/planted.rs", text, &places);
        assert!(!found.is_empty(), "not found: {text}");
    }
    assert!(!broken_links("docs/planted.md", "[a](protocol/wire.md#99-nothing)").is_empty());
    assert!(!broken_links("docs/planted.md", "[a](nowhere.md)").is_empty());
}

#[test]
fn accepts_valid_citations() {
    let places = Targets::read();
    let good = [
        "/// A rule (wire §11.10), and more (wire §9, §10 and §16.2; clients §2.10).",
        "/// Wire §4.0.2 to §4.0.6.",
        "/// A rule that goes on (wire\n    /// §16.2).",
        "/// Choices (decision 7; decisions 3 and 14), a decision 2 m long aside.",
        "/// Another (defect A-1), and U-2. P-256 is a curve.",
        "/// An item (clients (a).21), a volume (sizing §3), a table (reference §3).",
        "// RFC 9112 §3.2; X.690 §8.1.3.4 and §8.1.3.5; NIST SP 800-38D §8.3.",
    ];
    for text in good {
        assert_none(&offences("engine/src/good.rs", text, &places));
    }
    assert_none(&offences(
        "docs/conformance.md",
        "| §4.0.11 | see §10.3 |",
        &places,
    ));
}
