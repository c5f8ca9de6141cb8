//! What hostile bytes are fed to, and what must hold of whatever comes out. Shared by the fuzz
//! targets of this folder and by `engine/tests/hostile_bytes/`.
//!
//! Each function takes the bytes through the functions that an upload goes through, and panics when
//! something does not hold: work and output are bounded by the input, what was decoded means the
//! same after it was encoded, and nothing verifies that was not signed.

use aws_lc_rs::digest::{SHA256, digest};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use engine::decode::{DecodedBatch, decode};
use engine::domain::{
    BatchTag, CertificateKind, ContentDigest, Country, Day, Thumbprint, UnixMillis, UploadTag,
};
use engine::limits;
use engine::pki::{Certificate, SignedMessage};
use engine::trust::{CertificateRow, Trust, TrustAnchors};
use engine::validate::validate;
use engine::verify::{
    CanonicalBytes, Exceptions, SignatureCheck, SignatureError, Signer, check_signature,
    signed_content,
};
use engine::wire::json;

/// 2021-06-01T12:00:00Z: the certificates of the test vectors are valid then.
pub const NOON: UnixMillis = UnixMillis(1_622_548_800_000);

/// A bound on keys that small inputs reach.
const FEW_KEYS: u32 = 2;

/// The text of a key that has no data, origin or countries: eight fields, five of them of
/// eight characters, each with its dot.
const EMPTY_TEXT_BYTES: usize = 48;
/// A file of the test vectors.
macro_rules! vector {
    ($file:literal) => {
        include_bytes!(concat!("../../engine/tests/fixtures/vectors/", $file))
    };
}

/// A negative number in 32 bits takes five bytes in a body and ten in a segment, with its tag.
const SEGMENT_GROWTH: usize = 2;

/// A protobuf body: decoded, validated, brought into canonical form, encoded in both formats.
pub fn protobuf_body(body: &[u8]) {
    if let Ok(batch) = decode(body, FEW_KEYS) {
        assert!(batch.key_count() <= FEW_KEYS);
    }
    let keys_max = limits::UPLOAD_KEYS_MAX;
    let Ok(batch) = decode(body, keys_max) else {
        return;
    };
    assert!(batch.key_count() <= keys_max);
    let signed_bytes = CanonicalBytes::of(&batch).signed_bytes();
    let keys = batch.key_count() as usize;
    assert!(signed_bytes.len() <= keys * EMPTY_TEXT_BYTES + body.len() * 2);
    let segment = encoded(&batch, &signed_bytes);
    assert!(segment.len() <= body.len() * SEGMENT_GROWTH);
    if let Ok(valid) = validate(batch, NOON) {
        assert_eq!(signed_content(&valid).signed_bytes(), signed_bytes);
    }
}

/// The segment of a batch means the same as the batch, and so does its JSON.
fn encoded(batch: &DecodedBatch<'_>, signed_bytes: &[u8]) -> Vec<u8> {
    let segment = batch.encode_segment();
    let again = decode(&segment, batch.key_count()).expect("our own segment");
    assert_eq!(CanonicalBytes::of(&again).signed_bytes(), signed_bytes);
    assert_eq!(again.encode_segment(), segment);
    let mut document = json::OPENING.to_vec();
    json::write_segment(&mut document, &segment);
    document.extend_from_slice(json::CLOSING);
    let back = json::to_protobuf(&document, batch.key_count());
    assert!(back.as_ref() == Ok(&segment), "JSON means the same");
    segment
}

/// A JSON body: transcoded, then as protobuf.
pub fn json_body(body: &[u8]) {
    if let Ok(protobuf) = json::to_protobuf(body, FEW_KEYS) {
        decode(&protobuf, FEW_KEYS).expect("no more keys than asked for");
    }
    if let Ok(protobuf) = json::to_protobuf(body, limits::UPLOAD_KEYS_MAX) {
        assert!(protobuf.len() <= body.len(), "JSON is never the shorter");
        decode(&protobuf, limits::UPLOAD_KEYS_MAX).expect("transcoded bodies are well-formed");
        protobuf_body(&protobuf);
    }
}

/// An upload that is known to be validly signed.
#[derive(Debug)]
pub struct SignedUpload {
    /// The body.
    pub body: Vec<u8>,
    /// The batch signature.
    pub header: String,
    /// The verification time.
    pub now: UnixMillis,
}

impl SignedUpload {
    /// Verifies a signature over the keys of a body; `None` if the body cannot be decoded.
    fn verdict(&self, trust: &Trust, body: &[u8], header: &str) -> Option<(Vec<u8>, Verdict)> {
        let batch = decode(body, limits::UPLOAD_KEYS_MAX).ok()?;
        let signed_bytes = CanonicalBytes::of(&batch).signed_bytes();
        let content = digest(&SHA256, &signed_bytes);
        let verdict = check_signature(&SignatureCheck {
            batch_signature: header,
            signed_bytes: &signed_bytes,
            content: &ContentDigest(content.as_ref().try_into().expect("32 bytes")),
            keys: &batch,
            exceptions: Exceptions {
                sha1: false,
                pss: true,
            },
            trust,
            now: self.now,
        });
        Some((signed_bytes, verdict))
    }

