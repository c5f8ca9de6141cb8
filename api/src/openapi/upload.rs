//! The description of uploads, with an example to try.

use std::borrow::Cow;

use engine::domain::Format;
use serde_json::{Value, json};

use super::describe::{self, Operation, batch_content, header, parameter};
use super::schemas::reference;
use super::{samples, signing};
use crate::negotiate::{self, PLAIN_JSON};
use crate::response::catalog::RequestKind;

/// `POST /diagnosiskeys/upload`.
pub(crate) fn upload() -> Operation {
    Operation {
        text: Cow::Owned(format!(
            "{UPLOAD}\n\n{TRY}\n\n### What is signed\n\n{}",
            signing::rule()
        )),
        parameters: parameters(),
        request_body: Some(request_body()),
        answers: vec![(201, stored()), (207, refused())],
        kind: Some(RequestKind::Upload),
        ..Operation::new("post", "upload", "Upload diagnosis keys")
    }
}

fn parameters() -> Value {
    let tag = "The participant's own name for the upload, unique per country.";
    let upload_tag = json!({
        "type": "string",
        "pattern": "^[!-~]{1,64}$",
        "examples": [format!("{}-example", samples::DAY)],
    });
    let signature = "Base64 of a detached CMS SignedData over the canonical form of the keys.";
    let text = json!({"type": "string"});
    let dry_run = "true: everything is checked and answered as the upload would be, with a header \
                   `Dry-Run`; nothing is stored.";
    let switch = json!({"type": "string", "enum": ["true", "false"]});
    json!([
        parameter("header", "batchTag", true, tag, &upload_tag),
        parameter("header", "batchSignature", true, signature, &text),
        parameter("query", "dryRun", false, dry_run, &switch),
    ])
}

fn request_body() -> Value {
    let mut content = batch_content(&reference("UploadBatch"));
    content[negotiate::content_type(Format::Json)]["examples"] =
        json!({"twoKeys": {"value": example()}});
    json!({
        "required": true,
        "description": "The keys: at most 5000, unless the operator sets another limit.",
        "content": content,
    })
}

/// Two keys of the day before.
fn example() -> Value {
    let key = |data: &str, period: u32, risk: u32, visited: &[&str], report: &str, onset: i32| {
        json!({
            "keyData": data,
            "rollingStartIntervalNumber": samples::ROLLING_START,
            "rollingPeriod": period,
            "transmissionRiskLevel": risk,
            "visitedCountries": visited,
            "origin": samples::ORIGIN,
            "reportType": report,
            "days_since_onset_of_symptoms": onset,
        })
    };
    let (first, second) = ("ABEiM0RVZneImaq7zN3u/w==", "CAARIjNEVWZ3iJkAqrvM3Q==");
    json!({"keys": [
        key(first, 144, 4, &["FR", "IT"], "CONFIRMED_TEST", 3),
        key(second, 72, 8, &[], "CONFIRMED_TEST", 0),
    ]})
}

fn stored() -> Value {
    json!({
        "description": "Every key is stored durably. Also the response when the same content was stored \
                        under the same tag before.",
        "headers": {
            "batchTag": header("The tag as sent."),
            "Dry-Run": mark(),
        },
    })
}

fn refused() -> Value {
    let mut refused = describe::body(
        "Some keys are already stored, or occur twice. Nothing is stored and the tag stays free: \
         sign and send the other keys again without them.",
        &[PLAIN_JSON, negotiate::content_type(Format::Json)],
        &reference("KeyOutcomes"),
    );
    refused["headers"] = json!({"Dry-Run": mark()});
    refused
}

/// The mark of dry runs.
fn mark() -> Value {
    let description = "true after a dry run: nothing is stored.";
    json!({"description": description, "schema": {"const": "true"}})
}

const UPLOAD: &str = "Stores all keys or none. `Content-Type` must name the version: \
    `application/protobuf; version=1.0` or `application/json; version=1.0`. An empty protobuf \
    body is an empty batch. JSON uploads may have unknown members, quoted numbers and numeric \
    enumeration values. If an answer is lost, send the same again: same tag, keys and signature.";

/// Commands that work as they stand, given the canonical form; docs/connect.md makes it in a shell.
const TRY: &str = "With your certificates, the example below in `body.json` and its canonical form \
    (see below) in `signed-bytes`:\n\n\
    ```\n\
    openssl cms -sign -binary -md sha256 -signer signing.pem -inkey signing.key \\\n  \
    -in signed-bytes -outform DER | base64 | tr -d '\\n' >signature\n\
    curl --cacert server-ca.pem --cert authentication.pem --key authentication.key \\\n  \
    -H 'Content-Type: application/json; version=1.0' -H 'batchTag: my-first-upload' \\\n  \
    -H \"batchSignature: $(cat signature)\" --data-binary @body.json \\\n  \
    'https://GATEWAY/diagnosiskeys/upload?dryRun=true'\n\
    ```\n\n\
    A signature over something else is refused with `digest_mismatch` and what the gateway has \
    computed. Without `?dryRun=true` the keys are stored. The schema for protobuf is \
    `/diagnosiskeys/Efgs.proto`.";
