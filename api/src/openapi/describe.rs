//! What each method of each path is for.

use serde_json::{Value, json};

use super::schemas::reference;
use crate::negotiate::{self, PLAIN_JSON};
use crate::response::catalog::RequestKind;
use engine::domain::Format;

/// A method of a path.
#[derive(Debug)]
pub(crate) struct Operation {
    /// In lower case.
    pub(super) method: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(super) text: &'static str,
    pub(super) parameters: Value,
    pub(super) request_body: Option<Value>,
    /// Status and answer, beside the refusals.
    pub(super) answers: Vec<(u16, Value)>,
    /// What the gateway asks in turn.
    pub(super) callbacks: Option<Value>,
    /// What a participant asks; nobody is authenticated where it is none.
    pub(super) kind: Option<RequestKind>,
}

impl Operation {
    fn new(method: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            id,
            summary,
            text: "",
            parameters: json!([]),
            request_body: None,
            answers: Vec::new(),
            callbacks: None,
            kind: None,
        }
    }

    /// A page or a document that anyone may read.
    fn page(id: &'static str, summary: &'static str, media_type: &str, schema: &Value) -> Self {
        let answer = body(summary, &[media_type], schema);
        Self {
            answers: vec![(200, answer)],
            ..Self::new("get", id, summary)
        }
    }
}

/// `OPTIONS /diagnosiskeys`.
pub(crate) fn capabilities() -> Operation {
    let mut answer = options_answer();
    answer["headers"]["Accept"] = header("Media types of uploads, with their versions.");
    Operation {
        answers: vec![(200, answer)],
        ..Operation::new("options", "capabilities", "Which uploads are understood")
    }
}

/// The answer to OPTIONS.
pub(super) fn options_answer() -> Value {
    json!({
        "description": "Which methods the path knows.",
        "headers": {"Allow": header("The methods, separated by commas.")},
    })
}

/// `POST /diagnosiskeys/upload`.
pub(crate) fn upload() -> Operation {
    let tag = "The participant's own name for the upload, unique per country.";
    let upload_tag = json!({"type": "string", "pattern": "^[!-~]{1,64}$"});
    let signature = "Base64 of a detached CMS SignedData over the canonical form of the keys.";
    let stored = json!({
        "description": "Every key is stored, durably; also when the same content was stored \
                        under the same tag before.",
        "headers": {"batchTag": header("The tag as sent.")},
    });
    let refused = body(
        "Some keys are known already, or occur twice. Nothing is stored and the tag stays free; \
         the others must be signed and sent again without them.",
        &[PLAIN_JSON, negotiate::content_type(Format::Json)],
        &reference("KeyOutcomes"),
    );
    Operation {
        text: UPLOAD,
        parameters: json!([
            parameter("header", "batchTag", true, tag, &upload_tag),
            parameter(
                "header",
                "batchSignature",
                true,
                signature,
                &json!({"type": "string"})
            ),
        ]),
        request_body: Some(json!({
            "required": true,
            "description": "The keys: at most 5000 of them unless the operator allows others.",
            "content": batch_content(&reference("UploadBatch")),
        })),
        answers: vec![(201, stored), (207, refused)],
        kind: Some(RequestKind::Upload),
        ..Operation::new("post", "upload", "Upload diagnosis keys")
    }
}

/// `GET /diagnosiskeys/download/{date}`.
pub(crate) fn download() -> Operation {
    let wanted = "The batch to download, a nextBatchTag as a rule. Absent, blank or null: the \
                  first batch of that day or any later one.";
    let mut found = json!({
        "description": "The keys that others uploaded, in the order of the audit; none when \
                        all of the batch are the caller's own.",
        "content": batch_content(&reference("DownloadBatch")),
    });
    found["headers"] = json!({
        "batchTag": header("The batch that this is: yyyyMMdd-N."),
        "nextBatchTag": header("The batch after it, or the four letters null."),
        "X-Protobuf-Schema": header("Efgs.proto"),
        "X-Protobuf-Message": header("eu.interop.DiagnosisKeyBatch"),
    });
    Operation {
        text: DOWNLOAD,
        parameters: json!([
            date("A day in UTC; the batch must be of this day or later."),
            parameter(
                "header",
                "batchTag",
                false,
                wanted,
                &json!({"type": "string"})
            ),
        ]),
        answers: vec![(200, found)],
        kind: Some(RequestKind::Download),
        ..Operation::new("get", "download", "Download the keys of the others")
    }
}

