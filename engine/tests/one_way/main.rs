//! The dependency direction: no modules of any crate use one another in a cycle, the engine's
//! modules keep to the layers that ARCHITECTURE.md draws, and every external library has one
//! wrapper.
//!
//! Modules are read with `syn`; wrappers are checked by text search in the compiled code, without
//! comments and tests. Every rule carries a violation that it has to find, so that a rule that
//! checks nothing fails, too.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

mod layers;
mod modules;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use layers::Layers;
use modules::{Crate, cycles};

/// A source file: its path from the workspace, and its code.
#[derive(Debug, Clone)]
struct Source {
    path: String,
    code: String,
}

/// All sources below a folder of the workspace.
fn sources(folder: &str) -> Vec<Source> {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let mut found = Vec::new();
    collect(&workspace, folder, &mut found);
    assert!(!found.is_empty(), "{folder} holds sources");
    found
}

fn collect(workspace: &Path, folder: &str, found: &mut Vec<Source>) {
    for entry in fs::read_dir(workspace.join(folder)).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name().into_string().unwrap();
        let path = format!("{folder}/{name}");
        if entry.file_type().unwrap().is_dir() {
            collect(workspace, &path, found);
        } else if name.ends_with(".rs") {
            let text = fs::read_to_string(entry.path()).unwrap();
            found.push(Source::new(path, &text));
        }
    }
}

impl Source {
    fn new(path: impl Into<String>, text: &str) -> Self {
        let path = path.into();
        let is_test = path.ends_with("/tests.rs") || path.contains("/tests/");
        let code = if is_test { "" } else { without_tests(text) };
        Self {
            code: without_comments(code),
            path,
        }
    }

    fn is_in(&self, places: &[&str]) -> bool {
        places.iter().any(|place| {
            let folder = format!("{place}/");
            self.path == *place || self.path.starts_with(&folder)
        })
    }
}

/// Cuts off the unit tests, which are at the end of a file.
fn without_tests(text: &str) -> &str {
    text.find("#[cfg(test)]\nmod tests")
        .map_or(text, |end| &text[..end])
}

fn without_comments(text: &str) -> String {
    let lines = text.lines().map(|line| {
        let comment = line.trim_start().starts_with("//");
        let code = line.split(" // ").next().unwrap_or(line);
        if comment { "" } else { code }
    });
    lines.collect::<Vec<_>>().join("\n")
}

/// Texts that are allowed only in some files.
struct Rule {
    /// The files that it applies to.
    within: &'static [&'static str],
    /// The files where it is allowed.
    except: &'static [&'static str],
    /// The forbidden text, at the start of a word.
    texts: &'static [&'static str],
    /// The reason.
    why: &'static str,
    /// A violation: a file, and a line of it.
    offence: (&'static str, &'static str),
}

/// All sources but those of the benches.
const ALL: &[&str] = &[
    "engine/src",
    "api/src",
    "loadgen/src",
    "loadgen/backend/src",
    "loadgen/client/src",
    "loadgen/testkit/src",
];

