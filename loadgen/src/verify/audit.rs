//! The audit of a download batch, read as a national backend reads it: the uploads in order, with
//! their uploaders, key counts and proofs. Pure: bytes in, verdict out.
//!
//! The keys of a batch are cut by the entries' amounts, in the entries' order; the receiver's own
//! uploads have an entry, but no keys. A slice is proven when both certificates of its entry match
//! their description and carry a valid operator signature, its keys originate in the entry's
//! country, and the batch signature is the signing certificate's over exactly these keys.

use std::collections::HashMap;
use std::fmt;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use engine::domain::Country;
use engine::locks::LockIgnoringPoison as _;
use serde::Deserialize;
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::client::signature::{Content, SignatureError, SigningCertificate, content_digest};
use crate::protocol::{self, signed_bytes};
use testkit::digest::sha256;

/// Columns of PEM as BouncyCastle writes it; IT compares a certificate's text with its own writing
/// of it.
const PEM_COLUMNS: usize = 64;

/// Which certificate of an entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Role {
    /// The one that the upload was sent with.
    Uploader,
    /// The one that it was signed with.
    Signer,
}

/// What is wrong with a certificate of an audit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, thiserror::Error)]
pub enum CertificateFailure {
    /// Not the PEM of one usable certificate.
    #[error("is not a certificate")]
    Unreadable,
    /// Not written as BouncyCastle writes PEM: 64 columns, line feeds, one at the end.
    #[error("is written in another form of PEM")]
    PemForm,
    /// The thumbprint beside it is that of another one.
    #[error("has another thumbprint")]
    Thumbprint,
    /// The operator's signature is missing, or not the trust anchor's over this text.
    #[error("has no valid operator signature")]
    OperatorSignature,
    /// It is another country's.
    #[error("is another country's")]
    Country,
    /// It was not valid when the upload was stored.
    #[error("was not valid at the time of the upload")]
    Validity,
}

/// Why an upload is not proven.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum ProofFailure {
    /// The batch ends before as many keys as the entry says.
    TooFewKeys,
    /// A certificate.
    Certificate(Role, CertificateFailure),
    /// The keys cannot be read.
    MalformedKeys,
    /// A key's origin is not the entry's country.
    Origin,
    /// The batch signature.
    Signature(SignatureError),
}

impl fmt::Display for ProofFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooFewKeys => f.write_str("the batch has fewer keys than the audit says"),
            Self::Certificate(Role::Uploader, failure) => {
                write!(f, "the uploader certificate {failure}")
            }
            Self::Certificate(Role::Signer, failure) => {
                write!(f, "the signing certificate {failure}")
            }
            Self::MalformedKeys => f.write_str("the keys cannot be read"),
            Self::Origin => f.write_str("a key originates in another country"),
            Self::Signature(error) => error.fmt(f),
        }
    }
}

/// One upload of a download batch, as the audit shows it. No member may be missing or null: a
/// client that reads it into typed values (FI) drops the whole answer.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct AuditEntry {
    pub(super) country: CountryCode,
    uploaded_time: Time,
    uploader_certificate: String,
    pub(super) uploader_thumbprint: String,
    uploader_operator_signature: String,
    signing_certificate: String,
    pub(super) uploader_signing_thumbprint: String,
    signing_certificate_operator_signature: String,
    pub(super) amount: u32,
    pub(super) batch_signature: String,
}

/// Two letters.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct CountryCode(pub(super) Country);

impl TryFrom<String> for CountryCode {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Country::parse(&text).map(Self).map_err(|_| "no country")
    }
}

/// ISO 8601 with an offset, in seconds since the Unix epoch.
#[derive(Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
struct Time(i64);

impl TryFrom<String> for Time {
    type Error = time::error::Parse;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        OffsetDateTime::parse(&text, &Rfc3339).map(|time| Self(time.unix_timestamp()))
    }
}

/// An entry compared with the keys of its batch.
pub(super) struct AuditedUpload {
    pub(super) entry: Arc<AuditEntry>,
    /// Whether it is the receiver's own, whose keys are not delivered.
    pub(super) own: bool,
    /// Its keys; none for its own, or when the batch ended before.
    pub(super) slice: Option<Slice>,
    /// SHA-256 of what its batch signature says was signed.
    pub(super) content: Option<[u8; 32]>,
    /// Whether it is proven; of its own, as far as that shows without the keys.
    pub(super) proof: Result<(), ProofFailure>,
}

/// Where an upload's keys stand in a batch.
#[derive(Debug, Clone)]
pub(super) struct Slice {
    pub(super) bytes: Range<usize>,
    /// SHA-256 of these bytes.
    pub(super) digest: [u8; 32],
}

/// A batch cut by its audit.
pub(super) struct AuditedBatch {
    pub(super) uploads: Vec<AuditedUpload>,
    /// Whether the receiver's own entries are behind all others.
    pub(super) own_last: bool,
    /// Whether the amounts make up exactly the batch's keys.
    pub(super) amounts_fit: bool,
}

