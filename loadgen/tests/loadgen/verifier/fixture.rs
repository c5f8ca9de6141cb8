//! Three participants, their uploads, and what a gateway should serve of them.

use std::collections::BTreeMap;
use std::sync::Arc;

use engine::domain::{Country, Day, UnixMillis};
use loadgen::record::{Outcome, Record, RecordedUpload};
use loadgen::verify::{
    Auditor, Delivery, Expected, Findings, Received, SigningCertificate, Verdict, VerifyError,
    check_deliveries,
};
use loadgen::workload::{PreparedUpload, Workload};
use serde_json::{Value, json};

use crate::support::{Key, Pki, country, openssl, pki};

/// Three participants with three uploads each: 10, 10 and 5 keys.
pub(super) struct Fixture {
    pub(super) pki: Pki,
    pub(super) thumbprints: BTreeMap<String, String>,
    pub(super) uploads: Vec<PreparedUpload>,
    pub(super) record: Record,
}

/// One download batch as one participant receives it: the uploads' bodies, kept apart, and the
/// entries of its audit, the participant's own last.
#[derive(Clone)]
pub(super) struct Batch {
    pub(super) tag: String,
    pub(super) next: String,
    pub(super) slices: Vec<Vec<u8>>,
    pub(super) audit: Vec<Value>,
}

pub(super) fn fixture() -> Fixture {
    let pki = pki(&[("DE", Key::P256), ("FR", Key::Rsa), ("IT", Key::P256)]);
    let day = Day::parse_iso("2021-06-01").unwrap();
    let shares = ["DE", "FR", "IT"].map(|code| (country(code), 25));
    let workload = Workload::new(9, 10, day, &shares);
    let at = UnixMillis(day.start_unix_seconds() * 1000);
    let uploads = workload.prepare(&pki.participants, at, |_| ()).unwrap();
    let record = Record {
        profile: "test".to_owned(),
        seed: workload.seed,
        countries: workload.countries,
        uploads: uploads.iter().map(recorded).collect(),
    };
    Fixture {
        thumbprints: thumbprints(&pki),
        pki,
        uploads,
        record,
    }
}

/// By `COUNTRY/NAME`, as OpenSSL computes them.
pub(super) fn thumbprints(pki: &Pki) -> BTreeMap<String, String> {
    let names = ["DE", "FR", "IT"]
        .into_iter()
        .flat_map(|code| ["authentication", "signing"].map(|name| format!("{code}/{name}")));
    let thumbprint = |name: String| {
        let path = pki.folder.path().join(format!("{name}.pem"));
        let path = path.to_str().unwrap();
        let output = openssl(&["x509", "-noout", "-fingerprint", "-sha256", "-in", path]);
        let text = String::from_utf8(output.stdout).unwrap();
        let digits = text.trim().rsplit('=').next().unwrap().replace(':', "");
        // The form of the reference: without leading zero digits, unless it is only one.
        let digits = digits.to_lowercase();
        let short = digits.trim_start_matches('0');
        let legacy = if short.len() < 63 { short } else { &digits };
        (name, legacy.to_owned())
    };
    names.map(thumbprint).collect()
}

pub(super) fn recorded(upload: &PreparedUpload) -> RecordedUpload {
    RecordedUpload {
        spec: upload.spec.clone(),
        outcome: Outcome::Stored,
        signed_digest: upload.signed_digest,
        batch_signature: upload.batch_signature.clone(),
    }
}

impl Fixture {
    /// Three batches of three uploads each, one of each country, without the receiver's own.
    pub(super) fn batches(&self, receiver: Country) -> Vec<Batch> {
        let batch = |number: u32| {
            let all = self
                .uploads
                .iter()
                .filter(|upload| upload.spec.index + 1 == number);
            let (own, theirs): (Vec<_>, Vec<_>) =
                all.partition(|upload| upload.spec.country == receiver);
            Batch {
                audit: theirs
                    .iter()
                    .chain(&own)
                    .map(|upload| self.entry(upload))
                    .collect(),
                tag: format!("20210601-{number}"),
                next: if number < 3 {
                    format!("20210601-{}", number + 1)
                } else {
                    "null".into()
                },
                slices: theirs.iter().map(|upload| upload.body.to_vec()).collect(),
            }
        };
        (1..=3).map(batch).collect()
    }