/// `GET /diagnosiskeys/audit/download/{date}/{batchTag}`.
pub(crate) fn audit() -> Operation {
    let schema = json!({"type": "array", "items": reference("AuditEntry")});
    let found = body(
        "The uploads in the order of the keys of a download, the caller's own last.",
        &[PLAIN_JSON, negotiate::content_type(Format::Json)],
        &schema,
    );
    let tag = json!({"type": "string", "examples": ["20201006-1"]});
    Operation {
        text: AUDIT,
        parameters: json!([
            date("The day of the batch in UTC, exactly."),
            parameter("path", "batchTag", true, "The batch.", &tag),
        ]),
        answers: vec![(200, found)],
        kind: Some(RequestKind::Audit),
        ..Operation::new(
            "get",
            "audit",
            "List who uploaded and signed what is in a batch",
        )
    }
}

/// `GET /diagnosiskeys/callback`.
pub(crate) fn subscriptions() -> Operation {
    let schema = json!({"type": "array", "items": reference("CallbackSubscription")});
    let found = body(
        "The caller's own subscriptions, in the order of their ids.",
        &[PLAIN_JSON, negotiate::content_type(Format::Json)],
        &schema,
    );
    Operation {
        text: CALLBACKS,
        answers: vec![(200, found)],
        kind: Some(RequestKind::Subscriptions),
        ..Operation::new("get", "callbacks", "List callback subscriptions")
    }
}

/// `PUT /diagnosiskeys/callback/{id}`.
pub(crate) fn subscribe() -> Operation {
    let url = json!({"type": "string", "format": "uri", "maxLength": 256, "pattern": "^https:"});
    let where_to = "Whom to tell: https, no query, no user information, and a host whose \
                    addresses are all public. Wanted here or in a form.";
    let form = json!({
        "type": "object",
        "properties": {"url": url},
    });
    Operation {
        text: SUBSCRIBE,
        parameters: json!([
            callback_id(),
            parameter("query", "url", false, where_to, &url),
        ]),
        request_body: Some(json!({
            "required": false,
            "content": {"application/x-www-form-urlencoded": {"schema": form}},
        })),
        answers: vec![(
            200,
            json!({"description": "The subscription is as wished."}),
        )],
        callbacks: Some(json!({"newBatch": {"{$request.query.url}": {"get": new_batch()}}})),
        kind: Some(RequestKind::Subscribe),
        ..Operation::new("put", "subscribe", "Add or change a callback subscription")
    }
}

/// `DELETE /diagnosiskeys/callback/{id}`.
pub(crate) fn unsubscribe() -> Operation {
    Operation {
        parameters: json!([callback_id()]),
        answers: vec![(200, json!({"description": "The subscription is removed."}))],
        kind: Some(RequestKind::Unsubscribe),
        ..Operation::new("delete", "unsubscribe", "Remove a callback subscription")
    }
}

/// What the gateway asks the receiver of callbacks.
fn new_batch() -> Value {
    let tag = json!({"type": "string", "examples": ["20201006-1"]});
    let day = json!({"type": "string", "format": "date", "examples": ["2020-10-06"]});
    json!({
        "summary": "There is a new download batch",
        "parameters": [
            parameter("query", "batchTag", true, "The batch.", &tag),
            parameter("query", "date", true, "Its day in UTC.", &day),
        ],
        "responses": {
            "2XX": {"description": "Heard; the next batch may be told."},
            "default": {"description": "Not heard: the gateway asks again, later each time."},
        },
    })
}

fn callback_id() -> Value {
    let schema = json!({"type": "string", "minLength": 1, "maxLength": 32});
    let text = "The participant's own name for the subscription, unique per country.";
    parameter("path", "id", true, text, &schema)
}

/// The dashboard of the operations port.
pub(crate) fn dashboard() -> Operation {
    Operation::page(
        "dashboard",
        "The dashboard",
        HTML,
        &json!({"type": "string"}),
    )
}