/// The audit is not a list of entries with all their members.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Unreadable;

/// Proves uploads, each of them once, however many participants receive it.
pub struct Auditor {
    anchor: SigningCertificate,
    /// By batch signature.
    known: Mutex<HashMap<String, Vec<Arc<Known>>>>,
}

/// An entry with the slice that was cut for it.
struct Known {
    entry: Arc<AuditEntry>,
    digest: [u8; 32],
    bytes: usize,
    content: Option<[u8; 32]>,
    proof: OnceLock<Result<(), ProofFailure>>,
}

impl Auditor {
    /// Trusts certificates that this one has signed.
    pub fn new(anchor: SigningCertificate) -> Self {
        Self {
            anchor,
            known: Mutex::default(),
        }
    }

    /// Reads the audit of a batch that `receiver` downloaded, and cuts the batch by it.
    pub(super) fn audit(
        &self,
        receiver: Country,
        body: &[u8],
        audit: &[u8],
    ) -> Result<AuditedBatch, Unreadable> {
        let entries: Vec<AuditEntry> = serde_json::from_slice(audit).map_err(|_| Unreadable)?;
        let own = |entry: &AuditEntry| entry.country.0 == receiver;
        let own_last = entries.is_sorted_by_key(own);
        let mut at = Some(0);
        let mut uploads = Vec::with_capacity(entries.len());
        for entry in entries {
            let upload = if own(&entry) {
                self.check_own(entry)
            } else {
                let upload = self.check(entry, body, at);
                at = upload.slice.as_ref().map(|slice| slice.bytes.end);
                upload
            };
            uploads.push(upload);
        }
        Ok(AuditedBatch {
            uploads,
            own_last,
            amounts_fit: at.is_some_and(|at| is_at_end(&body[at..])),
        })
    }

    /// Cuts the next upload and proves it. Without a beginning, the batch has ended before.
    fn check(&self, entry: AuditEntry, body: &[u8], at: Option<usize>) -> AuditedUpload {
        let cut = at.and_then(|at| {
            self.find(&entry, body, at)
                .or_else(|| self.cut(&entry, body, at))
        });
        let Some((slice, known)) = cut else {
            return AuditedUpload {
                own: false,
                slice: None,
                content: content_of(&entry),
                proof: Err(ProofFailure::TooFewKeys),
                entry: Arc::new(entry),
            };
        };
        let keys = &body[slice.bytes.clone()];
        let proof = *known.proof.get_or_init(|| self.prove(&known.entry, keys));
        AuditedUpload {
            entry: Arc::clone(&known.entry),
            own: false,
            slice: Some(slice),
            content: known.content,
            proof,
        }
    }

    /// The slice that another participant's batch had for this entry, if this batch continues with
    /// it.
    fn find(&self, entry: &AuditEntry, body: &[u8], at: usize) -> Option<(Slice, Arc<Known>)> {
        let candidates = self.lock().get(&entry.batch_signature)?.clone();
        candidates.into_iter().find_map(|known| {
            let bytes = at..at.checked_add(known.bytes)?;
            let digest = sha256(body.get(bytes.clone())?);
            let same = digest == known.digest && *known.entry == *entry;
            same.then_some((Slice { bytes, digest }, known))
        })
    }