    /// What the audit says of an upload (wire §15), thumbprints from OpenSSL.
    pub(super) fn entry(&self, upload: &PreparedUpload) -> Value {
        let country = upload.spec.country.to_string();
        let (uploader, operator_signature_of_uploader) =
            self.pki.certificate(&country, "authentication");
        let (signer, operator_signature_of_signer) = self.pki.certificate(&country, "signing");
        json!({
            "country": country,
            "uploadedTime": "2021-06-01T09:12:33.12Z",
            "uploaderCertificate": uploader,
            "uploaderThumbprint": self.thumbprints[&format!("{country}/authentication")],
            "uploaderOperatorSignature": operator_signature_of_uploader,
            "signingCertificate": signer,
            "uploaderSigningThumbprint": self.thumbprints[&format!("{country}/signing")],
            "signingCertificateOperatorSignature": operator_signature_of_signer,
            "amount": upload.spec.key_count,
            "batchSignature": upload.batch_signature,
        })
    }

    pub(super) fn expected(&self) -> Result<Expected, VerifyError> {
        Expected::of(std::slice::from_ref(&self.record), &self.pki.participants)
    }

    /// What the verifier finds when everybody receives what `tamper` leaves.
    pub(super) fn findings(&self, tamper: impl Fn(&str, &mut Vec<Batch>)) -> Findings {
        self.verdict(self.expected().unwrap(), tamper).findings
    }

    /// The same without a record.
    pub(super) fn audited(&self, tamper: impl Fn(&mut Vec<Batch>)) -> Verdict {
        let expected = Expected::of(&[], &self.pki.participants).unwrap();
        self.verdict(expected, |receiver, batches| {
            if receiver == "FR" {
                tamper(batches);
            }
        })
    }

    pub(super) fn auditor(&self) -> Arc<Auditor> {
        let anchor = SigningCertificate::from_der(&self.pki.anchor()).unwrap();
        Arc::new(Auditor::new(anchor))
    }

    pub(super) fn verdict(
        &self,
        expected: Expected,
        tamper: impl Fn(&str, &mut Vec<Batch>),
    ) -> Verdict {
        let (expected, auditor) = (Arc::new(expected), self.auditor());
        let deliver = |receiver: &str| {
            let mut batches = self.batches(country(receiver));
            tamper(receiver, &mut batches);
            let (expected, auditor) = (Arc::clone(&expected), Arc::clone(&auditor));
            let mut delivery = Delivery::new(expected, auditor, country(receiver));
            for batch in &batches {
                batch.deliver(&mut delivery);
            }
            delivery
        };
        check_deliveries(&expected, ["DE", "FR", "IT"].map(deliver).into(), false)
    }

    /// The same, when FR alone receives something else.
    pub(super) fn findings_at_fr(&self, tamper: impl Fn(&mut Vec<Batch>)) -> Findings {
        self.findings(|receiver, batches| {
            if receiver == "FR" {
                tamper(batches);
            }
        })
    }
}

impl Batch {
    /// Without its first upload, as if that had never been stored.
    pub(super) fn lose_first(&mut self) {
        self.slices.remove(0);
        self.audit.remove(0);
    }

    pub(super) fn deliver(&self, delivery: &mut Delivery) {
        let audit = serde_json::to_vec(&self.audit).unwrap();
        delivery.take(&Received {
            tag: &self.tag,
            next: &self.next,
            body: &self.slices.concat(),
            audit: Some(&audit),
        });
    }
}

/// The encoded keys of a slice, each with its tag and length.
pub(super) fn keys(slice: &[u8]) -> Vec<Vec<u8>> {
    let mut keys = Vec::new();
    let mut rest = slice;
    while !rest.is_empty() {
        // `keys` fields of less than 128 bytes: a tag and one byte of length.
        let (key, behind) = rest.split_at(2 + rest[1] as usize);
        keys.push(key.to_vec());
        rest = behind;
    }
    keys
}

pub(super) fn change_keys(slice: &mut Vec<u8>, change: impl FnOnce(&mut Vec<Vec<u8>>)) {
    let mut all = keys(slice);
    change(&mut all);
    *slice = all.concat();
}

pub(super) const CLEAN: Findings = Findings {
    missing: 0,
    duplicate: 0,
    unverified: 0,
    unexpected: 0,
    own: 0,
    disordered: 0,
    tags: 0,
    disagreements: 0,
    malformed: 0,
    audit_unreadable: 0,
    audit_missing: 0,
    audit_unknown: 0,
    audit_amounts: 0,
    audit_order: 0,
    audit_contradictions: 0,
};