    /// Its own keys and its own signature.
    ///
    /// # Panics
    /// When the signature is invalid: then it cannot serve as a sample.
    fn signed(&self, trust: &Trust) -> (Vec<u8>, Signer) {
        let checked = self.verdict(trust, &self.body, &self.header);
        let (signed_bytes, verdict) = checked.expect("the sample can be decoded");
        (signed_bytes, verdict.expect("the sample is validly signed"))
    }
}

/// A vector that BouncyCastle signed, and the list with its certificate.
pub fn sample_upload() -> (Trust, SignedUpload) {
    let (anchor, row) = sample_certificate();
    let upload = SignedUpload {
        body: vector!("001-bc-rsa2048-sha256-attrs-ber/batch.pb").to_vec(),
        header: sample_text(vector!("001-bc-rsa2048-sha256-attrs-ber/signature.b64")),
        now: NOON,
    };
    (Trust::load([row], &anchor, None), upload)
}

type Verdict = Result<Signer, SignatureError>;

/// A batch signature over the keys of `sample`. It may only hold if everything that is signed, and
/// who signed it, is as in the sample; what is not signed may differ.
pub fn batch_signature(trust: &Trust, sample: &SignedUpload, header: &str) {
    if let Some((_, Ok(signer))) = sample.verdict(trust, &sample.body, header) {
        assert_eq!(signer, sample.signed(trust).1, "another certificate");
        assert_eq!(signed_parts(header), signed_parts(&sample.header));
    }
}

/// The signature value and the signed attributes.
fn signed_parts(header: &str) -> (Vec<u8>, Option<Vec<u8>>) {
    let padded = STANDARD.decode(header);
    let bytes = padded.or_else(|_| STANDARD_NO_PAD.decode(header));
    let bytes = bytes.expect("it was accepted");
    let message = SignedMessage::parse(&bytes);
    let message = message.expect("it was accepted");
    let attributes = message.signed_attributes().map(<[u8]>::to_vec);
    (message.signature().to_vec(), attributes)
}

/// Other keys under the signature of `sample`. It holds if and only if they mean the same.
pub fn signed_body(trust: &Trust, sample: &SignedUpload, body: &[u8]) {
    if let Some((signed_bytes, verdict)) = sample.verdict(trust, body, &sample.header) {
        let same = signed_bytes == sample.signed(trust).0;
        assert_eq!(verdict.is_ok(), same, "{verdict:?}");
    }
}

/// A certificate: as DER, as PEM, as a trust anchor, and in place of the listed one of `row`.
pub fn certificate(anchor: &TrustAnchors, row: &CertificateRow, bytes: &[u8]) {
    if let Ok(certificate) = Certificate::from_der(bytes) {
        assert!(bytes.len() <= limits::CMS_BYTES_MAX);
        let _country = certificate.country();
        let _validity = certificate.validity();
    }
    let Ok(pem) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Ok(der) = Certificate::der_of_pem(pem) {
        assert!(der.len() <= pem.len());
        let _certificate = Certificate::from_der(&der).map(|found| found.thumbprint());
    }
    let _anchor = TrustAnchors::from_pem(pem);
    let listed = CertificateRow {
        pem: pem.into(),
        ..row.clone()
    };
    assert!(!is_intact(anchor, &listed) || *listed.pem == *row.pem);
    let signed_row = CertificateRow {
        operator_signature: pem.into(),
        ..row.clone()
    };
    let _intact = is_intact(anchor, &signed_row);
}

fn is_intact(anchor: &TrustAnchors, row: &CertificateRow) -> bool {
    let trust = Trust::load([row.clone()], anchor, None);
    let listed = trust.find(&row.thumbprint, row.kind);
    listed.expect("every row is listed").is_intact()
}

/// The anchor of the test PKI, and a row that it has signed.
pub fn sample_certificate() -> (TrustAnchors, CertificateRow) {
    let anchor = sample_text(vector!("pki/trust-anchor/trust-anchor.pem"));
    let thumbprint = sample_text(vector!("pki/DE/DE-signing.sha256"));
    let row = CertificateRow {
        thumbprint: Thumbprint::parse_hex(&thumbprint).expect("a thumbprint"),
        country: Country::parse("DE").expect("a country"),
        kind: CertificateKind::Signing,
        pem: sample_text(vector!("pki/DE/DE-signing.pem")).into(),
        operator_signature: sample_text(vector!("pki/DE/DE-signing.sig")).into(),
        revoked_at: None,
    };
    let anchor = TrustAnchors::from_pem(&anchor).expect("a trust anchor");
    (anchor, row)
}

fn sample_text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("the vectors hold text")
}

/// Tags, dates and the other short texts of headers and paths.
pub fn short_text(text: &str) {
    if let Ok(tag) = UploadTag::parse(text) {
        assert_eq!(tag.as_str(), text);
        assert!((1..=UploadTag::CHARACTERS_MAX).contains(&text.len()));
    }
    if let Ok(tag) = BatchTag::parse(text) {
        assert_eq!(tag.to_string(), text);
    }
    if let Ok(day) = Day::parse_iso(text) {
        assert_eq!(Some(day.to_string().as_str()), text.get(..10));
    }
    if let Ok(day) = Day::parse_compact(text) {
        assert_eq!(format!("{:08}", day.compact_number()), text);
    }
    if let Ok(country) = Country::parse(text) {
        assert!(country.as_str().eq_ignore_ascii_case(text));
    }
    if let Ok(thumbprint) = Thumbprint::parse_hex(text) {
        assert!(thumbprint.to_string().eq_ignore_ascii_case(text));
    }
}
