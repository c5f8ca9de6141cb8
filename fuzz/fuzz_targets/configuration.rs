#![no_main]

use std::fs;
use std::path::PathBuf;
use std::sync::LazyLock;

use api::settings::Settings;
use engine::seal::Keys;
use libfuzzer_sys::fuzz_target;
use tempfile::TempDir;

static FOLDER: LazyLock<(TempDir, PathBuf)> = LazyLock::new(|| {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("efgs.toml");
    // What it may name.
    fs::create_dir(folder.path().join("pki")).expect("a folder");
    let keys = Keys::generate_text();
    for (name, content) in [
        ("keys", keys.as_str()),
        ("pki/trust-anchor.pem", "x"),
        ("pki/server.pem", "x"),
        ("pki/server.key", "x"),
        ("pki/gateway-callback.pem", "x"),
        ("pki/gateway-callback.key", "x"),
    ] {
        fs::write(folder.path().join(name), content).expect("a file");
    }
    (folder, file)
});

// The lines of the file, and behind an empty line with a zero octet `VARIABLE=value`.
fuzz_target!(|text: &str| {
    let (file, variables) = text.split_once("\n\0\n").unwrap_or((text, ""));
    fs::write(&FOLDER.1, file).expect("a file");
    let variables = variables.lines().filter_map(|line| line.split_once('='));
    let environment = variables.map(|(name, value)| (name.into(), value.into()));
    if let Err(error) = Settings::load(&FOLDER.1, environment) {
        assert_eq!(error.to_string().lines().count(), 1, "one sentence");
    }
});
