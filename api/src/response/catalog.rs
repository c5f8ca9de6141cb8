//! Every possible refusal, and which kinds of request may get it. The API description of errors is
//! generated from this, so that it cannot differ from what the gateway does.

use engine::DatabaseError;
use engine::bundle::{DownloadError, DownloadRefusal};
use engine::callbacks::CallbackError;
use engine::domain::{ContentDigest, Country, Thumbprint};
use engine::seal::UnsealError;
use engine::validate::{KeyRule, OriginMismatch};
use engine::verify::{ContentSummary, SignatureError, Signer, SigningMistake, ValiditySeconds};
use engine::wire::MalformedBatch;
use engine::{Failure, Overload, OverloadBound, Rejection, UploadError};

use super::error_response::ErrorHeader;
use super::refusal::{CallbackRefusal, Refusal, RequestError, RouteError};
use super::table::error_response;
use crate::delivery::UrlError;
use crate::message::MessageError;
use crate::negotiate::{NegotiationError, Offer, VersionError};
use crate::participant::AuthenticationError;

/// The kinds of request that participants send.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum RequestKind {
    Upload,
    Download,
    Audit,
    Subscriptions,
    Subscribe,
    Unsubscribe,
    /// Of the API's description.
    Description,
}

impl RequestKind {
    /// All of them.
    pub(crate) const ALL: [Self; 7] = [
        Self::Upload,
        Self::Download,
        Self::Audit,
        Self::Subscriptions,
        Self::Subscribe,
        Self::Unsubscribe,
        Self::Description,
    ];
}

/// The description of a refusal.
#[derive(Debug)]
pub(crate) struct Described {
    pub(crate) status: u16,
    pub(crate) code: &'static str,
    /// A sample body.
    pub(crate) sample: serde_json::Value,
    /// Its header.
    pub(crate) header: Option<&'static str>,
}

/// All refusals that a kind of request may get, by status; one per code.
pub(crate) fn refusals_of(kind: RequestKind) -> Vec<Described> {
    let mut described: Vec<Described> = Vec::new();
    for refusal in every_refusal() {
        if !affected_by(&refusal).contains(&kind) {
            continue;
        }
        let found = describe(&refusal);
        let same = |other: &Described| (other.status, other.code) == (found.status, found.code);
        if !described.iter().any(same) {
            described.push(found);
        }
    }
    described.sort_by_key(|described| described.status);
    described
}

/// The refusals of an unknown path and of a method that a path does not support.
pub(crate) fn refusals_of_routes() -> [Described; 2] {
    let allow = "GET,HEAD,OPTIONS";
    [RouteError::NotFound, RouteError::MethodNotAllowed { allow }]
        .map(|error| describe(&Refusal::Route(error)))
}

/// Every code of an error body, sorted.
pub(crate) fn every_code() -> Vec<&'static str> {
    sorted(
        every_refusal()
            .iter()
            .map(|refusal| error_response(refusal).body.code),
    )
}

/// Every `reason` of an error body, sorted.
pub(crate) fn every_reason() -> Vec<&'static str> {
    sorted(
        every_refusal()
            .iter()
            .filter_map(|refusal| error_response(refusal).body.reason),
    )
}

