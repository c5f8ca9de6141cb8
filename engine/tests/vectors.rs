//! The signed batches of `fixtures/vectors`: made by BouncyCastle, OpenSSL and by hand, with the
//! verdicts of a suite that knows nothing of this code.
//!
//! `EFGS_VECTORS` names another folder of the same format, `EFGS_MUTANTS` another list of mutants of
//! its cases. What a folder does not hold is skipped.

#![allow(clippy::unwrap_used, reason = "a test: what cannot be read fails it")]

use std::collections::{BTreeMap, HashMap};
use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use engine::decode::decode;
use engine::domain::{CertificateKind, ContentDigest, Country, Thumbprint, UnixMillis};
use engine::pki::Certificate;
use engine::trust::{CertificateRow, Trust, TrustAnchors};
use engine::validate::check_origins;
use engine::verify::{
    CanonicalBytes, Exceptions, SignatureCheck, SignatureDemand, SignatureForm, check_signature,
};
use engine::wire::BodyError;
use serde_json::Value;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

mod policy;
mod unsigned;

use policy::{Decision, POLICY};
use unsigned::unsigned_parts;

/// `Err` with the reason, in the suite's words.
type Verdict = Result<(), &'static str>;

fn folder() -> PathBuf {
    named_or_fixture("EFGS_VECTORS", "vectors")
}

/// The path that an environment variable names, otherwise the project's own.
fn named_or_fixture(variable: &str, fixture: &str) -> PathBuf {
    let package = Path::new(env!("CARGO_MANIFEST_DIR"));
    let Some(named) = std::env::var_os(variable) else {
        return package.join("tests/fixtures").join(fixture);
    };
    let named = PathBuf::from(named);
    // Tests run in the package's folder; a relative name is meant from where cargo was called.
    let from_workspace = package.join("..").join(&named);
    if named.exists() {
        named
    } else {
        from_workspace
    }
}

fn text(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn json(path: &Path) -> Value {
    serde_json::from_str(&text(path)).unwrap()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let digit = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap();
    (0..text.len()).step_by(2).map(digit).collect()
}

fn strings(value: &Value) -> Vec<&str> {
    value
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item.as_str().unwrap())
        .collect()
}

/// Writes past the capture of the test harness.
fn report(line: &str) {
    writeln!(std::io::stdout().lock(), "\n{line}").unwrap();
}

