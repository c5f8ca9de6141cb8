//! Requests that no participant should send, each with the status that the protocol demands.

use std::sync::Arc;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use engine::domain::{UnixMillis, UploadTag};
use http::header::{ACCEPT, CONTENT_TYPE};
use http::{HeaderName, HeaderValue, Method};
use serde::{Deserialize, Serialize};

use crate::keys::KeyGenerator;
use crate::participants::Participant;
use crate::protocol::signed_bytes;
use crate::signer::Encoding;

/// A kind of hostile request.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    /// The signature is the participant's own, but over other keys.
    WrongSignature,
    /// The signature is another participant's, over these keys.
    ForeignSigner,
    /// The signature is not base64.
    NotBase64,
    /// The signature is base64, but not CMS.
    NotCms,
    /// There is no signature.
    NoSignature,
    /// There is no upload tag.
    NoTag,
    /// The upload tag has 65 characters.
    LongTag,
    /// The body ends within a key.
    Truncated,
    /// The body is random bytes.
    Noise,
    /// The keys originate in another country.
    ForeignOrigin,
    /// One key more than an upload may have.
    TooManyKeys,
    /// A body larger than any upload.
    Oversized,
    /// An unsupported media type.
    WrongMediaType,
    /// The certificate that signs uploads is used to authenticate.
    WrongCertificate,
    /// An unknown path.
    WrongPath,
    /// An invalid date.
    WrongDate,
}

/// Keys of a hostile upload, where their number does not matter.
const KEYS: u32 = 100;
/// One more than a gateway takes, by the reference's default.
const KEYS_TOO_MANY: u32 = 5001;
/// More than any gateway can be told to take: `limits::BODY_BYTES_SETTING_MAX` is 15 MiB.
const BYTES_TOO_MANY: usize = 16 << 20;

/// A hostile request.
#[derive(Debug, Clone)]
pub struct HostileRequest {
    /// What it is.
    pub kind: Kind,
    /// Method.
    pub method: Method,
    /// Path.
    pub path: String,
    /// Headers.
    pub headers: Vec<(HeaderName, HeaderValue)>,
    /// Body.
    pub body: Bytes,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 16] = [
        Self::WrongSignature,
        Self::ForeignSigner,
        Self::NotBase64,
        Self::NotCms,
        Self::NoSignature,
        Self::NoTag,
        Self::LongTag,
        Self::Truncated,
        Self::Noise,
        Self::ForeignOrigin,
        Self::TooManyKeys,
        Self::Oversized,
        Self::WrongMediaType,
        Self::WrongCertificate,
        Self::WrongPath,
        Self::WrongDate,
    ];

    /// The status that answers it (wire §1 to §11).
    pub const fn status(self) -> u16 {
        match self {
            Self::WrongCertificate => 403,
            Self::WrongPath => 404,
            Self::TooManyKeys | Self::Oversized => 413,
            Self::WrongMediaType => 415,
            _ => 400,
        }
    }
}

/// Makes hostile requests of one participant.
#[derive(Debug)]
pub struct Hostile {
    generator: Arc<KeyGenerator>,
    participants: Arc<Vec<Participant>>,
    at: UnixMillis,
    oversized: Bytes,
}

impl Hostile {
    /// Requests as made at `at`.
    pub fn new(
        generator: Arc<KeyGenerator>,
        participants: Arc<Vec<Participant>>,
        at: UnixMillis,
    ) -> Self {
        Self {
            generator,
            participants,
            at,
            oversized: vec![0; BYTES_TOO_MANY].into(),
        }
    }

    /// A request of the participant with that index; `index` numbers it among the uploads of its
    /// country, so that its keys are fresh.
    pub fn request(&self, kind: Kind, participant: usize, index: u32) -> HostileRequest {
        let me = &self.participants[participant];
        let other = &self.participants[(participant + 1) % self.participants.len()];
        let body = |keys| self.generator.body(me.country, index, keys);
        let request = |body: Vec<u8>, signature: String| Request {
            kind,
            tag: format!("hostile-{}-{index}", self.at.0),
            body: body.into(),
            signature: Some(signature),
        };
        let signed = |body: Vec<u8>, signer: &Participant| {
            let signature = self.sign(&body, signer);
            request(body, signature)
        };
        match kind {
            Kind::WrongSignature => {
                let other_keys = self.generator.body(me.country, index, KEYS + 1);
                request(body(KEYS), self.sign(&other_keys, me))
            }
            Kind::ForeignSigner => signed(body(KEYS), other),
            Kind::NotBase64 => request(body(KEYS), "!".repeat(64)),
            Kind::NotCms => request(body(KEYS), STANDARD.encode([7; 48])),
            Kind::NoSignature => Request {
                signature: None,
                ..request(body(KEYS), String::new())
            },
            Kind::Truncated => {
                let whole = body(KEYS);
                let signature = self.sign(&whole, me);
                request(whole[..whole.len() - 7].to_vec(), signature)
            }
            Kind::Noise => request(vec![0xff; 4096], self.sign(&body(KEYS), me)),
            Kind::ForeignOrigin => signed(self.generator.body(other.country, index, KEYS), me),
            Kind::TooManyKeys => signed(body(KEYS_TOO_MANY), me),
            Kind::Oversized => Request {
                body: self.oversized.clone(),
                ..signed(body(KEYS), me)
            },
            Kind::NoTag
            | Kind::LongTag
            | Kind::WrongMediaType
            | Kind::WrongCertificate
            | Kind::WrongPath
            | Kind::WrongDate => signed(body(KEYS), me),
        }
        .finish()
    }

    fn sign(&self, body: &[u8], signer: &Participant) -> String {
        let bytes = signed_bytes(body).expect("the generator writes well-formed bodies");
        signer.signer.sign_base64(&bytes, self.at, Encoding::Der)
    }
}

struct Request {
    kind: Kind,
    tag: String,
    body: Bytes,
    signature: Option<String>,
}

impl Request {
    fn finish(self) -> HostileRequest {
        let value = |text: &str| HeaderValue::from_str(text).expect("visible ASCII");
        let media_type = match self.kind {
            Kind::WrongMediaType => "text/plain",
            _ => "application/protobuf; version=1.0",
        };
        let mut headers = vec![
            (CONTENT_TYPE, HeaderValue::from_static(media_type)),
            (
                ACCEPT,
                HeaderValue::from_static("application/json; version=1.0"),
            ),
        ];
        let tag = match self.kind {
            Kind::NoTag => None,
            Kind::LongTag => Some("x".repeat(UploadTag::CHARACTERS_MAX + 1)),
            _ => Some(self.tag),
        };
        headers.extend(tag.map(|tag| (HeaderName::from_static("batchtag"), value(&tag))));
        let signature = self
            .signature
            .map(|signature| (HeaderName::from_static("batchsignature"), value(&signature)));
        headers.extend(signature);
        let (method, path, body) = match self.kind {
            Kind::WrongPath => (Method::GET, "/diagnosiskeys/nowhere", Bytes::new()),
            Kind::WrongDate => (
                Method::GET,
                "/diagnosiskeys/download/2020-13-32",
                Bytes::new(),
            ),
            _ => (Method::POST, "/diagnosiskeys/upload", self.body),
        };
        HostileRequest {
            kind: self.kind,
            method,
            path: path.to_owned(),
            headers,
            body,
        }
    }
}