fn sorted(texts: impl Iterator<Item = &'static str>) -> Vec<&'static str> {
    let mut texts: Vec<_> = texts.collect();
    texts.sort_unstable();
    texts.dedup();
    texts
}

fn describe(refusal: &Refusal) -> Described {
    let response = error_response(refusal);
    Described {
        status: response.status.as_u16(),
        code: response.body.code,
        sample: serde_json::to_value(&response.body).unwrap_or_default(),
        header: match response.header {
            ErrorHeader::None => None,
            ErrorHeader::Allow(_) => Some("Allow"),
            ErrorHeader::Accept(_) => Some("Accept"),
            ErrorHeader::AcceptEncoding => Some("Accept-Encoding"),
            ErrorHeader::RetryAfterSeconds(_) | ErrorHeader::RetryAfterDate(_) => {
                Some("Retry-After")
            }
            ErrorHeader::Close => Some("Connection"),
        },
    }
}

/// Lists a sample of each variant; does not compile when a variant is missing.
macro_rules! every {
    ($type:ty: $($pattern:pat => $sample:expr),+ $(,)?) => {{
        fn _every_variant_is_listed(value: &$type) {
            match value {
                $($pattern => (),)+
            }
        }
        vec![$($sample),+]
    }};
}

/// A sample of every refusal.
fn every_refusal() -> Vec<Refusal> {
    let mut refusals: Vec<Refusal> = Vec::new();
    refusals.extend(every_route_error().into_iter().map(Refusal::Route));
    refusals.extend(every_message_error().into_iter().map(Refusal::from));
    refusals.extend(every_authentication_error().into_iter().map(Refusal::from));
    refusals.extend(every_negotiation_error().into_iter().map(Refusal::from));
    refusals.extend(every_request_error().into_iter().map(Refusal::from));
    let uploads = every_upload_error().into_iter();
    refusals.extend(uploads.map(Refusal::from));
    refusals.extend(every_download_error().into_iter().map(Refusal::from));
    let callbacks = every_callback_refusal().into_iter();
    refusals.extend(callbacks.map(Refusal::from));
    refusals
}

/// The kinds of request that may get a refusal.
fn affected_by(refusal: &Refusal) -> &'static [RequestKind] {
    use RequestKind::{
        Audit, Description, Download, Subscribe, Subscriptions, Unsubscribe, Upload,
    };
    match refusal {
        Refusal::Route(RouteError::NotFound | RouteError::MethodNotAllowed { .. }) => &[],
        Refusal::Message(_) | Refusal::Authentication(_) => &[
            Upload,
            Download,
            Audit,
            Subscriptions,
            Subscribe,
            Unsubscribe,
            Description,
        ],
        Refusal::Negotiation(error) => match error {
            NegotiationError::ContentType
            | NegotiationError::ContentTypeVersion(_)
            | NegotiationError::ContentEncoding => &[Upload],
            NegotiationError::Accept(Offer::Json) => &[Upload, Audit, Subscriptions],
            NegotiationError::Accept(Offer::ProtobufOrJson) => &[Download],
            // A missing version counts as ours.
            NegotiationError::AcceptVersion(VersionError::Missing) => &[],
            NegotiationError::AcceptVersion(
                VersionError::Shape | VersionError::Number | VersionError::Incompatible,
            ) => &[Download],
        },
        Refusal::Request(error) => match error {
            RequestError::InvalidDate(_) => &[Download, Audit],
            RequestError::MissingBatchTag
            | RequestError::MissingBatchSignature
            | RequestError::InvalidUploadTag
            | RequestError::InvalidDryRun
            | RequestError::EmptyJson => &[Upload],
            // Forms, too.
            RequestError::BodyTooLarge { .. }
            | RequestError::BodyStalled
            | RequestError::BodyUnreadable => &[Upload, Subscribe],
        },
        Refusal::Upload(UploadError::Overload(overload))
        | Refusal::Download(DownloadError::Overload(overload)) => match overload.bound {
            OverloadBound::ColdReads | OverloadBound::Answers | OverloadBound::AnswerShare => {
                &[Download, Audit]
            }
            OverloadBound::Callbacks => &[],
            OverloadBound::Batches
            | OverloadBound::Bytes
            | OverloadBound::ParticipantShare
            | OverloadBound::KeysPerDay
            | OverloadBound::Memory => &[Upload],
        },
        Refusal::Upload(
            UploadError::Rejection(_)
            | UploadError::ContentMismatch { .. }
            | UploadError::Failure(_),
        ) => &[Upload],
        Refusal::Download(DownloadError::Failure(_)) => &[Download, Audit],
        Refusal::Download(DownloadError::Refused(refusal)) => match refusal {
            DownloadRefusal::DateTooOld | DownloadRefusal::UnknownBatchTag => &[Download, Audit],
            DownloadRefusal::NoBatchOnDate | DownloadRefusal::BatchBeforeDate => &[Download],
            DownloadRefusal::OtherDay | DownloadRefusal::NoEntries => &[Audit],
        },
        Refusal::Callback(refusal) => match refusal {
            CallbackRefusal::InvalidId => &[Subscribe, Unsubscribe],
            CallbackRefusal::MissingUrl | CallbackRefusal::Url(_) | CallbackRefusal::TooMany => {
                &[Subscribe]
            }
            CallbackRefusal::Unknown => &[Unsubscribe],
            CallbackRefusal::Error(CallbackError::Overload(overload)) => match overload.bound {
                OverloadBound::Callbacks => &[Subscriptions, Subscribe, Unsubscribe],
                OverloadBound::ColdReads
                | OverloadBound::Answers
                | OverloadBound::AnswerShare
                | OverloadBound::Batches
                | OverloadBound::Bytes
                | OverloadBound::ParticipantShare
                | OverloadBound::KeysPerDay
                | OverloadBound::Memory => &[],
            },
            CallbackRefusal::Error(CallbackError::Failure(_)) => {
                &[Subscriptions, Subscribe, Unsubscribe]
            }
        },
    }
}

