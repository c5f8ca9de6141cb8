//! The cases: what is uploaded, and which answer is right.

use efgs_client::{
    BatchSigner, DiagnosisKey, UPLOAD_KEYS_MAX, canonical_texts, encode, signed_bytes,
};
use engine::clock::{Clock as _, SystemClock};

/// Who signs.
pub(super) struct Signers<'a> {
    /// The uploading country.
    pub(super) country: &'a str,
    pub(super) own: &'a BatchSigner,
    /// Of the same country, with a certificate that no gateway lists.
    pub(super) unlisted: &'a BatchSigner,
}

/// One upload.
pub(super) struct Case {
    pub(super) name: &'static str,
    about: &'static str,
    pub(super) keys: Vec<DiagnosisKey>,
    /// How many bytes the body in protobuf is cut short by.
    pub(super) cut_bytes: usize,
    pub(super) signature: String,
    request: Request,
    expected: Expected,
}

/// What is sent beside keys and signature.
#[derive(Clone, Copy)]
struct Request {
    body: &'static str,
    content_type: &'static str,
    tag: Tag,
    is_signed: bool,
}

#[derive(Clone, Copy)]
enum Tag {
    /// Its own.
    New,
    /// That of the first case.
    First,
    None,
}

/// Statuses, one of which is right, and the code or reason that our gateway names.
#[derive(Clone, Copy)]
struct Expected(&'static str, &'static str);

const PROTOBUF: &str = "application/protobuf; version=1.0";
const USUAL: Request = Request {
    body: "keys.pb",
    content_type: PROTOBUF,
    tag: Tag::New,
    is_signed: true,
};
const STORED: Expected = Expected("201", "-");
const MISMATCH: Expected = Expected("400", "digest_mismatch");

impl Case {
    fn new(name: &'static str, about: &'static str, expected: Expected) -> Self {
        Self {
            name,
            about,
            keys: Vec::new(),
            cut_bytes: 0,
            signature: String::new(),
            request: USUAL,
            expected,
        }
    }

    /// Its line of `cases.tsv`. No field is empty: a shell would skip it.
    pub(super) fn line(&self, name: &str, number: u32) -> String {
        let tag = match self.request.tag {
            Tag::New => format!("{number:02}"),
            Tag::First => "01".to_owned(),
            Tag::None => "-".to_owned(),
        };
        let signed = if self.request.is_signed {
            "signed"
        } else {
            "-"
        };
        let Request {
            body, content_type, ..
        } = self.request;
        let (Expected(statuses, code), about) = (self.expected, self.about);
        format!("{name}\t{body}\t{content_type}\t{tag}\t{signed}\t{statuses}\t{code}\t{about}\n")
    }
}

/// Makes keys that nobody has.
struct KeyMaker<'a> {
    country: &'a str,
    /// When yesterday began, in intervals of 600 s.
    yesterday: u32,
}

impl KeyMaker<'_> {
    fn key(&self) -> DiagnosisKey {
        DiagnosisKey {
            key_data: rand::random::<[u8; 16]>().to_vec(),
            rolling_start_interval_number: self.yesterday,
            rolling_period: 144,
            transmission_risk_level: 3,
            visited_countries: vec!["FR".to_owned(), "PL".to_owned()],
            origin: self.country.to_owned(),
            report_type: 1,
            days_since_onset_of_symptoms: 1,
        }
    }

    fn keys(&self, count: usize) -> Vec<DiagnosisKey> {
        (0..count).map(|_| self.key()).collect()
    }
}

impl KeyMaker<'_> {
    /// Keys whose orders differ: as they are sent, by their texts, and by the base64 of these, which is
    /// that of the signature. The latter two are the same for many a handful of keys.
    fn keys_in_odd_order(&self, count: usize) -> anyhow::Result<Vec<DiagnosisKey>> {
        loop {
            let keys = self.keys(count);
            let as_sent: Vec<_> = keys.iter().map(DiagnosisKey::canonical_text).collect();
            let mut by_text = as_sent.clone();
            by_text.sort();
            let in_order = canonical_texts(&encode(&keys))?;
            if by_text != in_order && as_sent != in_order && as_sent != by_text {
                return Ok(keys);
            }
        }
    }
}