const RULES: &[Rule] = &[
    Rule {
        within: &["engine/src"],
        except: &[],
        texts: &[
            "tokio::",
            "hyper::",
            "axum::",
            "http::",
            "async ",
            "StatusCode",
        ],
        why: "the engine knows no runtime and no HTTP",
        offence: ("engine/src/upload.rs", "    tokio::spawn(work);"),
    },
    Rule {
        within: &["engine/src"],
        except: &["engine/src/database/mysql.rs", "engine/src/database/mysql"],
        texts: &["mysql::"],
        why: "the mysql crate has one wrapper",
        offence: ("engine/src/persist/writer.rs", "use mysql::Conn;"),
    },
    Rule {
        within: &["engine/src"],
        except: &[
            "engine/src/database/sqlite.rs",
            "engine/src/database/sqlite",
        ],
        texts: &["rusqlite::"],
        why: "rusqlite has one wrapper",
        offence: (
            "engine/src/admin.rs",
            "    let c = rusqlite::Connection::open(path)?;",
        ),
    },
    Rule {
        within: &["engine/src"],
        except: &["engine/src/cpu_pool.rs"],
        texts: &["rayon::"],
        why: "CPU work goes through CpuPool",
        offence: ("engine/src/engine.rs", "        rayon::spawn(job);"),
    },
    Rule {
        within: &["engine/src"],
        except: &["engine/src/database", "engine/src/store"],
        texts: SQL,
        why: "only the store and the drivers know SQL",
        offence: (
            "engine/src/bundle/serve.rs",
            r#"    run("SELECT 1 FROM upload_log")"#,
        ),
    },
    Rule {
        within: &["api/src"],
        except: &[],
        texts: SQL,
        why: "api knows no SQL",
        offence: (
            "api/src/upload.rs",
            r#"    run("INSERT INTO upload_log VALUES (1)")"#,
        ),
    },
    Rule {
        within: &["api/src"],
        except: &[],
        texts: &["mysql::", "rusqlite::", "rayon::"],
        why: "api knows no database and leaves CPU work to the engine",
        offence: ("api/src/cli/database.rs", "use mysql::Pool;"),
    },
    Rule {
        within: &["api/src"],
        except: &["api/src/response", "api/src/response.rs"],
        texts: &["StatusCode"],
        why: "only response knows status codes",
        offence: (
            "api/src/download.rs",
            "    StatusCode::NOT_FOUND.into_response()",
        ),
    },
    Rule {
        within: ALL,
        except: &["engine/src/clock.rs"],
        texts: &["SystemTime::now"],
        why: "time enters through Clock",
        offence: (
            "engine/src/trust/list.rs",
            "    let now = SystemTime::now();",
        ),
    },
    Rule {
        within: ALL,
        // The driver calls the taking of a row's values so.
        except: &["engine/src/database/mysql.rs"],
        texts: &["unwrap()"],
        why: "say with expect why it cannot fail",
        offence: ("loadgen/src/run.rs", "    value.unwrap()"),
    },
    Rule {
        within: ALL,
        except: &[],
        texts: &["unbounded(", "unbounded_channel("],
        why: "every queue has a bound",
        offence: ("api/src/shutdown.rs", "    let (s, r) = unbounded();"),
    },
    Rule {
        within: ALL,
        except: &["engine/src/database/connection.rs"],
        texts: &["{source}"],
        why: "an error's text leaves out its source, which engine::chain adds, so that it is said once",
        offence: (
            "loadgen/src/profiles.rs",
            "    #[error(\"profiles: {source}\")]",
        ),
    },
];

const SQL: &[&str] = &[
    "SELECT ",
    "INSERT INTO ",
    "UPDATE ",
    "DELETE FROM ",
    "CREATE TABLE ",
];

impl Rule {
    fn offences(&self, sources: &[Source]) -> Vec<String> {
        let concerned = sources
            .iter()
            .filter(|source| source.is_in(self.within) && !source.is_in(self.except));
        let mut offences = Vec::new();
        for Source { path, code } in concerned {
            // The wrapper's own types are not a use of the wrapped crate.
            let code = code.replace("mysql::MysqlConnection", "");
            let code = code.replace("mysql::{Login, MysqlConnection}", "");
            // An LRU order is not a queue; the cache is bounded by its bytes.
            let code = code.replace("LruCache::unbounded(", "");
            for text in self.texts.iter().filter(|text| has_word(&code, text)) {
                offences.push(format!("{path}: {text:?}: {}", self.why));
            }
        }
        offences
    }
}

/// Whether a position is at the start of a word.
fn has_word(code: &str, text: &str) -> bool {
    code.match_indices(text).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn everything() -> Vec<Source> {
    ALL.iter().copied().flat_map(sources).collect()
}

fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn every_external_library_has_one_wrapper() {
    let sources = everything();
    let offences = RULES.iter().flat_map(|rule| rule.offences(&sources));
    assert_none(&offences.collect::<Vec<_>>());
}

#[test]
fn every_rule_finds_its_violation() {
    let channel = [Source::new(
        "engine/src/bundle/cache.rs",
        "    let (s, r) = unbounded();",
    )];
    assert!(RULES.iter().any(|rule| !rule.offences(&channel).is_empty()));
    for Rule { offence, .. } in RULES {
        let planted = [Source::new(offence.0, offence.1)];
        let found = RULES
            .iter()
            .any(|rule| rule.offence == *offence && !rule.offences(&planted).is_empty());
        assert!(found, "{offence:?}");
    }
    let in_tests = "fn f() {}\n#[cfg(test)]\nmod tests {\n    fn t() { x.unwrap() }\n}\n";
    let in_comment = "    // We do not unwrap() here.\n    g(); // nor unwrap() there\n";
    for text in [in_tests, in_comment] {
        let source = [Source::new("engine/src/upload.rs", text)];
        assert!(
            RULES.iter().all(|rule| rule.offences(&source).is_empty()),
            "{text}"
        );
    }
}

/// Forbidden dependencies of a package.
const STRANGERS: &[(&str, &[&str])] = &[
    (
        "engine",
        &[
            "tokio",
            "hyper",
            "hyper-util",
            "axum",
            "http",
            "http-body",
            "tower",
            "futures",
            "rustls",
            "loadgen",
            "testkit",
        ],
    ),
    (
        "api",
        &[
            "mysql",
            "rusqlite",
            "rayon",
            "quick-protobuf",
            // Test dependencies are not part of the program.
            "loadgen",
            "testkit",
            "efgs-client",
        ],
    ),
];

/// Names of the packages in `[dependencies]`.
fn dependencies(manifest: &str) -> BTreeSet<&str> {
    let section = manifest
        .split("\n[dependencies]\n")
        .nth(1)
        .unwrap_or_default();
    let lines = section.lines().take_while(|line| !line.starts_with('['));
    let names = lines.filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| !name.is_empty()).collect()
}

