//! Signed batches that BouncyCastle and OpenSSL made, sent through HTTP unchanged.

use engine::domain::CertificateKind;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use super::backend::{ask, identify};
use super::pki::{Listed, fixture, of_vectors, read};
use super::raw::{Answer, Request};
use super::world::{Databases, Kind, World};

/// With the signing certificates of the vectors' list that can be onboarded, beside the
/// participants'.
pub(crate) fn world(databases: &Databases, kind: Kind) -> World {
    World::with(databases, kind, |options| {
        let registry: Value = serde_json::from_str(&read("vectors/pki/registry.json")).unwrap();
        let rows = registry["certificates"].as_array().unwrap().iter();
        options.listed.extend(rows.filter_map(listed));
    })
}

/// A signing certificate, unless its registration is deliberately wrong.
fn listed(row: &Value) -> Option<Listed> {
    let text = |name: &str| row[name].as_str().unwrap();
    let odd = [
        "two-c",
        "no-c",
        "lower-c",
        "only-in-issuer",
        "registered-for",
        "wrong",
    ];
    let odd = odd.iter().any(|part| text("name").contains(part));
    if odd || text("type") != "SIGNING" || row["signature_valid"] != true {
        return None;
    }
    let path = text("certificate").strip_suffix(".pem").unwrap();
    Some(Listed {
        revoked: row["revoked"] == true,
        ..Listed::new(CertificateKind::Signing, &of_vectors(path, text("country")))
    })
}

/// A case, by the number that its name begins with.
pub(crate) struct Vector {
    folder: String,
    case: Value,
}

impl Vector {
    pub(crate) fn read(number: &str) -> Self {
        let folder = std::fs::read_dir(fixture("vectors")).unwrap();
        let mut names = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        let begins = |name: &String| name.starts_with(&format!("{number}-"));
        let folder = format!("vectors/{}", names.find(begins).unwrap());
        let case = serde_json::from_str(&read(&format!("{folder}/case.json"))).unwrap();
        Self { folder, case }
    }

    pub(crate) fn bytes(&self, file: &str) -> Vec<u8> {
        std::fs::read(fixture(&self.folder).join(file)).unwrap()
    }

    /// The verification time, in milliseconds since the Unix epoch.
    pub(crate) fn verification_time(&self) -> u64 {
        let text = self.case["verification_time"].as_str().unwrap();
        let time = OffsetDateTime::parse(text, &Rfc3339).unwrap();
        u64::try_from(time.unix_timestamp()).unwrap() * 1000
    }

    /// Sends it as its participant. The same content always has the same tag, so that it is stored
    /// once and afterwards replayed.
    pub(crate) fn send(&self, world: &World) -> Answer {
        assert_eq!(self.verification_time(), world.now().0, "{}", self.folder);
        let request = Request::new("POST", "/diagnosiskeys/upload")
            .with("Content-Type", "application/protobuf; version=1.0")
            .with("batchTag", self.bytes("canonical.sha256"))
            .with("batchSignature", self.bytes("signature.b64"))
            .body(self.bytes("batch.pb"));
        ask(
            world,
            &identify(request, self.case["country"].as_str().unwrap()),
        )
    }
}

#[track_caller]
pub(crate) fn accepts(world: &World, vectors: &[&str]) {
    for number in vectors {
        let answer = Vector::read(number).send(world);
        assert_eq!(answer.status, 201, "{number}: {answer:?}");
    }
}

#[track_caller]
pub(crate) fn refuses(world: &World, reason: &str, vectors: &[&str]) {
    for number in vectors {
        let answer = Vector::read(number).send(world);
        assert_eq!(answer.status, 400, "{number}: {answer:?}");
        assert_eq!(answer.message(), "Invalid signature", "{number}");
        assert_eq!(answer.json()["reason"], reason, "{number}: {answer:?}");
    }
}