/// All cases, in the order in which they are tried.
pub(super) fn all(signers: &Signers<'_>) -> anyhow::Result<Vec<Case>> {
    let midnight = SystemClock.now().day().minus_days(1).start_unix_seconds();
    let maker = KeyMaker {
        country: signers.country,
        yesterday: u32::try_from(midnight / 600)?,
    };
    let mut cases = repeats(&maker);
    cases.extend(accepted(&maker)?);
    for case in &mut cases {
        case.signature = signers.own.sign(&signed_bytes(&encode(&case.keys))?)?;
    }
    cases.extend(wrongly_signed(&maker, signers)?);
    let mut refused = invalid_keys(&maker);
    refused.extend(invalid_requests(&maker));
    for case in &mut refused {
        case.signature = signers.own.sign(&signed_bytes(&encode(&case.keys))?)?;
    }
    cases.extend(refused);
    Ok(cases)
}

/// What the first case has stored, again.
fn repeats(maker: &KeyMaker<'_>) -> Vec<Case> {
    let first = maker.keys(1);
    let case = |name, about, expected, tag, keys: &[DiagnosisKey]| Case {
        keys: keys.to_vec(),
        request: Request { tag, ..USUAL },
        ..Case::new(name, about, expected)
    };
    // The reference server answers every tag that it knows with 409.
    let again = Expected("201 409", "-");
    let known = Expected("207", "-");
    let taken = Expected("409", "batch_tag_taken");
    vec![
        case("one-key", "one key", STORED, Tag::New, &first),
        case(
            "again",
            "the same upload again, as after a lost answer",
            again,
            Tag::First,
            &first,
        ),
        case(
            "known",
            "the same key under a new tag",
            known,
            Tag::New,
            &first,
        ),
        case(
            "taken",
            "another key under the tag",
            taken,
            Tag::First,
            &maker.keys(1),
        ),
    ]
}

fn accepted(maker: &KeyMaker<'_>) -> anyhow::Result<Vec<Case>> {
    let case = |name, about, keys| Case {
        keys,
        ..Case::new(name, about, STORED)
    };
    let twice = maker.key();
    Ok(vec![
        Case {
            request: Request {
                body: "keys.json",
                content_type: "application/json; version=1.0",
                ..USUAL
            },
            ..case("json", "a body in JSON", maker.keys(3))
        },
        case(
            "order",
            "60 keys: the order of base64 is not that of the texts",
            maker.keys_in_odd_order(60)?,
        ),
        case(
            "values",
            "odd values: no countries, many, negative days, risk not given",
            values(maker),
        ),
        case(
            "full",
            "as many keys as an upload may have",
            maker.keys(UPLOAD_KEYS_MAX),
        ),
        Case {
            expected: Expected("207", "-"),
            ..case(
                "twice",
                "the same key twice in one upload",
                vec![twice.clone(), twice],
            )
        },
        Case {
            expected: Expected("413", "too_many_keys"),
            ..case(
                "too-many",
                "one key too many",
                maker.keys(UPLOAD_KEYS_MAX + 1),
            )
        },
    ])
}

fn values(maker: &KeyMaker<'_>) -> Vec<DiagnosisKey> {
    let many = ["AT", "BE", "CZ", "DK", "EE", "FI", "GR"].map(str::to_owned);
    vec![
        DiagnosisKey {
            visited_countries: Vec::new(),
            transmission_risk_level: 0,
            report_type: 0,
            days_since_onset_of_symptoms: 0,
            ..maker.key()
        },
        DiagnosisKey {
            visited_countries: many.to_vec(),
            transmission_risk_level: i32::MAX,
            rolling_period: 1,
            report_type: 5,
            days_since_onset_of_symptoms: -14,
            ..maker.key()
        },
        DiagnosisKey {
            transmission_risk_level: 8,
            days_since_onset_of_symptoms: 3986,
            ..maker.key()
        },
    ]
}