fn every_route_error() -> Vec<RouteError> {
    every![RouteError:
        RouteError::NotFound => RouteError::NotFound,
        RouteError::MethodNotAllowed { .. } => RouteError::MethodNotAllowed { allow: "" },
    ]
}

fn every_message_error() -> Vec<MessageError> {
    use MessageError as Error;
    every![Error:
        Error::TransferCoding => Error::TransferCoding,
        Error::RepeatedChunked => Error::RepeatedChunked,
        Error::NoHost => Error::NoHost,
        Error::RepeatedHost => Error::RepeatedHost,
        Error::InvalidHost => Error::InvalidHost,
    ]
}

fn every_authentication_error() -> Vec<AuthenticationError> {
    use AuthenticationError as Error;
    every![Error:
        Error::NoClientCertificate => Error::NoClientCertificate,
        Error::UntrustedPeer => Error::UntrustedPeer,
        Error::RepeatedIdentityHeader => Error::RepeatedIdentityHeader,
        Error::NameTooLong => Error::NameTooLong,
        Error::NoForwardedIdentity => Error::NoForwardedIdentity,
        Error::NoCountry => Error::NoCountry,
        Error::UnknownCertificate => Error::UnknownCertificate,
        Error::RevokedCertificate => Error::RevokedCertificate,
        Error::NotYetValid => Error::NotYetValid,
        Error::Expired => Error::Expired,
    ]
}

fn every_negotiation_error() -> Vec<NegotiationError> {
    use NegotiationError as Error;
    let offers = every![Offer:
        Offer::Json => Offer::Json,
        Offer::ProtobufOrJson => Offer::ProtobufOrJson,
    ];
    let versions = every![VersionError:
        VersionError::Missing => VersionError::Missing,
        VersionError::Shape => VersionError::Shape,
        VersionError::Number => VersionError::Number,
        VersionError::Incompatible => VersionError::Incompatible,
    ];
    let kinds: Vec<Vec<Error>> = every![Error:
        Error::ContentType => vec![Error::ContentType],
        Error::ContentTypeVersion(_) => each(&versions, Error::ContentTypeVersion),
        Error::ContentEncoding => vec![Error::ContentEncoding],
        Error::Accept(_) => each(&offers, Error::Accept),
        Error::AcceptVersion(_) => each(&versions, Error::AcceptVersion),
    ];
    kinds.concat()
}

fn each<T: Copy, E>(values: &[T], make: impl Fn(T) -> E) -> Vec<E> {
    values.iter().map(|value| make(*value)).collect()
}

fn every_request_error() -> Vec<RequestError> {
    use RequestError as Error;
    let bytes_max = engine::limits::UPLOAD_BODY_BYTES_MAX;
    every![Error:
        Error::MissingBatchTag => Error::MissingBatchTag,
        Error::MissingBatchSignature => Error::MissingBatchSignature,
        Error::InvalidUploadTag => Error::InvalidUploadTag,
        Error::InvalidDryRun => Error::InvalidDryRun,
        Error::InvalidDate(_) => Error::InvalidDate("06.10.2020".into()),
        Error::EmptyJson => Error::EmptyJson,
        Error::BodyTooLarge { .. } => Error::BodyTooLarge { bytes_max },
        Error::BodyStalled => Error::BodyStalled,
        Error::BodyUnreadable => Error::BodyUnreadable,
    ]
}

