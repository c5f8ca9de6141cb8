//! The dependency direction, as text: who may know whom, and which outside thing has which door.
//!
//! Scans what is compiled, without comments and without tests. Every rule carries an offence that
//! it has to find, so that a rule which checks nothing fails, too.

#![allow(clippy::unwrap_used, reason = "a test stops at the first surprise")]

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

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

/// Unit tests stand at the end of a file.
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

/// Texts that may stand in some places only.
struct Rule {
    /// Where it holds.
    within: &'static [&'static str],
    /// The doors.
    except: &'static [&'static str],
    /// What may not stand there; at the start of a word.
    texts: &'static [&'static str],
    /// Why not.
    why: &'static str,
    /// An offence: a file, and a line of it.
    offence: (&'static str, &'static str),
}

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
        except: &["engine/src/persist/mysql.rs"],
        texts: &["mysql::"],
        why: "the mysql crate has one door",
        offence: ("engine/src/persist/writer.rs", "use mysql::Conn;"),
    },
    Rule {
        within: &["engine/src"],
        except: &["engine/src/persist/sqlite.rs"],
        texts: &["rusqlite::"],
        why: "rusqlite has one door",
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
        except: &["engine/src/persist"],
        texts: SQL,
        why: "only persist knows SQL",
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
        within: &["engine/src", "api/src", "loadgen/src"],
        except: &["engine/src/clock.rs"],
        texts: &["SystemTime::now"],
        why: "time enters through Clock",
        offence: (
            "engine/src/trust/list.rs",
            "    let now = SystemTime::now();",
        ),
    },
    Rule {
        within: &["engine/src", "api/src", "loadgen/src"],
        // The driver calls the taking of a row's values so.
        except: &["engine/src/persist/mysql.rs"],
        texts: &["unwrap()"],
        why: "say with expect why it cannot fail",
        offence: ("loadgen/src/run.rs", "    value.unwrap()"),
    },
    Rule {
        within: &["engine/src", "api/src", "loadgen/src"],
        except: &[],
        texts: &["unbounded(", "unbounded_channel("],
        why: "every queue has a bound",
        offence: ("api/src/shutdown.rs", "    let (s, r) = unbounded();"),
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
            // The door's own type is no use of the crate behind it.
            let code = code.replace("mysql::MysqlConnection", "");
            for text in self.texts.iter().filter(|text| has_word(&code, text)) {
                offences.push(format!("{path}: {text:?}: {}", self.why));
            }
        }
        offences
    }
}

/// Whether a text begins somewhere that no word goes on.
fn has_word(code: &str, text: &str) -> bool {
    code.match_indices(text).any(|(at, _)| {
        let before = code[..at].chars().next_back();
        !before.is_some_and(|c| c.is_alphanumeric() || c == '_')
    })
}

fn everything() -> Vec<Source> {
    ["engine/src", "api/src", "loadgen/src"]
        .into_iter()
        .flat_map(sources)
        .collect()
}

fn assert_none(offences: &[String]) {
    assert!(offences.is_empty(), "\n{}", offences.join("\n"));
}

#[test]
fn gives_every_outside_thing_one_door() {
    let sources = everything();
    let offences = RULES.iter().flat_map(|rule| rule.offences(&sources));
    assert_none(&offences.collect::<Vec<_>>());
}

