//! The API description: an `OpenAPI` 3.1 document, and a page that renders it.
//!
//! Generated from what the gateway itself uses: paths and methods are the router's ([`Endpoint`]);
//! statuses, codes, texts and headers of errors are those of every refusal that `response` knows
//! ([`catalog`]); media types are those of `negotiate`. Weighed against utoipa and aide: both derive a
//! document from attributes or from handler types. Our handlers take a request and return a response,
//! so every status would have to be written down twice, and nothing would notice a mistake.

pub(crate) mod describe;
pub(crate) mod endpoint;
pub(crate) mod samples;
mod schemas;
mod signing;
pub(crate) mod upload;

use std::fmt::Write as _;

use engine::domain::{BatchTag, Country, Day};
use serde_json::{Map, Value, json};

use crate::negotiate::PLAIN_JSON;
use crate::response::catalog::{self, Described, RequestKind};

use describe::Operation;
use endpoint::Endpoint;
use schemas::{reference, schemas};

/// The page that renders the document. It loads nothing else.
pub(crate) const PAGE: &str = include_str!("page.html");

/// The schema of bodies in protobuf, for generators.
pub(crate) const PROTO: &str = include_str!("../../../docs/protocol/Efgs.proto");

/// The document of both kinds of ports, or of the participants' alone.
#[derive(Debug)]
pub(crate) struct Document {
    /// With the samples of [`samples`] in its examples.
    text: String,
}

impl Document {
    /// Of these paths; those of the operators may be none.
    pub(crate) fn new(participants: &[Endpoint], operators: &[Endpoint]) -> Self {
        Self {
            text: describe_all(participants, operators).to_string(),
        }
    }

    /// As JSON, with examples that work for that country on that day.
    pub(crate) fn on(&self, day: Day, country: Country) -> String {
        let tag = BatchTag { day, number: 1 };
        let start = samples::rolling_start(day).to_string();
        self.text
            .replace(samples::ORIGIN, &country.to_string())
            .replace(samples::DAY, &day.to_string())
            .replace(samples::BATCH_TAG, &tag.to_string())
            .replace(&samples::ROLLING_START.to_string(), &start)
    }
}

fn describe_all(participants: &[Endpoint], operators: &[Endpoint]) -> Value {
    let mut paths = Map::new();
    for endpoint in participants {
        paths.insert(endpoint.path.to_owned(), path_item(endpoint, DISCOVERY));
    }
    for endpoint in operators {
        let mut item = path_item(endpoint, OPERATIONS);
        item["servers"] = operations_servers();
        paths.insert(endpoint.path.to_owned(), item);
    }
    let for_operators = !operators.is_empty();
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Gateway for diagnosis keys",
            "version": env!("CARGO_PKG_VERSION"),
            "description": INTRODUCTION,
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": if for_operators { participants_servers() } else { json!([{"url": "/"}]) },
        "security": security(),
        "tags": tags(for_operators),
        "paths": paths,
        "components": {
            "schemas": schemas(for_operators),
            "responses": route_refusals(),
            "securitySchemes": security_schemes(),
        },
    })
}

const DISCOVERY: &str = "discovery";
const OPERATIONS: &str = "operations";

/// Groups of paths, in the order in which the page shows them.
fn tags(for_operators: bool) -> Value {
    let tag = |name: &str, description: &str| json!({"name": name, "description": description});
    let mut tags = vec![
        tag("uploads", "How a national backend shares its keys."),
        tag("downloads", "The keys of the others, and who signed them."),
        tag("callbacks", "Notifications of new download batches."),
        tag(DISCOVERY, "What this is."),
    ];
    if for_operators {
        tags.push(tag(OPERATIONS, "For operators, on a port of its own."));
    }
    Value::Array(tags)
}

/// The group of a participants' request.
const fn tag_of(kind: RequestKind) -> &'static str {
    match kind {
        RequestKind::Upload => "uploads",
        RequestKind::Download | RequestKind::Audit => "downloads",
        RequestKind::Subscriptions | RequestKind::Subscribe | RequestKind::Unsubscribe => {
            "callbacks"
        }
        RequestKind::Description => DISCOVERY,
    }
}

const INTRODUCTION: &str = "National contact-tracing backends upload signed batches of diagnosis \
    keys; each downloads the keys of all others.\n\n\
    Participants' paths may end in a slash, and repeated slashes count as one. Every error is JSON with \
    the reference server's `message` and a stable `code`. An unknown path gets a 404, an unsupported \
    method a 405 with `Allow`, a request that is not HTTP an empty 400, headers above 64 KiB a 431. \
    Error responses never have a `batchTag` header.\n\n\
    Header names in requests are case-insensitive; on HTTP/1.1 responses use the case shown here.";

fn participants_servers() -> Value {
    let host = json!({"host": {"default": "localhost"}});
    json!([
        {
            "url": "https://{host}:8443",
            "description": "Public port, mutual TLS.",
            "variables": host,
        },
        {
            "url": "http://{host}:8080",
            "description": "Port for a proxy that terminates TLS; off unless it is configured.",
            "variables": host,
        },
    ])
}

fn operations_servers() -> Value {
    json!([{"url": "http://127.0.0.1:9090", "description": "Operations port."}])
}

/// A client certificate, or both headers of a trusted proxy.
fn security() -> Value {
    json!([{"certificate": []}, {"forwardedThumbprint": [], "forwardedName": []}])
}