/// Right keys under signatures that are wrong, in the ways that signers usually go wrong.
fn wrongly_signed(maker: &KeyMaker<'_>, signers: &Signers<'_>) -> anyhow::Result<Vec<Case>> {
    let keys = maker.keys_in_odd_order(60)?;
    let as_sent: Vec<_> = keys.iter().map(DiagnosisKey::canonical_text).collect();
    let mut by_text = as_sent.clone();
    by_text.sort();
    let in_order = canonical_texts(&encode(&keys))?;
    let with_line_feeds = in_order.join("\n") + "\n";
    let right = in_order.concat();
    let without_dot = right.trim_end_matches('.').to_owned();
    let case = |name, about, expected, signature| Case {
        keys: keys.clone(),
        signature,
        ..Case::new(name, about, expected)
    };
    let own = |text: &str| signers.own.sign(text.as_bytes());
    Ok(vec![
        case(
            "unsorted",
            "signed in the order in which they are sent",
            MISMATCH,
            own(&as_sent.concat())?,
        ),
        case(
            "by-text",
            "sorted by the texts instead of their base64",
            MISMATCH,
            own(&by_text.concat())?,
        ),
        case(
            "no-last-dot",
            "without the last dot",
            MISMATCH,
            own(&without_dot)?,
        ),
        case(
            "line-feeds",
            "with a line feed after each key",
            MISMATCH,
            own(&with_line_feeds)?,
        ),
        case(
            "not-base64",
            "a signature that is no base64",
            Expected("400", "bad_base64"),
            "!".to_owned(),
        ),
        case(
            "not-cms",
            "a signature that is no CMS",
            Expected("400", "malformed_cms"),
            "aGVsbG8=".to_owned(),
        ),
        case(
            "unlisted",
            "a signing certificate that the gateway does not list",
            Expected("400", "cert_unknown"),
            signers.unlisted.sign(right.as_bytes())?,
        ),
    ])
}

type Change = fn(&mut DiagnosisKey);

fn invalid_keys(maker: &KeyMaker<'_>) -> Vec<Case> {
    let changes: [(&str, &str, &str, Change); 7] = [
        (
            "foreign",
            "a key whose origin is another country",
            "origin_mismatch",
            |key| {
                key.origin = if key.origin == "IT" { "FR" } else { "IT" }.to_owned();
            },
        ),
        (
            "short-data",
            "15 bytes of key data",
            "key_data_length",
            |key| key.key_data.truncate(15),
        ),
        (
            "period-0",
            "a rolling period of 0",
            "rolling_period",
            |key| key.rolling_period = 0,
        ),
        (
            "period-145",
            "a rolling period of 145",
            "rolling_period",
            |key| key.rolling_period = 145,
        ),
        ("too-old", "a key of 20 days ago", "rolling_start", |key| {
            key.rolling_start_interval_number -= 19 * 144;
        }),
        (
            "future",
            "a key of the day after tomorrow",
            "rolling_start",
            |key| {
                key.rolling_start_interval_number += 3 * 144;
            },
        ),
        (
            "risk-9",
            "a transmission risk level of 9",
            "risk_level",
            |key| {
                key.transmission_risk_level = 9;
            },
        ),
    ];
    let case = |(name, about, code, change): (_, _, _, Change)| {
        let mut keys = maker.keys(2);
        change(&mut keys[1]);
        Case {
            keys,
            ..Case::new(name, about, Expected("400", code))
        }
    };
    changes.into_iter().map(case).collect()
}

fn invalid_requests(maker: &KeyMaker<'_>) -> Vec<Case> {
    let case = |name, about, expected, request| Case {
        keys: maker.keys(2),
        request,
        ..Case::new(name, about, expected)
    };
    let of_type = |content_type| Request {
        content_type,
        ..USUAL
    };
    let (no_tag, unsigned) = (
        Request {
            tag: Tag::None,
            ..USUAL
        },
        Request {
            is_signed: false,
            ..USUAL
        },
    );
    let bad = |code| Expected("400", code);
    vec![
        Case {
            cut_bytes: 5,
            ..case(
                "cut-short",
                "a body that ends too early",
                bad("malformed_batch"),
                USUAL,
            )
        },
        case(
            "json-as-protobuf",
            "JSON that is sent as protobuf",
            bad("json_as_protobuf"),
            Request {
                body: "keys.json",
                ..USUAL
            },
        ),
        case(
            "no-tag",
            "no header batchTag",
            bad("batch_tag_missing"),
            no_tag,
        ),
        case(
            "no-signature",
            "no header batchSignature",
            bad("batch_signature_missing"),
            unsigned,
        ),
        case(
            "text",
            "another media type",
            Expected("415", "unsupported_content_type"),
            of_type("text/plain"),
        ),
        case(
            "no-version",
            "no version",
            bad("version_missing"),
            of_type("application/protobuf"),
        ),
        case(
            "version-2",
            "another version",
            Expected("406", "version_incompatible"),
            of_type("application/protobuf; version=2.0"),
        ),
    ]
}
