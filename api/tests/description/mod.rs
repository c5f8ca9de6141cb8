//! The API description of a running gateway, and whether responses match it.

#![allow(dead_code, reason = "each test binary uses its part")]
#![allow(clippy::unwrap_used, reason = "tests")]

use std::fmt;

use serde_json::Value;

use crate::support::{Gateway, RawAnswer};

/// The parsed document.
pub(crate) struct Description(pub(crate) Value);

/// A method of a path, as described.
#[derive(Clone, Copy)]
pub(crate) struct Operation<'a> {
    pub(crate) path: &'a str,
    /// In upper case.
    pub(crate) method: &'static str,
    pub(crate) port: Port,
    pub(crate) value: &'a Value,
}

/// Which port.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Port {
    Participants,
    Operators,
}

/// Every method that the document could describe.
pub(crate) const METHODS: [&str; 8] = [
    "GET", "HEAD", "POST", "PUT", "DELETE", "OPTIONS", "PATCH", "TRACE",
];

impl fmt::Debug for Operation<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.method, self.path)
    }
}

impl Description {
    pub(crate) async fn of(gateway: &Gateway) -> Self {
        let mut raw = gateway.operations().await;
        let answer = raw
            .get("GET /openapi.json HTTP/1.1\r\nHost: gateway\r\n\r\n")
            .await;
        assert_eq!(answer.header("Content-Type"), Some("application/json"));
        Self(answer.json())
    }

    pub(crate) fn paths(&self) -> impl Iterator<Item = &str> {
        let paths = self.0["paths"].as_object().unwrap();
        paths.keys().map(String::as_str)
    }

    pub(crate) fn operations(&self) -> Vec<Operation<'_>> {
        let mut operations = Vec::new();
        for path in self.paths() {
            let item = &self.0["paths"][path];
            for method in METHODS {
                if let Some(value) = item.get(method.to_ascii_lowercase()) {
                    let of_operators = item.get("servers").is_some();
                    let port = if of_operators {
                        Port::Operators
                    } else {
                        Port::Participants
                    };
                    operations.push(Operation {
                        path,
                        method,
                        port,
                        value,
                    });
                }
            }
        }
        operations
    }

    fn find(&self, port: Port, method: &str, path: &str) -> Result<Operation<'_>, u16> {
        let path = path.split('?').next().unwrap();
        let fits = |one: &Operation<'_>| one.port == port && fits(one.path, path, port);
        let of_path: Vec<_> = self.operations().into_iter().filter(fits).collect();
        let found = of_path.iter().find(|operation| operation.method == method);
        let missing = if of_path.is_empty() { 404 } else { 405 };
        found.copied().ok_or(missing)
    }

    /// Checks that the response to a request is one of those described.
    ///
    /// # Errors
    /// The difference to the description.
    pub(crate) fn check(
        &self,
        port: Port,
        method: &str,
        path: &str,
        answer: &RawAnswer,
    ) -> Result<(), String> {
        let status = answer.status();
        let content_type = answer.header("Content-Type");
        if content_type.is_none() && answer.body.is_empty() && matches!(status, 400 | 414 | 431) {
            // Not HTTP: the HTTP library responds, as the introduction says.
            return Ok(());
        }
        let described = match self.find(port, method, path) {
            Ok(operation) => operation.value["responses"].get(status.to_string()),
            Err(missing) if missing == status => {
                let names = &self.0["components"]["responses"];
                let name = if status == 404 {
                    "NotFound"
                } else {
                    "MethodNotAllowed"
                };
                names.get(name)
            }
            Err(missing) => return Err(format!("{status}, not {missing}")),
        };
        let described = described.ok_or_else(|| format!("{status} is not described"))?;
        validate_headers(described, answer)?;
        let contents = described.get("content").filter(|_| method != "HEAD");
        let (Some(contents), Some(content_type)) = (contents, content_type) else {
            let unexpected = contents.is_some() || !answer.body.is_empty();
            return if unexpected {
                Err(format!("{content_type:?}"))
            } else {
                Ok(())
            };
        };
        let media = contents.get(content_type);
        let media = media.ok_or_else(|| format!("{content_type} is not described"))?;
        if content_type.starts_with("application/json") {
            let body = serde_json::from_slice(&answer.body).map_err(|error| error.to_string())?;
            self.validate_json(&media["schema"], &body)?;
        }
        Ok(())
    }

    /// Validates JSON against the part of JSON Schema that the document uses.
    fn validate_json(&self, schema: &Value, value: &Value) -> Result<(), String> {
        let refuse = |why: &str| Err(format!("{value} has another {why} than {schema}"));
        if let Some(reference) = schema["$ref"].as_str() {
            return self.validate_json(self.0.pointer(&reference[1..]).unwrap(), value);
        }
        for part in schema["allOf"].as_array().into_iter().flatten() {
            self.validate_json(part, value)?;
        }
        let types = match &schema["type"] {
            Value::Array(types) => types.clone(),
            Value::Null => Vec::new(),
            one => vec![one.clone()],
        };
        let of_type = |name: &Value| match name.as_str().unwrap() {
            "object" => value.is_object(),
            "array" => value.is_array(),
            "string" => value.is_string(),
            "integer" => value.is_i64() || value.is_u64(),
            "number" => value.is_number(),
            "boolean" => value.is_boolean(),
            "null" => value.is_null(),
            other => panic!("unknown type {other}"),
        };
        if !types.is_empty() && !types.iter().any(of_type) {
            return refuse("type");
        }
        if schema["enum"]
            .as_array()
            .is_some_and(|values| !values.contains(value))
        {
            return refuse("value");
        }
        let mut required = schema["required"].as_array().into_iter().flatten();
        if required.any(|name| value.get(name.as_str().unwrap()).is_none()) {
            return refuse("set of members");
        }
        for (name, member) in value.as_object().into_iter().flatten() {
            match schema["properties"].get(name) {
                Some(schema) => self.validate_json(schema, member)?,
                None if schema["additionalProperties"] == false => return refuse("member"),
                None => {}
            }
        }
        for item in value.as_array().into_iter().flatten() {
            self.validate_json(&schema["items"], item)?;
        }
        Ok(())
    }
}

/// Whether a path matches a template. Participants' paths may repeat slashes and end in one.
fn fits(template: &str, path: &str, port: Port) -> bool {
    let counts = |piece: &&str| port == Port::Operators || !piece.is_empty();
    let pieces = |path| str::split(path, '/').filter(counts).collect::<Vec<_>>();
    let (template, path) = (pieces(template), pieces(path));
    let same = |(wanted, given): (&&str, &&str)| wanted == given || wanted.starts_with('{');
    template.len() == path.len() && template.iter().zip(&path).all(same)
}

fn validate_headers(described: &Value, answer: &RawAnswer) -> Result<(), String> {
    for (name, header) in described["headers"].as_object().into_iter().flatten() {
        if header["required"] == true && answer.header(name).is_none() {
            return Err(format!("no header {name}"));
        }
    }
    let of_errors = answer.status() >= 400;
    for name in [
        "batchTag",
        "nextBatchTag",
        "Retry-After",
        "Allow",
        "Accept",
        "Accept-Encoding",
    ] {
        let described = described["headers"].get(name).is_some();
        if answer.header(name).is_some() && !described {
            return Err(format!("{name} is not described"));
        }
        if of_errors && name.ends_with("atchTag") && described {
            return Err(format!("{name} on an error"));
        }
    }
    Ok(())
}
