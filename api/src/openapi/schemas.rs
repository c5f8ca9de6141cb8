//! Schemas of bodies.

use serde_json::{Map, Value, json};

use crate::response::catalog;

/// A reference to one of [`schemas`].
pub(super) fn reference(name: &str) -> Value {
    json!({"$ref": format!("#/components/schemas/{name}")})
}

/// All schemas by name; those of operators' bodies only if there are such paths.
pub(super) fn schemas(for_operators: bool) -> Value {
    let named = [
        ("Error", error()),
        ("UploadBatch", batch("UploadedKey")),
        ("UploadedKey", uploaded_key()),
        ("DownloadBatch", download_batch()),
        ("DiagnosisKey", diagnosis_key()),
        ("KeyOutcomes", key_outcomes()),
        ("AuditEntry", audit_entry()),
        ("CallbackSubscription", callback_subscription()),
        ("Status", status()),
    ];
    let named = named.into_iter();
    let named = named.filter(|(name, _)| for_operators || *name != "Status");
    Value::Object(
        named
            .map(|(name, schema)| (name.to_owned(), schema))
            .collect(),
    )
}

fn error() -> Value {
    json!({
        "type": "object",
        "description": "Why a request was refused. Later versions may add members.",
        "required": ["message", "code"],
        "properties": {
            "message": {
                "type": ["string", "null"],
                "description": "The reference server's text; null where it has none.",
            },
            "code": {
                "type": "string",
                "description": "Stable, for programs.",
                "enum": catalog::every_code(),
            },
            "keyIndex": {
                "type": "integer",
                "minimum": 0,
                "description": "Zero-based position of the offending key in the request.",
            },
            "advice": {
                "type": "string",
                "description": "who can do what about it, where `message` does not say so",
            },
            "computed": {
                "type": "object",
                "description": "What the signature of this upload would have to cover, where it \
                    covers something else: to compare with what was signed.",
                "required": ["sha256", "keyCount"],
                "properties": {
                    "sha256": {
                        "type": "string",
                        "pattern": "^[0-9a-f]{64}$",
                        "description": "SHA-256 over the canonical texts in signing order.",
                    },
                    "keyCount": {"type": "integer", "minimum": 0},
                    "firstText": {
                        "type": "string",
                        "description": "The canonical text that comes first in signing order.",
                    },
                    "lastText": {
                        "type": "string",
                        "description": "The canonical text that comes last in signing order.",
                    },
                },
            },
            "reason": {
                "type": "string",
                "description": "Which rule was broken, or which problem it is.",
                "enum": catalog::every_reason(),
            },
        },
    })
}

fn batch(key: &str) -> Value {
    json!({
        "type": "object",
        "properties": {"keys": {"type": "array", "items": reference(key)}},
    })
}

fn download_batch() -> Value {
    let mut schema = batch("DiagnosisKey");
    schema["required"] = json!(["keys"]);
    schema["additionalProperties"] = json!(false);
    schema
}

/// The members of a key, in the order of the protobuf schema.
const KEY_MEMBERS: [&str; 8] = [
    "keyData",
    "rollingStartIntervalNumber",
    "rollingPeriod",
    "transmissionRiskLevel",
    "visitedCountries",
    "origin",
    "reportType",
    "days_since_onset_of_symptoms",
];

fn uploaded_key() -> Value {
    json!({
        "type": "object",
        "required": ["keyData", "rollingStartIntervalNumber", "rollingPeriod", "origin"],
        "properties": key_properties(),
    })
}

fn diagnosis_key() -> Value {
    json!({
        "type": "object",
        "required": KEY_MEMBERS,
        "properties": key_properties(),
        "additionalProperties": false,
    })
}

fn key_properties() -> Value {
    json!({
        "keyData": {
            "type": "string",
            "contentEncoding": "base64",
            "pattern": "^[A-Za-z0-9+/]{21}[AQgw]==$",
            "description": "16 bytes.",
        },
        "rollingStartIntervalNumber": {
            "type": "integer",
            "minimum": 0,
            "maximum": u32::MAX,
            "description": "The beginning of the key's validity, in ten-minute intervals since 1970: from \
                            midnight UTC 15 days ago to the next interval.",
        },
        "rollingPeriod": {
            "type": "integer",
            "minimum": 1,
            "maximum": 144,
            "description": "The number of intervals for which the key was valid.",
        },
        "transmissionRiskLevel": {
            "type": "integer",
            "enum": [0, 1, 2, 3, 4, 5, 6, 7, 8, i32::MAX],
            "description": "2147483647: not given.",
        },
        "visitedCountries": {"type": "array", "items": {"type": "string"}},
        "origin": {
            "type": "string",
            "pattern": "^[A-Z]{2}$",
            "description": "The uploader's country.",
        },
        "reportType": {
            "type": "string",
            "enum": engine::domain::REPORT_TYPES,
        },
        "days_since_onset_of_symptoms": {
            "type": "integer",
            "minimum": i32::MIN,
            "maximum": i32::MAX,
        },
    })
}

fn key_outcomes() -> Value {
    let positions = |description: &str| {
        let position = json!({"type": "integer", "minimum": 0});
        json!({"type": "array", "items": position, "description": description})
    };
    json!({
        "type": "object",
        "description": "Zero-based positions in the request, each in exactly one list.",
        "required": ["201", "409", "500"],
        "properties": {
            "201": positions("Keys that could be stored, but are not."),
            "409": positions("Keys that are already stored, or repeat an earlier one."),
            "500": positions("Always empty."),
        },
    })
}