fn every_upload_error() -> Vec<UploadError> {
    let kinds: Vec<Vec<UploadError>> = every![UploadError:
        UploadError::Rejection(_) => {
            every_rejection().into_iter().map(UploadError::from).collect()
        },
        UploadError::ContentMismatch { .. } => vec![UploadError::ContentMismatch {
            error: SignatureError::DigestMismatch,
            content: Box::new(content_summary()),
        }],
        UploadError::Overload(_) => {
            every_overload().into_iter().map(UploadError::from).collect()
        },
        UploadError::Failure(_) => every_failure().into_iter().map(UploadError::from).collect(),
    ];
    kinds.into_iter().flatten().collect()
}

/// Of the key that is all zeros.
fn content_summary() -> ContentSummary {
    let text: Box<str> =
        "AAAAAAAAAAAAAAAAAAAAAA==.AAAAAA==.AAAAAQ==.AAAAAA==..REU=.AAAAAA==.AAAAAA==.".into();
    ContentSummary {
        sha256: ContentDigest([0; 32]),
        key_count: 1,
        first_text: Some(text.clone()),
        last_text: Some(text),
        mistake: Some(SigningMistake::RequestOrder),
    }
}

fn every_download_error() -> Vec<DownloadError> {
    let refusals = every![DownloadRefusal:
        DownloadRefusal::DateTooOld => DownloadRefusal::DateTooOld,
        DownloadRefusal::NoBatchOnDate => DownloadRefusal::NoBatchOnDate,
        DownloadRefusal::UnknownBatchTag => DownloadRefusal::UnknownBatchTag,
        DownloadRefusal::BatchBeforeDate => DownloadRefusal::BatchBeforeDate,
        DownloadRefusal::OtherDay => DownloadRefusal::OtherDay,
        DownloadRefusal::NoEntries => DownloadRefusal::NoEntries,
    ];
    let kinds: Vec<Vec<DownloadError>> = every![DownloadError:
        DownloadError::Refused(_) => each(&refusals, DownloadError::Refused),
        DownloadError::Overload(_) => each(&every_overload(), DownloadError::Overload),
        DownloadError::Failure(_) => {
            every_failure().into_iter().map(DownloadError::Failure).collect()
        },
    ];
    kinds.into_iter().flatten().collect()
}

fn every_callback_refusal() -> Vec<CallbackRefusal> {
    use CallbackRefusal as Error;
    let errors: Vec<Vec<CallbackError>> = every![CallbackError:
        CallbackError::Overload(_) => {
            every_overload().into_iter().map(CallbackError::from).collect()
        },
        CallbackError::Failure(_) => every_failure().into_iter().map(CallbackError::from).collect(),
    ];
    let errors = errors.into_iter().flatten();
    let kinds: Vec<Vec<Error>> = every![Error:
        Error::InvalidId => vec![Error::InvalidId],
        Error::MissingUrl => vec![Error::MissingUrl],
        Error::Url(_) => each(&every_url_error(), Error::Url),
        Error::Unknown => vec![Error::Unknown],
        Error::TooMany => vec![Error::TooMany],
        Error::Error(_) => errors.map(Error::Error).collect(),
    ];
    kinds.into_iter().flatten().collect()
}

fn every_url_error() -> Vec<UrlError> {
    every![UrlError:
        UrlError::TooLong => UrlError::TooLong,
        UrlError::Unreadable => UrlError::Unreadable,
        UrlError::NotHttps => UrlError::NotHttps,
        UrlError::HasQuery => UrlError::HasQuery,
        UrlError::HasUserInfo => UrlError::HasUserInfo,
        UrlError::Unresolvable => UrlError::Unresolvable,
        UrlError::NotPublic => UrlError::NotPublic,
    ]
}

