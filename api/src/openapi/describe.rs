//! Descriptions of the methods of every path.

use std::borrow::Cow;

use engine::domain::Format;
use serde_json::{Value, json};

use super::samples;
use super::schemas::reference;
use crate::negotiate::{self, PLAIN_JSON};
use crate::response::catalog::RequestKind;

/// A method of a path.
#[derive(Debug)]
pub(crate) struct Operation {
    /// In lower case.
    pub(super) method: &'static str,
    pub(super) id: &'static str,
    pub(super) summary: &'static str,
    pub(crate) text: Cow<'static, str>,
    pub(super) parameters: Value,
    pub(super) request_body: Option<Value>,
    /// Status and response, except for refusals.
    pub(super) answers: Vec<(u16, Value)>,
    /// Requests that the gateway sends as a consequence.
    pub(super) callbacks: Option<Value>,
    /// The kind of participants' request; `None` where no authentication is needed.
    pub(super) kind: Option<RequestKind>,
}

impl Operation {
    pub(super) fn new(method: &'static str, id: &'static str, summary: &'static str) -> Self {
        Self {
            method,
            id,
            summary,
            text: Cow::Borrowed(""),
            parameters: json!([]),
            request_body: None,
            answers: Vec::new(),
            callbacks: None,
            kind: None,
        }
    }

    /// A page or document that needs no authentication.
    pub(crate) fn page(
        id: &'static str,
        summary: &'static str,
        media_type: &str,
        schema: &Value,
    ) -> Self {
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
        ..Operation::new("options", "capabilities", "List the media types of uploads")
    }
}

/// The response to OPTIONS.
pub(super) fn options_answer() -> Value {
    json!({
        "description": "The methods that the path supports.",
        "headers": {"Allow": header("The methods, separated by commas.")},
    })
}

