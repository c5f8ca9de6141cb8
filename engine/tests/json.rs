//! JSON and protobuf bodies of the signature vectors mean the same.
//!
//! The folder comes from `EFGS_VECTORS`; the default is the copy in the project.

#![allow(clippy::unwrap_used, reason = "a test stops at the first failure")]

use std::fs;
use std::path::{Path, PathBuf};

use engine::wire::json::{CLOSING, OPENING, to_protobuf, write_segment};
use engine::wire::protobuf::{KeyMessages, read_key, write_key};
use serde_json::Value;

fn vectors() -> PathBuf {
    match std::env::var_os("EFGS_VECTORS") {
        Some(folder) => folder.into(),
        None => Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors"),
    }
}

/// Folders of cases whose JSON form is usable.
fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(vectors()).unwrap();
    let mut folders: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|folder| folder.join("case.json").exists() && has_json(folder));
    folders.sort();
    folders
}

fn has_json(folder: &Path) -> bool {
    let case: Value = serde_json::from_slice(&fs::read(folder.join("case.json")).unwrap()).unwrap();
    case["json_note"].is_null() && folder.join("batch.json").exists()
}

/// The keys of a protobuf body, encoded as this gateway encodes them: fields in order, defaults
/// and unknown fields left out.
fn normalized(protobuf: &[u8]) -> Vec<u8> {
    let mut messages = KeyMessages::new(protobuf);
    let mut out = Vec::new();
    while let Some(message) = messages.next_message().unwrap() {
        let mut countries = Vec::new();
        let key = read_key(message, |country| countries.push(country)).unwrap();
        write_key(&mut out, &key, countries.into_iter());
    }
    out
}

#[test]
fn reads_the_json_of_every_vector_as_its_protobuf() {
    let cases = cases();
    for folder in &cases {
        let expected = normalized(&fs::read(folder.join("batch.pb")).unwrap());
        let json = fs::read(folder.join("batch.json")).unwrap();
        let protobuf = to_protobuf(&json, 5000);
        assert!(protobuf == Ok(expected), "{}", folder.display());
    }
    assert!(!cases.is_empty(), "no cases in {}", vectors().display());
}

#[test]
fn writes_the_protobuf_of_every_vector_as_its_json() {
    for folder in cases() {
        let segment = normalized(&fs::read(folder.join("batch.pb")).unwrap());
        let mut written = OPENING.to_vec();
        write_segment(&mut written, &segment);
        written.extend_from_slice(CLOSING);
        let written: Value = serde_json::from_slice(&written).unwrap();
        let expected: Value =
            serde_json::from_slice(&fs::read(folder.join("batch.json")).unwrap()).unwrap();
        assert_eq!(written, expected, "{}", folder.display());
    }
}