fn audit_entry() -> Value {
    let text = |description: &str| json!({"type": "string", "description": description});
    let mut properties = json!({
        "country": text("The uploader."),
        "uploaderCertificate": text("The authentication certificate, as the operator signed it."),
        "uploaderThumbprint": text("Its SHA-256 in hexadecimal digits, without leading zeros."),
        "uploaderOperatorSignature": text("The operator's signature over its text, base64."),
        "signingCertificate": text("The certificate that signed the batch."),
        "uploaderSigningThumbprint": text("Its SHA-256."),
        "signingCertificateOperatorSignature": text("The operator's signature over its text."),
        "batchSignature": text("As it was uploaded."),
    });
    properties["uploadedTime"] = json!({"type": "string", "format": "date-time"});
    properties["amount"] = json!({
        "type": "integer",
        "minimum": 0,
        "description": "The number of keys in the batch that this upload contributed.",
    });
    let members: Vec<_> = properties
        .as_object()
        .into_iter()
        .flat_map(Map::keys)
        .collect();
    json!({
        "type": "object",
        "description": "One upload of a batch. No member is ever null.",
        "required": members,
        "properties": properties,
    })
}

fn callback_subscription() -> Value {
    json!({
        "type": "object",
        "required": ["callbackId", "url"],
        "properties": {
            "callbackId": {"type": "string", "minLength": 1, "maxLength": 32},
            "url": {"type": "string", "format": "uri"},
        },
    })
}

fn callbacks_status() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    json!({
        "type": "object",
        "description": "Callback subscriptions of all participants.",
        "properties": {
            "delivers": {"type": "boolean", "description": "Whether this gateway delivers."},
            "active": count,
            "disabled": count,
            "batchesBehindMax": count,
        },
    })
}

fn status() -> Value {
    let count = json!({"type": "integer", "minimum": 0});
    let flag = json!({"type": "boolean"});
    json!({
        "type": "object",
        "properties": {
            "gateway": {
                "type": "string",
                "description": "This gateway's name: [operations] gateway_name, or the machine's name and a \
                    port.",
            },
            "ready": flag,
            "uploadsRefused": {
                "type": ["string", "null"],
                "description": "Why new keys are refused, if everything else is served: the memory for \
                    stored uploads is used up, as on all other gateways. It is ready then.",
            },
            "stopping": flag,
            "starting": {
                "type": ["object", "null"],
                "description": "While the gateway reads the log at its start: how many keys it has \
                    read, of how many.",
                "properties": {"keysRead": count, "keysExpected": count},
            },
            "databaseAvailable": {
                "type": "boolean",
                "description": "Whether the database answers.",
            },
            "databaseRefusal": {
                "type": ["string", "null"],
                "description": "What the database says to uploads, if it answers and stores none: \
                    its disk is full, it is read-only, a right is missing.",
            },
            "databaseWentBack": {
                "type": ["string", "null"],
                "description": "What was expected and what is there, if the database has gone \
                    back to an earlier state, or which row was modified outside of efgs: the gateway \
                    waits for its operator.",
            },
            "stateFileWritable": {
                "type": "boolean",
                "description": "Whether the state file could be written at the last attempt; true \
                    without one.",
            },
            "damagedUploads": {
                "type": "array",
                "items": {"type": "string"},
                "description": "Uploads that were found damaged in the database and cannot be \
                    served, some of them if there are many. All others are served.",
            },
            "day": {
                "type": "string",
                "format": "date",
                "description": "The day that the installation acts on, in UTC.",
            },
            "dayInDoubt": {
                "type": ["string", "null"],
                "description": "Why the clock's day is not believed yet, if it shows another.",
            },
            "clockAheadOfDatabaseMs": {
                "type": "integer",
                "description": "The gateway's clock minus the database's.",
            },
            "cuttingStopped": {
                "type": ["string", "null"],
                "description": "Why this gateway cannot cut download batches: the clocks differ, or \
                    a day in the database is wrong. It is not ready then.",
            },
            "logPosition": count,
            "identities": count,
            "newestBatch": {"type": ["string", "null"]},
            "cuts": {"type": "boolean", "description": "Whether this gateway cuts batches."},
            "bundleBudget": {
                "type": ["integer", "null"],
                "description": "How many more download batches may be cut for age at once; null if \
                    another gateway cuts, or if they are not paced.",
            },
            "certificates": {
                "type": "integer",
                "minimum": 0,
                "description": "Listed certificates that are trusted and not revoked. Without any, the gateway is not ready.",
            },
            "certificateListFault": {
                "type": ["string", "null"],
                "description": "Why the certificate list of the database is not used: the last good one \
                    stays in force; without one no one is trusted, and the gateway is not ready.",
            },
            "memory": {
                "type": "object",
                "description": "Memory that grows with what is stored. When it is used up, uploads \
                    are refused and everything else is served.",
                "properties": {
                    "storedBytes": count,
                    "storedBytesMax": count,
                    "usedUp": flag,
                },
            },
            "callbacks": callbacks_status(),
            "warnings": {
                "type": "array",
                "items": {"type": "string"},
                "description": "What an operator should see to, though the gateway works.",
            },
            "practice": {
                "type": "boolean",
                "description": "Whether this is a practice gateway: not for real keys.",
            },
            "version": {"type": "string"},
        },
    })
}