#[test]
fn no_package_has_a_forbidden_dependency() {
    for (package, strangers) in STRANGERS {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("..")
            .join(package)
            .join("Cargo.toml");
        let manifest = fs::read_to_string(path).unwrap();
        let dependencies = dependencies(&manifest);
        assert!(dependencies.len() > 5, "{package}: {dependencies:?}");
        for stranger in *strangers {
            assert!(
                !dependencies.contains(stranger),
                "{package} depends on {stranger}"
            );
        }
    }
}

#[test]
fn reads_the_names_of_dependencies() {
    let manifest = "[package]\nname = \"x\"\n\n[dependencies]\ntokio.workspace = true\n\
        http-body = { version = \"1\" }\nmysql=\"28\"\n\n[dev-dependencies]\nrayon = \"1\"\n";
    let expected = BTreeSet::from(["http-body", "mysql", "tokio"]);
    assert_eq!(dependencies(manifest), expected);
}

fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// Folders with a manifest, from the workspace's.
fn packages(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let entry = entry.unwrap();
        let name = entry.file_name();
        let is_ours = entry.file_type().unwrap().is_dir() && name != "target" && name != ".git";
        if is_ours {
            packages(&entry.path(), found);
        } else if name == "Cargo.toml" {
            found.push(folder.to_owned());
        }
    }
}

/// Every crate of every package, by its root file.
fn crates() -> Vec<(String, Crate)> {
    let mut folders = Vec::new();
    packages(&workspace(), &mut folders);
    let mut crates = Vec::new();
    for folder in folders {
        let sources = folder.join("src");
        for root in ["lib.rs", "main.rs"] {
            if sources.join(root).exists() {
                let inside = sources.strip_prefix(workspace()).unwrap().join(root);
                let name = inside.display().to_string();
                crates.push((name, read(&sources, root)));
            }
        }
    }
    crates
}

fn read(sources: &Path, root: &str) -> Crate {
    Crate::read(root, &|path| fs::read_to_string(sources.join(path)).ok())
}

#[test]
fn has_no_cycle_among_modules() {
    let mut offences = BTreeSet::new();
    let crates = crates();
    assert!(crates.len() >= 6, "every package has a crate");
    for (name, found) in &crates {
        let (files, top_level) = (found.files(), found.top_level());
        for cycle in cycles(&files).into_iter().chain(cycles(&top_level)) {
            offences.insert(format!("{name}: {cycle}"));
        }
    }
    assert_none(&Vec::from_iter(offences));
}

#[test]
fn keeps_the_engine_to_the_layers_of_the_drawing() {
    let drawing = fs::read_to_string(workspace().join("ARCHITECTURE.md")).unwrap();
    let layers = Layers::of_drawing(&drawing);
    let engine = read(&workspace().join("engine/src"), "lib.rs");
    assert_none(&layers.offences(&engine.top_level()));
}

/// A crate of planted files.
fn planted(files: &[(&str, &str)]) -> Crate {
    let text = |path: &Path| {
        let found = files.iter().find(|(name, _)| Path::new(name) == path);
        found.map(|(_, text)| (*text).to_owned())
    };
    Crate::read("lib.rs", &text)
}

/// Lists the files' cycles, or those of the modules at the root.
fn check(files: &[(&str, &str)], expected: &[&str], expected_at_top: &[&str]) {
    let planted = planted(files);
    assert_eq!(cycles(&planted.files()), expected, "{files:?}");
    assert_eq!(cycles(&planted.top_level()), expected_at_top, "{files:?}");
}