    /// Cuts as many keys as the entry says.
    fn cut(&self, entry: &AuditEntry, body: &[u8], at: usize) -> Option<(Slice, Arc<Known>)> {
        let rest = &body[at..];
        let mut messages = protocol::messages(rest);
        let mut end = 0;
        for _ in 0..entry.amount {
            end = end_of(messages.next()?.ok()?, rest);
        }
        let digest = sha256(&rest[..end]);
        let mut known = self.lock();
        let same = known.entry(entry.batch_signature.clone()).or_default();
        // Another participant's task may have been faster.
        let found = same
            .iter()
            .find(|known| known.digest == digest && *known.entry == *entry);
        let known = found.map(Arc::clone).unwrap_or_else(|| {
            let known = Arc::new(Known {
                entry: Arc::new(entry.clone()),
                digest,
                bytes: end,
                content: content_of(entry),
                proof: OnceLock::new(),
            });
            same.push(Arc::clone(&known));
            known
        });
        let bytes = at..at + end;
        Some((Slice { bytes, digest }, known))
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Vec<Arc<Known>>>> {
        self.known.lock_ignoring_poison()
    }

    fn check_own(&self, entry: AuditEntry) -> AuditedUpload {
        AuditedUpload {
            own: true,
            slice: None,
            content: content_of(&entry),
            proof: self.prove_but_for_keys(&entry),
            entry: Arc::new(entry),
        }
    }

    fn prove(&self, entry: &AuditEntry, keys: &[u8]) -> Result<(), ProofFailure> {
        check_origins(keys, entry.country.0)?;
        let signed = signed_bytes(keys).map_err(|_| ProofFailure::MalformedKeys)?;
        self.prove_with(entry, Content::Bytes(&signed))
    }

    fn prove_but_for_keys(&self, entry: &AuditEntry) -> Result<(), ProofFailure> {
        self.prove_with(entry, Content::Unseen)
    }

    fn prove_with(&self, entry: &AuditEntry, content: Content<'_>) -> Result<(), ProofFailure> {
        let of = |role| move |failure| ProofFailure::Certificate(role, failure);
        self.check_certificate(entry, entry.uploader())
            .map_err(of(Role::Uploader))?;
        let signer = self.check_certificate(entry, entry.signer());
        let signer = signer.map_err(of(Role::Signer))?;
        let cms = decode_base64(&entry.batch_signature);
        let cms = cms.ok_or(ProofFailure::Signature(SignatureError::Shape))?;
        signer.check(&cms, content).map_err(ProofFailure::Signature)
    }

    fn check_certificate(
        &self,
        entry: &AuditEntry,
        shown: ShownCertificate<'_>,
    ) -> Result<SigningCertificate, CertificateFailure> {
        let der = der_of_pem(shown.pem).ok_or(CertificateFailure::Unreadable)?;
        let certificate = SigningCertificate::from_der(&der);
        let certificate = certificate.map_err(|_| CertificateFailure::Unreadable)?;
        if shown.pem != pem_of(&der) {
            return Err(CertificateFailure::PemForm);
        }
        if shown.thumbprint != certificate.thumbprint.legacy_hex() {
            return Err(CertificateFailure::Thumbprint);
        }
        let signature = STANDARD.decode(shown.operator_signature);
        if !signature
            .is_ok_and(|signature| self.anchor.has_signed(shown.pem.as_bytes(), &signature))
        {
            return Err(CertificateFailure::OperatorSignature);
        }
        if certificate.countries != [entry.country.0.as_str()] {
            return Err(CertificateFailure::Country);
        }
        if !certificate.validity.contains(&entry.uploaded_time.0) {
            return Err(CertificateFailure::Validity);
        }
        Ok(certificate)
    }
}

/// Does not show keys or signatures.
impl fmt::Debug for Auditor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Auditor")
            .field("anchor", &self.anchor)
            .finish_non_exhaustive()
    }
}

/// A certificate of an entry and its description.
struct ShownCertificate<'a> {
    pem: &'a str,
    thumbprint: &'a str,
    operator_signature: &'a str,
}

impl AuditEntry {
    fn uploader(&self) -> ShownCertificate<'_> {
        ShownCertificate {
            pem: &self.uploader_certificate,
            thumbprint: &self.uploader_thumbprint,
            operator_signature: &self.uploader_operator_signature,
        }
    }

    fn signer(&self) -> ShownCertificate<'_> {
        ShownCertificate {
            pem: &self.signing_certificate,
            thumbprint: &self.uploader_signing_thumbprint,
            operator_signature: &self.signing_certificate_operator_signature,
        }
    }
}

fn content_of(entry: &AuditEntry) -> Option<[u8; 32]> {
    content_digest(&decode_base64(&entry.batch_signature)?)
}

/// Standard base64, padded or not, as the header `batchSignature` is taken.
fn decode_base64(text: &str) -> Option<Vec<u8>> {
    let engine = if text.ends_with('=') {
        STANDARD
    } else {
        STANDARD_NO_PAD
    };
    engine.decode(text).ok()
}

fn check_origins(keys: &[u8], country: Country) -> Result<(), ProofFailure> {
    let keys = protocol::keys(keys).map_err(|_| ProofFailure::MalformedKeys)?;
    match keys.iter().all(|key| key.origin == country.as_str()) {
        true => Ok(()),
        false => Err(ProofFailure::Origin),
    }
}

fn is_at_end(rest: &[u8]) -> bool {
    protocol::messages(rest).next().is_none()
}

/// Where a message ends in the bytes that it borrows from.
pub(super) fn end_of(message: &[u8], bytes: &[u8]) -> usize {
    message.as_ptr() as usize - bytes.as_ptr() as usize + message.len()
}

const PEM_BEGIN: &str = "-----BEGIN CERTIFICATE-----";
const PEM_END: &str = "-----END CERTIFICATE-----";

fn der_of_pem(pem: &str) -> Option<Vec<u8>> {
    let (_, rest) = pem.split_once(PEM_BEGIN)?;
    let (text, _) = rest.split_once(PEM_END)?;
    let text: String = text.split_ascii_whitespace().collect();
    STANDARD.decode(text).ok()
}

/// PEM as BouncyCastle writes it.
fn pem_of(der: &[u8]) -> String {
    let text = STANDARD.encode(der);
    let mut pem = format!("{PEM_BEGIN}\n");
    for line in text.as_bytes().chunks(PEM_COLUMNS) {
        pem.extend(line.iter().map(|&byte| char::from(byte)));
        pem.push('\n');
    }
    pem + PEM_END + "\n"
}