fn every_rejection() -> Vec<Rejection> {
    let (index, key_count) = (17, 5000);
    let expected = Country::parse("DE").expect("two upper-case letters");
    let malformed = every![MalformedBatch:
        MalformedBatch::Truncated => MalformedBatch::Truncated,
        MalformedBatch::Field => MalformedBatch::Field,
        MalformedBatch::NotUtf8 => MalformedBatch::NotUtf8,
        MalformedBatch::Json => MalformedBatch::Json,
        MalformedBatch::Base64 => MalformedBatch::Base64,
        MalformedBatch::JsonAsProtobuf => MalformedBatch::JsonAsProtobuf,
        MalformedBatch::ProtobufAsJson => MalformedBatch::ProtobufAsJson,
    ];
    let invalid = |rule| Rejection::InvalidKey { index, rule };
    let mismatch = OriginMismatch {
        index,
        expected,
        key_count,
    };
    let kinds: Vec<Vec<Rejection>> = every![Rejection:
        Rejection::MalformedBatch(_) => each(&malformed, Rejection::MalformedBatch),
        Rejection::TooManyKeys { .. } => vec![Rejection::TooManyKeys { max: key_count }],
        Rejection::InvalidKey { .. } => each(&every_key_rule(), invalid),
        Rejection::Signature(_) => each(&every_signature_error(), Rejection::Signature),
        Rejection::OriginMismatch(_) => vec![Rejection::OriginMismatch(mismatch)],
        Rejection::UploadTagTaken { .. } => vec![Rejection::UploadTagTaken { key_count }],
    ];
    kinds.concat()
}

fn every_key_rule() -> Vec<KeyRule> {
    every![KeyRule:
        KeyRule::KeyDataPresent => KeyRule::KeyDataPresent,
        KeyRule::KeyDataLength => KeyRule::KeyDataLength,
        KeyRule::RollingStart => KeyRule::RollingStart,
        KeyRule::RollingPeriod => KeyRule::RollingPeriod,
        KeyRule::RiskLevel => KeyRule::RiskLevel,
        KeyRule::ReportType => KeyRule::ReportType,
        KeyRule::CountryText => KeyRule::CountryText,
        KeyRule::CountriesLength => KeyRule::CountriesLength,
    ]
}

fn every_signature_error() -> Vec<SignatureError> {
    use SignatureError as Error;
    let thumbprint = Thumbprint([0; 32]);
    let validity = ValiditySeconds {
        not_before: 0,
        not_after: 0,
    };
    let signer = Signer {
        thumbprint,
        country: Country::parse("DE").expect("two upper-case letters"),
    };
    every![Error:
        Error::Wrong => Error::Wrong,
        Error::NotBase64 => Error::NotBase64,
        Error::NotCms => Error::NotCms,
        Error::AttachedContent => Error::AttachedContent,
        Error::NoSigner => Error::NoSigner,
        Error::SeveralSigners => Error::SeveralSigners,
        Error::NoCertificate => Error::NoCertificate,
        Error::NotYetValid(_) => Error::NotYetValid(validity),
        Error::Expired(_) => Error::Expired(validity),
        Error::NoCountry => Error::NoCountry,
        Error::UnknownCertificate(_) => Error::UnknownCertificate(thumbprint),
        Error::BrokenRow(_) => Error::BrokenRow(thumbprint),
        Error::RevokedCertificate(_) => Error::RevokedCertificate(thumbprint),
        Error::OtherCountry(_) => Error::OtherCountry(thumbprint),
        Error::ForeignOrigin { .. } => Error::ForeignOrigin { index: 17, signer },
        Error::UnsupportedAlgorithm => Error::UnsupportedAlgorithm,
        Error::WeakDigest => Error::WeakDigest,
        Error::PssNotAllowed => Error::PssNotAllowed,
        Error::WeakKey => Error::WeakKey,
        Error::SignedAttributes => Error::SignedAttributes,
        Error::SigningTime => Error::SigningTime,
        Error::DigestMismatch => Error::DigestMismatch,
    ]
}