#[test]
fn finds_planted_cycles_however_a_path_is_written() {
    let root = ("lib.rs", "mod a; mod b; pub use a::A;");
    let b = ("b.rs", "pub struct B(crate::A);");
    for a in [
        "use crate::b::B; pub struct A;",
        "use crate::{b::{self, C, B}}; pub struct A;",
        "use super::b; pub struct A; fn f(_: b::B) {}",
        "pub struct A; fn f() { let _ = crate::b::B::new(); }",
        "pub struct A; fn f() { log!(\"{}\", x = crate::b::new()); }",
        "pub struct A; mod inner { impl super::super::b::B {} }",
        "use crate::b::*; pub struct A;",
        "pub use self::super::b::B as C; pub struct A;",
    ] {
        let cycle = ["a uses b, b uses a"];
        check(&[root, ("a.rs", a), b], &cycle, &cycle);
    }
}

#[test]
fn finds_planted_cycles_between_a_module_and_its_children() {
    let parent = "mod child; pub use child::Child; pub struct Parent;";
    check(
        &[
            ("lib.rs", "mod a;"),
            ("a/mod.rs", parent),
            ("a/child.rs", "use super::Parent; pub struct Child;"),
        ],
        &["a uses a::child, a::child uses a"],
        &[],
    );
    // A path attribute hides nothing.
    let cycle = ["a uses b, b uses a"];
    check(
        &[
            ("lib.rs", r#"#[path = "renamed.rs"] mod a; mod b;"#),
            ("renamed.rs", "use crate::b::B; pub struct A;"),
            ("b.rs", "pub struct B(crate::a::A);"),
        ],
        &cycle,
        &cycle,
    );
    // Through files that are not on a cycle themselves.
    check(
        &[
            ("lib.rs", "mod a; mod b;"),
            ("a.rs", "mod one; mod two;"),
            ("a/one.rs", "use crate::b::B;"),
            ("a/two.rs", "pub struct Two;"),
            ("b.rs", "pub struct B(crate::a::two::Two);"),
        ],
        &[],
        &["a uses b, b uses a"],
    );
}

#[test]
fn accepts_code_without_cycles() {
    for a in [
        "pub struct A; #[cfg(test)] mod tests { use crate::b::B; }",
        "pub struct A { #[cfg(test)] b: crate::b::B }",
        "pub struct A; // crate::b::B",
        "pub struct A; const B: &str = \"crate::b::B\";",
        "use b::B; pub struct A;",
        "use crate::A as Own; pub struct A;",
    ] {
        let b = ("b.rs", "pub struct B(crate::A);");
        check(
            &[("lib.rs", "mod a; mod b; pub use a::A;"), ("a.rs", a), b],
            &[],
            &[],
        );
    }
    // Siblings may meet through what their parent re-exports.
    check(
        &[
            ("lib.rs", "mod a;"),
            ("a.rs", "mod one; mod two; pub use one::One; use two::Two;"),
            ("a/one.rs", "pub struct One;"),
            ("a/two.rs", "pub struct Two(super::One);"),
        ],
        &[],
        &[],
    );
}

#[test]
fn finds_planted_arrows_that_point_upwards() {
    let drawing =
        "# X\n\n## Layers of the engine\n\n```text\n┌─\n│ top │ a b │ words\n│ bottom │ c │\n```\n";
    let layers = Layers::of_drawing(drawing);
    let c = ("c.rs", "pub struct C;");
    let b = ("b.rs", "use crate::c::C; pub struct B;");
    let root = ("lib.rs", "mod a; mod b; mod c; pub use a::A;");
    let offences = |files: &[(&str, &str)]| layers.offences(&planted(files).top_level());
    let good = [root, ("a.rs", "use crate::c::C; pub struct A;"), b, c];
    assert_eq!(offences(&good), [""; 0]);
    for (file, expected) in [
        (
            ("c.rs", "use crate::A; pub struct C;"),
            "c uses a, which is not below it",
        ),
        (
            ("b.rs", "use crate::a::A; pub struct B;"),
            "b uses a, which is not below it",
        ),
        (
            ("lib.rs", "mod a; mod b; mod c; mod d; pub use a::A;"),
            "d is in no layer",
        ),
        (
            ("lib.rs", "mod a; mod c; pub use a::A;"),
            "b is drawn and not there",
        ),
    ] {
        let mut files = good.to_vec();
        files.retain(|(name, _)| *name != file.0);
        files.extend([file, ("d.rs", "")]);
        assert_eq!(offences(&files), [expected], "{file:?}");
    }
}