#[test]
fn finds_what_every_rule_forbids() {
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

/// What a package may not depend on.
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
        ],
    ),
    ("api", &["mysql", "rusqlite", "rayon", "quick-protobuf"]),
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
fn depends_on_no_stranger() {
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

/// Which modules of the engine a module may use. Whoever is not listed stands above: none of these
/// may use it. Errors are gathered in `error`, which is why it knows the stages and they know it.
const MODULES: &[(&str, &[&str])] = &[
    ("domain", &[]),
    ("limits", &[]),
    ("stage", &[]),
    ("clock", &["domain"]),
    ("error", &["decode", "validate", "verify", "seal"]),
    ("turns", &["domain"]),
    ("cpu_pool", &["domain", "error", "turns"]),
    ("pki", &["domain", "limits"]),
    ("wire", &["decode", "error"]),
    ("seal", &["domain", "error"]),
    ("settings", &["domain", "error", "limits", "seal"]),
    ("admission", &["domain", "error", "limits"]),
    ("decode", &["error", "wire"]),
    ("validate", &["decode", "domain", "error", "limits", "wire"]),
    ("trust", &["domain", "limits", "pki", "persist"]),
    (
        "verify",
        &[
            "decode", "domain", "error", "pki", "trust", "upload", "validate", "wire",
        ],
    ),
    ("dedup", &["domain", "seal", "verify", "wire"]),
    (
        "upload",
        &[
            "admission",
            "clock",
            "decode",
            "dedup",
            "domain",
            "error",
            "seal",
            "settings",
            "stage",
            "trust",
            "validate",
            "verify",
            "wire",
        ],
    ),
];

/// Names that the crate's root gives to others' things.
const ROOT_NAMES: &[(&str, &str)] = &[
    ("Clock", "clock"),
    ("ManualClock", "clock"),
    ("SystemClock", "clock"),
    ("Engine", "engine"),
    ("Status", "engine"),
    ("Failure", "error"),
    ("Overload", "error"),
    ("OverloadBound", "error"),
    ("Rejection", "error"),
    ("StartError", "error"),
    ("UploadError", "error"),
];

/// The module that a file of the engine belongs to.
fn module_of(path: &str) -> Option<&str> {
    let inside = path.strip_prefix("engine/src/")?;
    let first = inside.split('/').next()?;
    Some(first.strip_suffix(".rs").unwrap_or(first))
}

/// Modules that a source uses.
fn used_modules(code: &str) -> BTreeSet<&str> {
    let named = code.split("crate::").skip(1).flat_map(first_names);
    let modules = named.map(|name| {
        let root = ROOT_NAMES.iter().find(|(root, _)| *root == name);
        root.map_or(name, |(_, module)| module)
    });
    modules.collect()
}

/// The name that a path begins with; all such names for a path that begins with braces.
fn first_names(path: &str) -> Vec<&str> {
    let Some(inside) = path.strip_prefix('{') else {
        return vec![first_name(path)];
    };
    let (mut names, mut depth, mut begins) = (Vec::new(), 0, true);
    for (at, c) in inside.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => begins = true,
            _ if begins && !c.is_whitespace() => {
                names.push(first_name(&inside[at..]));
                begins = false;
            }
            _ => {}
        }
    }
    names
}

fn first_name(path: &str) -> &str {
    let end = path.find(|c: char| !c.is_alphanumeric() && c != '_');
    &path[..end.unwrap_or(path.len())]
}

fn module_offences(sources: &[Source]) -> Vec<String> {
    let mut offences = Vec::new();
    for Source { path, code } in sources {
        let row = module_of(path).and_then(|own| MODULES.iter().find(|(name, _)| *name == own));
        let Some((own, allowed)) = row else {
            continue;
        };
        for used in used_modules(code) {
            if used != *own && !allowed.contains(&used) {
                offences.push(format!("{path}: {own} may not use {used}"));
            }
        }
    }
    offences
}

#[test]
fn lets_modules_of_the_engine_know_only_what_stands_below() {
    let sources = sources("engine/src");
    assert_none(&module_offences(&sources));
    for (module, _) in MODULES {
        let found = sources
            .iter()
            .any(|source| module_of(&source.path) == Some(module));
        assert!(found, "the table lists {module}, which is not there");
    }
}

#[test]
fn finds_arrows_that_point_upwards() {
    for (path, code, found) in [
        (
            "engine/src/wire/json.rs",
            "use crate::persist::Store;",
            true,
        ),
        ("engine/src/pki/cms.rs", "use crate::bundle::Bundle;", true),
        ("engine/src/domain/day.rs", "use crate::Engine;", true),
        (
            "engine/src/decode.rs",
            "fn f(x: crate::upload::Receipt) {}",
            true,
        ),
        (
            "engine/src/seal.rs",
            "use crate::{Failure, domain::{Day, Seq}, StartError};",
            false,
        ),
        (
            "engine/src/seal.rs",
            "use crate::{domain::{Day, Seq}, persist::Store};",
            true,
        ),
        (
            "engine/src/decode.rs",
            "use crate::wire::protobuf::read_key;",
            false,
        ),
        (
            "engine/src/bundle/serve.rs",
            "use crate::persist::Store;",
            false,
        ),
    ] {
        let offences = module_offences(&[Source::new(path, code)]);
        assert_eq!(!offences.is_empty(), found, "{path}: {code}");
    }
}