fn security_schemes() -> Value {
    let forwarded = |name: &str, description: &str| json!({"type": "apiKey", "in": "header", "name": name, "description": description});
    json!({
        "certificate": {
            "type": "mutualTLS",
            "description": "An authentication certificate that the operator has listed.",
        },
        "forwardedThumbprint": forwarded(
            "X-SSL-Client-SHA256",
            "From a trusted proxy only: SHA-256 of the client's certificate, hexadecimal or base64.",
        ),
        "forwardedName": forwarded(
            "X-SSL-Client-DN",
            "From a trusted proxy only: the subject of the client's certificate.",
        ),
    })
}

/// All methods of a path.
fn path_item(endpoint: &Endpoint, tag: &'static str) -> Value {
    let mut item = Map::new();
    let operations: Vec<_> = endpoint
        .operations
        .iter()
        .map(|describe| describe())
        .collect();
    let methods = endpoint.methods.to_ascii_lowercase();
    for operation in &operations {
        item.insert(operation.method.to_owned(), described(operation, tag));
    }
    for method in methods.split(',') {
        let of_get = operations
            .iter()
            .find(|operation| operation.method == "get");
        match (method, of_get) {
            ("head", Some(get)) => item.insert(method.to_owned(), head_of(get, tag)),
            ("options", _) if !item.contains_key(method) => {
                item.insert(method.to_owned(), options_of(&operations, tag))
            }
            _ => None,
        };
    }
    Value::Object(item)
}

fn described(operation: &Operation, tag: &'static str) -> Value {
    let mut responses = Map::new();
    for (status, answer) in &operation.answers {
        responses.insert(status.to_string(), answer.clone());
    }
    for (status, answer) in operation.kind.map(refusals).unwrap_or_default() {
        responses.insert(status.to_string(), answer);
    }
    let mut described = json!({
        "operationId": operation.id,
        "summary": operation.summary,
        "description": operation.text,
        "tags": [operation.kind.map_or(tag, tag_of)],
        "parameters": operation.parameters,
        "responses": responses,
    });
    if let Some(body) = &operation.request_body {
        described["requestBody"] = body.clone();
    }
    if let Some(callbacks) = &operation.callbacks {
        described["callbacks"] = callbacks.clone();
    }
    if operation.kind.is_none() {
        described["security"] = json!([]);
    }
    described
}

/// HEAD: as GET, without bodies.
fn head_of(get: &Operation, tag: &'static str) -> Value {
    let mut head = described(get, tag);
    head["operationId"] = json!(format!("{}Head", get.id));
    head["description"] = json!("As GET, without a body.");
    let responses = head["responses"].as_object_mut();
    for (_, answer) in responses.into_iter().flatten() {
        if let Some(answer) = answer.as_object_mut() {
            answer.remove("content");
        }
    }
    head
}

fn options_of(operations: &[Operation], tag: &'static str) -> Value {
    let first = operations.first();
    let id = first.map_or("", |operation| operation.id);
    let tag = first
        .and_then(|operation| operation.kind)
        .map_or(tag, tag_of);
    json!({
        "operationId": format!("{id}Options"),
        "summary": "List the methods of the path",
        "tags": [tag],
        "parameters": path_parameters(first),
        "responses": {"200": describe::options_answer()},
        "security": [],
    })
}

fn path_parameters(operation: Option<&Operation>) -> Vec<Value> {
    let parameters = operation.and_then(|operation| operation.parameters.as_array());
    let of_path = parameters.into_iter().flatten();
    let of_path = of_path.filter(|parameter| parameter["in"] == "path");
    // The values are not checked.
    let any_text = |parameter: &Value| {
        let mut parameter = parameter.clone();
        parameter["schema"] = json!({"type": "string"});
        parameter
    };
    of_path.map(any_text).collect()
}

/// The refusals that a kind of request may get, by status.
fn refusals(kind: RequestKind) -> Vec<(u16, Value)> {
    let refusals = catalog::refusals_of(kind);
    let by_status = refusals.chunk_by(|one, other| one.status == other.status);
    by_status
        .map(|same| (same[0].status, refusal(same)))
        .collect()
}

/// One status with all its codes.
fn refusal(same_status: &[Described]) -> Value {
    let (mut text, mut examples, mut headers) = (String::new(), Map::new(), Map::new());
    for described in same_status {
        let message = described.sample["message"].as_str().unwrap_or("no message");
        let _ = writeln!(text, "- `{}`: {message}", described.code);
        let example = json!({"value": described.sample});
        examples.insert(described.code.to_owned(), example);
        if let Some(name) = described.header {
            headers.insert(name.to_owned(), refusal_header(name));
        }
    }
    let codes: Vec<_> = same_status.iter().map(|described| described.code).collect();
    let narrowed = json!({"properties": {"code": {"enum": codes}}});
    let mut answer = describe::body(&text, &[PLAIN_JSON], &json!({}));
    let schema = json!({"allOf": [reference("Error"), narrowed]});
    answer["content"][PLAIN_JSON] = json!({"schema": schema, "examples": examples});
    answer["headers"] = Value::Object(headers);
    answer
}

fn refusal_header(name: &str) -> Value {
    let description = match name {
        "Retry-After" => "When to try again: seconds with 503, a date with 429.",
        "Allow" => "The methods that the path supports.",
        "Accept" => "The supported media types.",
        "Accept-Encoding" => "The supported encodings.",
        _ => "The connection is closed.",
    };
    json!({"description": description, "schema": {"type": "string"}})
}

/// The responses for unknown paths and unsupported methods.
fn route_refusals() -> Value {
    let refusals = catalog::refusals_of_routes();
    let named = refusals.map(|described| {
        let name = if described.status == 404 {
            "NotFound"
        } else {
            "MethodNotAllowed"
        };
        (name.to_owned(), refusal(&[described]))
    });
    Value::Object(Map::from_iter(named))
}