fn assert_none(failures: &[String]) {
    assert!(
        failures.is_empty(),
        "{} failures:\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// A row of `pki/registry.json`, and whether its operator signature is said to hold.
fn registry(folder: &Path) -> Option<(TrustAnchors, Vec<(CertificateRow, bool)>)> {
    let pki = folder.join("pki");
    let path = pki.join("registry.json");
    if !path.exists() {
        return None;
    }
    let registry = json(&path);
    let anchor = text(&pki.join(registry["trust_anchor"].as_str().unwrap()));
    let row = |row: &Value| {
        let field = |name: &str| row[name].as_str().unwrap();
        let file = |name: &str| Arc::from(text(&pki.join(field(name))));
        let certificate = CertificateRow {
            thumbprint: Thumbprint::parse_hex(field("thumbprint")).unwrap(),
            country: Country::parse(field("country")).unwrap(),
            kind: CertificateKind::from_name(field("type")).unwrap(),
            pem: file("certificate"),
            operator_signature: file("signature"),
            revoked_at: row["revoked"].as_bool().unwrap().then_some(UnixMillis(1)),
        };
        (certificate, row["signature_valid"].as_bool().unwrap())
    };
    let rows = registry["certificates"]
        .as_array()
        .unwrap()
        .iter()
        .map(row)
        .collect();
    Some((TrustAnchors::from_pem(&anchor).unwrap(), rows))
}

fn trust(folder: &Path) -> Trust {
    let (anchor, rows) = registry(folder).expect("cases need pki/registry.json");
    Trust::load(rows.into_iter().map(|(row, _)| row), &anchor, None)
}

/// One case folder.
struct Case {
    id: String,
    fields: Value,
    batch: Vec<u8>,
    canonical: Vec<u8>,
    canonical_sha256: String,
    batch_signature: String,
    signer_pem: String,
}

impl Case {
    fn read(folder: &Path) -> Self {
        let id = folder.file_name().unwrap().to_str().unwrap().to_owned();
        let bytes = |name: &str| fs::read(folder.join(name)).unwrap();
        Self {
            fields: json(&folder.join("case.json")),
            batch: bytes("batch.pb"),
            canonical: bytes("canonical.bin"),
            canonical_sha256: text(&folder.join("canonical.sha256")),
            batch_signature: String::from_utf8_lossy(&bytes("signature.b64")).into_owned(),
            signer_pem: text(&folder.join("signer.pem")),
            id,
        }
    }

    /// All cases of a folder, in order.
    fn all(folder: &Path) -> Vec<Self> {
        let entries = fs::read_dir(folder).unwrap_or_else(|e| panic!("{}: {e}", folder.display()));
        let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
        paths.retain(|path| path.join("case.json").exists());
        paths.sort();
        paths.iter().map(|path| Self::read(path)).collect()
    }

    fn is_policy(&self) -> bool {
        self.fields["policy"].as_bool().unwrap()
    }

    fn is_accepted(&self) -> bool {
        self.fields["expected"] == "accept"
    }

    fn verification_time(&self) -> UnixMillis {
        let time = self.fields["verification_time"].as_str().unwrap();
        let seconds = OffsetDateTime::parse(time, &Rfc3339)
            .unwrap()
            .unix_timestamp();
        UnixMillis(u64::try_from(seconds).unwrap() * 1000)
    }

    /// The verdict on this batch with some signature, sent by an uploader of the case's country.
    fn verdict(&self, batch_signature: &str, trust: &Trust) -> Verdict {
        // BouncyCastle's own provider knows PSS.
        let exceptions = Exceptions {
            sha1: false,
            pss: true,
        };
        self.verdict_with(batch_signature, exceptions, trust)
    }

    fn verdict_with(
        &self,
        batch_signature: &str,
        exceptions: Exceptions,
        trust: &Trust,
    ) -> Verdict {
        let batch = decode(&self.batch, u32::MAX).map_err(|_| "malformed_protobuf")?;
        let signed_bytes = CanonicalBytes::of(&batch).signed_bytes();
        let content = digest::digest(&digest::SHA256, &signed_bytes);
        let check = SignatureCheck {
            batch_signature,
            signed_bytes: &signed_bytes,
            content: &ContentDigest(content.as_ref().try_into().unwrap()),
            keys: &batch,
            exceptions,
            trust,
            now: self.verification_time(),
        };
        check_signature(&check).map_err(|error| match error.code() {
            "digest_mismatch" => "signature_invalid",
            code => code,
        })?;
        let country = Country::parse(self.fields["country"].as_str().unwrap()).unwrap();
        check_origins(&batch, country).map_err(|_| "origin_mismatch")
    }

    /// The canonical text is what the suite computed.
    fn check_canonical(&self) -> Result<(), String> {
        let batch = decode(&self.batch, u32::MAX).map_err(|error| error.to_string())?;
        let signed_bytes = CanonicalBytes::of(&batch).signed_bytes();
        let sha256 = hex(digest::digest(&digest::SHA256, &signed_bytes).as_ref());
        if signed_bytes == self.canonical && sha256 == self.canonical_sha256 {
            Ok(())
        } else {
            Err("canonical text differs".to_owned())
        }
    }

    /// Whether the verdict is the suite's.
    fn check_verdict(&self, verdict: Verdict) -> Result<(), String> {
        let reason = self.fields["reject_reason"].as_str();
        let also = strings(&self.fields["also_acceptable_reasons"]);
        match verdict {
            Ok(()) if self.is_accepted() => Ok(()),
            Err(found) if Some(found) == reason || also.contains(&found) => Ok(()),
            _ => Err(format!("{verdict:?}, expected {reason:?} or {also:?}")),
        }
    }
}

/// Whether the verdict is the one that the table decided on.
fn check_decision(decision: Decision, verdict: Verdict) -> Result<(), String> {
    let decided = match decision {
        Decision::Accept => Ok(()),
        Decision::Reject(reason) => Err(reason),
    };
    if verdict == decided {
        Ok(())
    } else {
        Err(format!("{verdict:?}, the policy table says {decided:?}"))
    }
}

fn decision(id: &str) -> Option<Decision> {
    let row = POLICY.iter().find(|(known, _, _)| *known == id);
    row.map(|&(_, decision, _)| decision)
}

#[test]
fn decides_every_case_as_the_suite_or_the_policy_table_says() {
    let folder = folder();
    let cases = Case::all(&folder);
    if cases.is_empty() {
        report("vectors: 0 cases, 0 accepted, 0 rejected, 0 policy cases not in the table");
        return;
    }
    let trust = trust(&folder);
    let mut failures = Vec::new();
    let (mut accepted, mut open) = (0, Vec::new());
    for case in &cases {
        let verdict = case.verdict(&case.batch_signature, &trust);
        accepted += usize::from(verdict.is_ok());
        let checked = match (case.is_policy(), decision(&case.id)) {
            (true, Some(decision)) => check_decision(decision, verdict),
            (true, None) => {
                open.push(format!(
                    "policy case not in the table: {}: {verdict:?}",
                    case.id
                ));
                Ok(())
            }
            (false, _) => case.check_verdict(verdict),
        };
        for failure in [checked, case.check_canonical()]
            .into_iter()
            .filter_map(Result::err)
        {
            failures.push(format!("{}: {failure}", case.id));
        }
    }
    open.push(format!(
        "vectors: {} cases, {accepted} accepted, {} rejected, {} policy cases not in the table",
        cases.len(),
        cases.len() - accepted,
        open.len(),
    ));
    report(&open.join("\n"));
    assert_none(&failures);
}

/// What a good signature is said to need is what it needs.
#[test]
fn names_the_settings_that_every_good_signature_needs() {
    let folder = folder();
    let trust = trust(&folder);
    let all = Exceptions {
        sha1: true,
        pss: true,
    };
    let mut failures = Vec::new();
    let mut seen = BTreeMap::new();
    for case in Case::all(&folder) {
        let verdict = |exceptions| case.verdict_with(&case.batch_signature, exceptions, &trust);
        if verdict(all).is_err() {
            continue;
        }
        let form = SignatureForm::of(&case.batch_signature);
        let needed = Exceptions {
            sha1: verdict(Exceptions { sha1: false, ..all }).is_err(),
            pss: verdict(Exceptions { pss: false, ..all }).is_err(),
        };
        let said = match form.demand {
            SignatureDemand::Settings { sha1, pss } => Some(Exceptions { sha1, pss }),
            SignatureDemand::Refused => None,
        };
        if said != Some(needed) {
            failures.push(format!("{}: {form:?}, needs {needed:?}", case.id));
        }
        *seen.entry(form.demand.to_string()).or_insert(0) += 1;
    }
    assert_none(&failures);
    assert!(seen["-"] > 20 && seen["pss"] > 0, "{seen:?}");
}

#[test]
fn agrees_on_every_operator_signature_of_the_registry() {
    let Some((anchor, rows)) = registry(&folder()) else {
        return;
    };
    let disagrees = |(row, valid): &&(CertificateRow, bool)| {
        anchor.verify(row.pem.as_bytes(), &row.operator_signature) != *valid
    };
    let failures: Vec<_> = rows
        .iter()
        .filter(disagrees)
        .map(|(row, _)| row.thumbprint.to_string())
        .collect();
    assert_none(&failures);
}

#[test]
fn reads_thumbprint_and_country_of_every_listed_certificate() {
    let Some((_, rows)) = registry(&folder()) else {
        return;
    };
    for (row, _) in rows
        .iter()
        .filter(|(row, _)| row.kind != CertificateKind::Signing)
    {
        let der = Certificate::der_of_pem(&row.pem).unwrap();
        let certificate = Certificate::from_der(&der).unwrap();
        assert_eq!(certificate.thumbprint(), row.thumbprint);
        assert_eq!(certificate.country(), Ok(row.country));
    }
}

#[test]
fn writes_the_canonical_text_and_sort_key_of_every_single_key() {
    for file in ["keys-only/keys.jsonl", "keys-only/non-ascii.jsonl"] {
        let path = folder().join(file);
        if !path.exists() {
            continue;
        }
        for line in text(&path).lines().filter(|line| !line.is_empty()) {
            let key: Value = serde_json::from_str(line).unwrap();
            // Decoding stops where these are too long: such a key is refused, and has no text.
            let visited = strings(&key["key"]["visitedCountries"]).join(",");
            if visited.len() > engine::limits::VISITED_COUNTRIES_CHARACTERS_MAX {
                continue;
            }
            let field = |name: &str| key[name].as_str().unwrap();
            let body = as_batch(&unhex(field("protobuf_hex")));
            let canonical = CanonicalBytes::of(&decode(&body, 1).unwrap());
            let id = field("id");
            assert_eq!(hex(canonical.key(0)), field("canonical_hex"), "{file} {id}");
            assert_eq!(
                STANDARD.encode(canonical.key(0)),
                field("sort_key"),
                "{file} {id}"
            );
        }
    }
}

/// A batch of one encoded key.
fn as_batch(message: &[u8]) -> Vec<u8> {
    let mut body = vec![0x0a];
    let mut length = message.len();
    while length >= 0x80 {
        body.push(u8::try_from(length & 0x7f).unwrap() | 0x80);
        length >>= 7;
    }
    body.push(u8::try_from(length).unwrap());
    body.extend_from_slice(message);
    body
}

#[test]
fn orders_shuffled_batches_as_they_are_signed() {
    let sorting = folder().join("sorting");
    if !sorting.exists() {
        return;
    }
    for entry in fs::read_dir(sorting).unwrap() {
        let path = entry.unwrap().path();
        let body = fs::read(path.join("batch.pb")).unwrap();
        let canonical = CanonicalBytes::of(&decode(&body, u32::MAX).unwrap());
        let order: Vec<_> = canonical.order().iter().map(|&at| u64::from(at)).collect();
        let permutation = &json(&path.join("permutation.json"))["permutation"];
        let permutation = permutation
            .as_array()
            .unwrap()
            .iter()
            .map(|at| at.as_u64().unwrap());
        assert_eq!(order, permutation.collect::<Vec<_>>(), "{}", path.display());
        assert_eq!(
            canonical.signed_bytes(),
            fs::read(path.join("canonical.bin")).unwrap()
        );
    }
}

#[test]
fn refuses_every_malformed_body() {
    let malformed = folder().join("protobuf-malformed");
    if !malformed.exists() {
        return;
    }
    let mut failures = Vec::new();
    for entry in json(&malformed.join("index.json")).as_array().unwrap() {
        let file = entry["file"].as_str().unwrap();
        let verdict = match decode(&fs::read(malformed.join(file)).unwrap(), u32::MAX) {
            Ok(_) => Ok(()),
            Err(BodyError::Malformed(_)) => Err("malformed_protobuf"),
            Err(other) => panic!("{file}: {other}"),
        };
        let expected = match (entry["policy"].as_bool().unwrap(), decision(file)) {
            (true, Some(Decision::Accept)) => Ok(()),
            (true, Some(Decision::Reject(reason))) => Err(reason),
            (true, None) => {
                report(&format!(
                    "policy case not in the table: {file}: {verdict:?}"
                ));
                continue;
            }
            (false, _) if entry["expected"] == "accept" => Ok(()),
            (false, _) => Err("malformed_protobuf"),
        };
        if verdict != expected {
            failures.push(format!("{file}: {verdict:?}, expected {expected:?}"));
        }
    }
    assert_none(&failures);
}

/// A signature with one changed identifier octet: the case that it is made from, where, and which
/// bits.
struct Mutant<'a> {
    case: &'a str,
    offset: usize,
    mask: u8,
}

impl<'a> Mutant<'a> {
    /// Reads a line of the list; `None` for comments.
    fn read(line: &'a str) -> Option<Self> {
        if line.is_empty() || line.starts_with('#') {
            return None;
        }
        let columns: Vec<_> = line.split('\t').collect();
        let &[case, offset, mask] = columns.as_slice() else {
            panic!("not case, offset and mask: {line}");
        };
        Some(Self {
            case,
            offset: offset.parse().unwrap(),
            mask: u8::from_str_radix(mask, 16).unwrap(),
        })
    }

    fn applied_to(&self, case: &Case) -> Vec<u8> {
        let mut signature = STANDARD.decode(&case.batch_signature).unwrap();
        signature[self.offset] ^= self.mask;
        signature
    }
}

#[test]
fn refuses_every_changed_identifier_octet_that_bouncy_castle_refuses() {
    let folder = folder();
    let list = text(&named_or_fixture("EFGS_MUTANTS", "mutants.tsv"));
    let trust = trust(&folder);
    let cases: HashMap<_, _> = Case::all(&folder)
        .into_iter()
        .map(|case| (case.id.clone(), case))
        .collect();
    let (mut failures, mut run) = (Vec::new(), 0);
    for mutant in list.lines().filter_map(Mutant::read) {
        let Some(case) = cases.get(mutant.case) else {
            panic!("no case {} in {}", mutant.case, folder.display());
        };
        run += 1;
        let verdict = case.verdict(&STANDARD.encode(mutant.applied_to(case)), &trust);
        let as_it_should = matches!(
            verdict,
            Err("malformed_cms" | "signer_cert_not_found" | "unsupported_algorithm")
        );
        if !as_it_should {
            let Mutant { case, offset, mask } = mutant;
            failures.push(format!("{case} at {offset} ^ {mask:02x}: {verdict:?}"));
        }
    }
    report(&format!(
        "mutants: {} refused of {run}",
        run - failures.len()
    ));
    assert_none(&failures);
}

/// Every how many bytes a signature is changed or cut. A prime, so that the cases, each with its
/// own first position, together meet every field.
const STRIDE: usize = 7;

#[test]
fn never_accepts_a_signature_with_a_changed_bit_outside_its_unsigned_parts() {
    let folder = folder();
    let cases = Case::all(&folder);
    if cases.is_empty() {
        return;
    }
    let trust = trust(&folder);
    let (mut changed, mut failures) = (0, Vec::new());
    let mut accepted = BTreeMap::<_, usize>::new();
    let sound = cases
        .iter()
        .filter(|case| case.is_accepted() && !case.is_policy());
    for (number, case) in sound.enumerate() {
        let signature = STANDARD.decode(&case.batch_signature).unwrap();
        let certificate = Certificate::der_of_pem(&case.signer_pem).unwrap();
        let unsigned = unsigned_parts(&signature, &certificate);
        for at in (number % STRIDE..signature.len()).step_by(STRIDE) {
            let mut mutant = signature.clone();
            mutant[at] ^= 1 << (at / STRIDE % 8);
            changed += 1;
            if case.verdict(&STANDARD.encode(&mutant), &trust).is_err() {
                continue;
            }
            match unsigned.iter().find(|(_, place)| place.contains(&at)) {
                Some((name, _)) => *accepted.entry(*name).or_default() += 1,
                None => failures.push(format!("{}: bit flipped in byte {at}", case.id)),
            }
        }
    }
    report(&format!(
        "bits: {changed} flipped, accepted in {accepted:?}"
    ));
    assert_none(&failures);
}

#[test]
fn refuses_signatures_that_are_cut() {
    let folder = folder();
    let cases = Case::all(&folder);
    if cases.is_empty() {
        return;
    }
    let trust = trust(&folder);
    for (number, case) in cases.iter().filter(|case| case.is_accepted()).enumerate() {
        let signature = STANDARD.decode(&case.batch_signature).unwrap_or_default();
        for end in (number % STRIDE + 1..signature.len()).step_by(STRIDE) {
            let verdict = case.verdict(&STANDARD.encode(&signature[..end]), &trust);
            assert_eq!(verdict, Err("malformed_cms"), "{} cut at {end}", case.id);
        }
    }
}