/// `/health`.
pub(crate) fn health() -> Operation {
    let schema = json!({
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": "up"}},
    });
    Operation::page("health", "Whether the process answers", PLAIN_JSON, &schema)
}

/// `/ready`.
pub(crate) fn ready() -> Operation {
    let summary = "Whether requests can be served";
    let status = reference("Status");
    let mut operation = Operation::page("ready", summary, PLAIN_JSON, &status);
    let not_ready = "The gateway is stopping, or its database does not answer.";
    let answer = body(not_ready, &[PLAIN_JSON], &status);
    operation.answers.push((503, answer));
    operation
}

/// `/status`.
pub(crate) fn status() -> Operation {
    Operation::page(
        "status",
        "What the gateway is doing",
        PLAIN_JSON,
        &reference("Status"),
    )
}

/// `/metrics`.
pub(crate) fn metrics() -> Operation {
    let text = json!({"type": "string"});
    Operation::page("metrics", "Metrics, for Prometheus", METRICS, &text)
}

/// `/openapi.json`.
pub(crate) fn document() -> Operation {
    let schema = json!({"type": "object", "required": ["openapi", "info", "paths"]});
    Operation::page("openapi", "This description", PLAIN_JSON, &schema)
}

/// `/docs`.
pub(crate) fn docs() -> Operation {
    Operation::page(
        "docs",
        "This description, to be read",
        HTML,
        &json!({"type": "string"}),
    )
}

/// The media type of a page.
pub(crate) const HTML: &str = "text/html; charset=utf-8";
/// The media type of metrics.
pub(crate) const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// An answer with a body.
pub(super) fn body(description: &str, media_types: &[&str], schema: &Value) -> Value {
    let content = media_types
        .iter()
        .map(|media_type| ((*media_type).to_owned(), json!({"schema": schema})));
    json!({"description": description, "content": Value::Object(content.collect())})
}

/// A batch in either format.
fn batch_content(json_schema: &Value) -> Value {
    let mut content = json!({});
    for (format, schema) in [
        (
            Format::Protobuf,
            &json!({"contentMediaType": "application/protobuf"}),
        ),
        (Format::Json, json_schema),
    ] {
        content[negotiate::content_type(format)] = json!({"schema": schema});
    }
    content
}

fn parameter(place: &str, name: &str, required: bool, description: &str, schema: &Value) -> Value {
    json!({
        "in": place,
        "name": name,
        "required": required,
        "description": description,
        "schema": schema,
    })
}

fn date(description: &str) -> Value {
    let schema = json!({"type": "string", "format": "date", "examples": ["2020-10-06"]});
    parameter("path", "date", true, description, &schema)
}

fn header(description: &str) -> Value {
    json!({"description": description, "required": true, "schema": {"type": "string"}})
}

const UPLOAD: &str = "Stores all keys or none. `Content-Type` must name the version: \
    `application/protobuf; version=1.0` or `application/json; version=1.0`. An empty protobuf \
    body is an empty batch.\n\n\
    What is signed: of each key the base64 of its fields as text, joined with dots; these lines \
    sorted. JSON uploads may hold unknown members, quoted numbers and enumerations by number.";

const DOWNLOAD: &str = "`Accept` chooses protobuf or JSON; absent or unversioned means version \
    1.0, protobuf where both fit. Follow `nextBatchTag` until it is `null`, across days; keep the \
    last tag and go on there.";

const CALLBACKS: &str = "Each subscription is told of each download batch, in order: \
    `GET URL?batchTag=yyyyMMdd-N&date=yyyy-MM-dd`, with the gateway's certificate. Any 2xx is \
    success. The receiver's certificate must be one that is listed for the country. After six \
    attempts in a row that failed a subscription is gone from the list, and told of nothing, until \
    it is subscribed again.";

const SUBSCRIBE: &str = "A new subscription begins behind the newest batch. One that exists goes \
    on where it was. There may be 16 a country.";

const AUDIT: &str = "Cut the keys of the download into slices by `amount`, leaving out the \
    entries of your own country: each slice in its canonical form verifies against \
    `batchSignature` with `signingCertificate`, and each certificate, as text, against the \
    operator's signature.";