fn every_overload() -> Vec<Overload> {
    let bounds = every![OverloadBound:
        OverloadBound::Batches => OverloadBound::Batches,
        OverloadBound::Bytes => OverloadBound::Bytes,
        OverloadBound::ParticipantShare => OverloadBound::ParticipantShare,
        OverloadBound::ColdReads => OverloadBound::ColdReads,
        OverloadBound::Answers => OverloadBound::Answers,
        OverloadBound::AnswerShare => OverloadBound::AnswerShare,
        OverloadBound::Callbacks => OverloadBound::Callbacks,
        OverloadBound::KeysPerDay => OverloadBound::KeysPerDay,
        OverloadBound::Memory => OverloadBound::Memory,
    ];
    each(&bounds, Overload::of)
}

fn every_failure() -> Vec<Failure> {
    let error = || DatabaseError {
        doing: "",
        source: Box::new(std::fmt::Error),
    };
    every![Failure:
        Failure::Database(_) => Failure::Database(error()),
        Failure::StorageRefused(_) => Failure::StorageRefused(error()),
        Failure::NoOutcome => Failure::NoOutcome,
        Failure::DatabaseWentBack => Failure::DatabaseWentBack,
        Failure::StateFile => Failure::StateFile,
        Failure::ShuttingDown => Failure::ShuttingDown,
        Failure::Panicked => Failure::Panicked,
        Failure::Unseal(_) => Failure::Unseal(UnsealError::Broken),
    ]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_each_code_one_status() {
        let mut statuses = std::collections::HashMap::new();
        for refusal in every_refusal() {
            let described = describe(&refusal);
            // A version is a bad request in Content-Type and not acceptable in Accept.
            if described.code.starts_with("version_") {
                continue;
            }
            let status = *statuses.entry(described.code).or_insert(described.status);
            assert_eq!(status, described.status, "{}", described.code);
        }
    }

    #[test]
    fn describes_every_bound_of_the_engine() {
        let described: Vec<_> = every_overload().iter().map(|one| one.bound).collect();
        assert_eq!(described, OverloadBound::ALL);
    }

    #[test]
    fn overload_and_failures_are_in_the_specification() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/protocol/wire.md");
        let page = std::fs::read_to_string(page).unwrap();
        let title = "Overload, failures and time-outs\n";
        let (_, section) = page.split_once(title).unwrap();
        let rows: Vec<Vec<&str>> = section
            .lines()
            .filter(|line| line.starts_with("| 4") || line.starts_with("| 5"))
            .map(|line| line.split('|').map(str::trim).collect())
            .collect();
        let documented: Vec<_> = rows
            .iter()
            .flat_map(|row| {
                row[2]
                    .split(", ")
                    .map(|code| (row[1], code, !row[5].is_empty()))
            })
            .map(|(status, code, waits)| (status.parse().unwrap(), code.trim_matches('`'), waits))
            .collect();
        for refusal in every_refusal() {
            let found = describe(&refusal);
            if matches!(found.status, 408 | 429 | 500 | 503) {
                let waits = found.header == Some("Retry-After");
                let row = (found.status, found.code, waits);
                assert!(documented.contains(&row), "{row:?} is not in that section");
            }
        }
        let codes = every_code();
        for (_, code, _) in documented {
            assert!(codes.contains(&code), "{code} is in that section only");
        }
    }

    #[test]
    fn lists_the_refusals_of_audits() {
        // Wire §15, and what holds for every request.
        let codes: Vec<_> = refusals_of(RequestKind::Audit)
            .iter()
            .map(|described| (described.status, described.code))
            .collect();
        for expected in [
            (400, "date_invalid"),
            (403, "unknown_certificate"),
            (404, "batch_of_other_day"),
            (406, "not_acceptable"),
            (410, "date_too_old"),
            (503, "overloaded_reads"),
        ] {
            assert!(codes.contains(&expected), "{codes:?}");
        }
        assert!(!codes.iter().any(|(_, code)| *code == "no_batch_on_date"));
    }
}