/// `GET /diagnosiskeys/download/{date}`.
pub(crate) fn download() -> Operation {
    let wanted = "The batch to download, usually a nextBatchTag. Absent, blank or null: the \
                  first batch of that day or a later one.";
    let mut found = json!({
        "description": "The keys that others uploaded, in the order of the audit; empty when \
                        all keys of the batch are the caller's own.",
        "content": batch_content(&reference("DownloadBatch")),
    });
    found["headers"] = json!({
        "batchTag": header("The tag of this batch: yyyyMMdd-N."),
        "nextBatchTag": header("The tag of the next batch, or the four letters null."),
        "X-Protobuf-Schema": header("Efgs.proto"),
        "X-Protobuf-Message": header("eu.interop.DiagnosisKeyBatch"),
    });
    Operation {
        text: Cow::Borrowed(DOWNLOAD),
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
        ..Operation::new("get", "download", "Download the keys of other countries")
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
    let tag = json!({"type": "string", "examples": [samples::BATCH_TAG]});
    Operation {
        text: Cow::Borrowed(AUDIT),
        parameters: json!([
            date("The day of the batch in UTC, exactly."),
            parameter("path", "batchTag", true, "The batch.", &tag),
        ]),
        answers: vec![(200, found)],
        kind: Some(RequestKind::Audit),
        ..Operation::new(
            "get",
            "audit",
            "List the uploads of a batch and their signers",
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
        text: Cow::Borrowed(CALLBACKS),
        answers: vec![(200, found)],
        kind: Some(RequestKind::Subscriptions),
        ..Operation::new("get", "callbacks", "List callback subscriptions")
    }
}

/// `PUT /diagnosiskeys/callback/{id}`.
pub(crate) fn subscribe() -> Operation {
    let url = json!({"type": "string", "format": "uri", "maxLength": 256, "pattern": "^https:"});
    let url_text = "The receiver: https, no query, no user information, and a host whose \
                    addresses are all public. Required here or in a form.";
    let form = json!({
        "type": "object",
        "properties": {"url": url},
    });
    Operation {
        text: Cow::Borrowed(SUBSCRIBE),
        parameters: json!([
            callback_id(),
            parameter("query", "url", false, url_text, &url),
        ]),
        request_body: Some(json!({
            "required": false,
            "content": {"application/x-www-form-urlencoded": {"schema": form}},
        })),
        answers: vec![(200, json!({"description": "The subscription is stored."}))],
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

/// The request that the gateway sends to receivers of callbacks.
fn new_batch() -> Value {
    let tag = json!({"type": "string", "examples": [samples::BATCH_TAG]});
    let day = json!({"type": "string", "format": "date", "examples": [samples::DAY]});
    json!({
        "summary": "There is a new download batch",
        "parameters": [
            parameter("query", "batchTag", true, "The batch.", &tag),
            parameter("query", "date", true, "Its day in UTC.", &day),
        ],
        "responses": {
            "2XX": {"description": "Acknowledged: the gateway continues with the next batch."},
            "default": {"description": "Not acknowledged: the gateway tries again with exponential backoff."},
        },
    })
}

fn callback_id() -> Value {
    let schema = json!({
        "type": "string",
        "minLength": 1,
        "maxLength": 32,
        "pattern": "^[A-Za-z0-9._:-]+$",
    });
    let text = "The participant's own name for the subscription, unique per country.";
    parameter("path", "id", true, text, &schema)
}

/// The console of the operations port.
pub(crate) fn console() -> Operation {
    let page = json!({"type": "string"});
    Operation::page("console", "The console", HTML, &page)
}

/// A script of the console.
fn script(id: &'static str, summary: &'static str) -> Operation {
    Operation::page(id, summary, SCRIPT, &json!({"type": "string"}))
}

/// `/console.js`.
pub(crate) fn console_script() -> Operation {
    script("consoleScript", "The console's script")
}

/// `/charts.js`.
pub(crate) fn charts_script() -> Operation {
    script("chartsScript", "The console's charts")
}

/// `/elements.js`.
pub(crate) fn elements_script() -> Operation {
    script(
        "elementsScript",
        "The console's numbers, times and elements",
    )
}

/// `/uplot.js`.
pub(crate) fn uplot_script() -> Operation {
    script("uplotScript", "uPlot, which draws the console's charts")
}

/// A style of the console.
fn style(id: &'static str, summary: &'static str) -> Operation {
    Operation::page(id, summary, STYLE, &json!({"type": "string"}))
}

/// `/console.css`.
pub(crate) fn console_style() -> Operation {
    style("consoleStyle", "The console's style")
}

/// `/uplot.css`.
pub(crate) fn uplot_style() -> Operation {
    style("uplotStyle", "The style of uPlot")
}

/// `/health`.
pub(crate) fn health() -> Operation {
    let schema = json!({
        "type": "object",
        "required": ["status"],
        "properties": {"status": {"const": "up"}},
    });
    Operation::page(
        "health",
        "Whether the process is alive",
        PLAIN_JSON,
        &schema,
    )
}

/// `/ready`.
pub(crate) fn ready() -> Operation {
    let summary = "Whether requests can be served";
    let status = reference("Status");
    let mut operation = Operation::page("ready", summary, PLAIN_JSON, &status);
    let not_ready = "The gateway is starting or stopping; its database does not answer, stores no \
                     uploads or has gone back; the state file cannot be written; no certificate is \
                     listed; or a part of the gateway has failed.";
    let answer = body(not_ready, &[PLAIN_JSON], &status);
    operation.answers.push((503, answer));
    operation
}

/// `/status`.
pub(crate) fn status() -> Operation {
    Operation::page(
        "status",
        "The state of the gateway",
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
        "This description as a page",
        HTML,
        &json!({"type": "string"}),
    )
}

/// `/diagnosiskeys/docs`.
pub(crate) fn participants_docs() -> Operation {
    Operation {
        id: "participantsDocs",
        kind: Some(RequestKind::Description),
        ..docs()
    }
}

/// `/diagnosiskeys/openapi.json`.
pub(crate) fn participants_document() -> Operation {
    Operation {
        id: "participantsOpenapi",
        kind: Some(RequestKind::Description),
        ..document()
    }
}

/// `/diagnosiskeys/Efgs.proto`.
pub(crate) fn proto() -> Operation {
    let text = json!({"type": "string"});
    Operation {
        kind: Some(RequestKind::Description),
        ..Operation::page(
            "proto",
            "The bodies as a protobuf schema",
            PLAIN_TEXT,
            &text,
        )
    }
}

/// The media type of a page.
pub(crate) const HTML: &str = "text/html; charset=utf-8";
/// The media type of scripts.
pub(crate) const SCRIPT: &str = "text/javascript; charset=utf-8";
/// The media type of styles.
pub(crate) const STYLE: &str = "text/css; charset=utf-8";
/// The media type of metrics.
pub(crate) const METRICS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// The media type of the protobuf schema.
pub(crate) const PLAIN_TEXT: &str = "text/plain; charset=utf-8";

/// A response with a body.
pub(super) fn body(description: &str, media_types: &[&str], schema: &Value) -> Value {
    let content = media_types
        .iter()
        .map(|media_type| ((*media_type).to_owned(), json!({"schema": schema})));
    json!({"description": description, "content": Value::Object(content.collect())})
}

/// A batch in either format.
pub(super) fn batch_content(json_schema: &Value) -> Value {
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

pub(super) fn parameter(
    place: &str,
    name: &str,
    required: bool,
    description: &str,
    schema: &Value,
) -> Value {
    json!({
        "in": place,
        "name": name,
        "required": required,
        "description": description,
        "schema": schema,
    })
}

fn date(description: &str) -> Value {
    let schema = json!({"type": "string", "format": "date", "examples": [samples::DAY]});
    parameter("path", "date", true, description, &schema)
}

pub(super) fn header(description: &str) -> Value {
    json!({"description": description, "required": true, "schema": {"type": "string"}})
}

const DOWNLOAD: &str = "`Accept` chooses protobuf or JSON; absent or unversioned means version \
    1.0, protobuf where both match. Follow `nextBatchTag` until it is `null`, across days; keep the \
    last tag and continue from there.";

const CALLBACKS: &str = "Each subscription is notified of each download batch, in order: \
    `GET URL?batchTag=yyyyMMdd-N&date=yyyy-MM-dd`, with the gateway's certificate. Any 2xx is \
    success. The receiver's certificate must be listed for the country. After six failed attempts in \
    a row, a subscription disappears from the list and is no longer notified, until it is \
    subscribed again.";

const SUBSCRIBE: &str = "A new subscription begins after the newest batch. An existing one \
    continues where it was. At most 16 per country.";

const AUDIT: &str = "Cut the keys of the download into slices by `amount`, leaving out the \
    entries of your own country: each slice in its canonical form verifies against \
    `batchSignature` with `signingCertificate`, and each certificate, as text, against the \
    operator's signature.";
