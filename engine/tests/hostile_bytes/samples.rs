//! What is mutated: the test vectors.

use std::fs;
use std::path::{Path, PathBuf};

use engine::domain::{CertificateKind, Country, Thumbprint, UnixMillis};
use engine::trust::{CertificateRow, Trust, TrustAnchors};
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::entries::SignedUpload;

pub(crate) fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/vectors")
}

pub(crate) fn bytes(path: &Path) -> Vec<u8> {
    fs::read(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

pub(crate) fn text(path: &Path) -> String {
    String::from_utf8(bytes(path)).unwrap()
}

/// All files with that name in the folders of the cases.
pub(crate) fn case_files(name: &str) -> Vec<Vec<u8>> {
    let files = cases().into_iter().map(|case| case.join(name));
    let found: Vec<_> = files.filter(|file| file.exists()).collect();
    assert!(found.len() > 100, "the vectors hold {name}");
    found.iter().map(|file| bytes(file)).collect()
}

pub(crate) fn cases() -> Vec<PathBuf> {
    let entries = fs::read_dir(folder()).unwrap();
    let mut folders: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    folders.retain(|path| path.join("case.json").exists());
    folders.sort();
    folders
}

/// All files of a folder with that ending.
pub(crate) fn files(folder: &Path, ending: &str) -> Vec<Vec<u8>> {
    let mut paths = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            paths.extend(files(&path, ending));
        } else if path.extension().is_some_and(|found| found == ending) {
            paths.push(bytes(&path));
        }
    }
    paths.sort();
    paths
}

/// The whole certificate list of the vectors.
pub(crate) fn registry() -> Trust {
    let pki = folder().join("pki");
    let registry: Value = serde_json::from_slice(&bytes(&pki.join("registry.json"))).unwrap();
    let anchor = text(&pki.join(registry["trust_anchor"].as_str().unwrap()));
    let row = |row: &Value| {
        let field = |name: &str| row[name].as_str().unwrap();
        CertificateRow {
            thumbprint: Thumbprint::parse_hex(field("thumbprint")).unwrap(),
            country: Country::parse(field("country")).unwrap(),
            kind: CertificateKind::from_name(field("type")).unwrap(),
            pem: text(&pki.join(field("certificate"))).into(),
            operator_signature: text(&pki.join(field("signature"))).into(),
            revoked_at: row["revoked"].as_bool().unwrap().then_some(UnixMillis(1)),
        }
    };
    let rows = registry["certificates"].as_array().unwrap().iter().map(row);
    Trust::load(rows, &TrustAnchors::from_pem(&anchor).unwrap(), None)
}

/// The cases that every implementation has to accept.
pub(crate) fn signed_uploads() -> Vec<SignedUpload> {
    let accepted = cases().into_iter().filter_map(|case| {
        let fields: Value = serde_json::from_slice(&bytes(&case.join("case.json"))).unwrap();
        let sound = fields["expected"] == "accept" && fields["policy"] == false;
        sound.then(|| SignedUpload {
            body: bytes(&case.join("batch.pb")),
            header: text(&case.join("signature.b64")),
            now: millis(fields["verification_time"].as_str().unwrap()),
        })
    });
    let accepted: Vec<_> = accepted.collect();
    assert!(accepted.len() > 50, "the vectors hold signatures");
    accepted
}

pub(crate) fn millis(time: &str) -> UnixMillis {
    let seconds = OffsetDateTime::parse(time, &Rfc3339)
        .unwrap()
        .unix_timestamp();
    UnixMillis(u64::try_from(seconds).unwrap() * 1000)
}
