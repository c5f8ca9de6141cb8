//! The API description, compared to the actual routes and responses.

#![allow(clippy::unwrap_used, reason = "tests")]

mod description;
mod support;

use std::collections::{BTreeSet, HashSet};
use std::time::{Duration, Instant};

use serde_json::Value;

use description::{Description, METHODS, Operation, Port};
use engine::wire::json::to_protobuf;
use support::{Gateway, Raw, RawAnswer, TODAY, forwarded, get, sign_upload, signed_upload};

/// A path of a template, with an invalid date or id: refused by the route, not by the router.
fn path_of(operation: &Operation<'_>) -> String {
    let path = operation.path.replace("{date}", "x");
    let path = path.replace("{batchTag}", "20210601-1");
    path.replace("{id}", &"x".repeat(33))
}

async fn ask(raw: &mut Raw, method: &str, path: &str) -> RawAnswer {
    let identity = forwarded("DE");
    let head = format!("{method} {path} HTTP/1.1\r\nHost: gateway\r\n{identity}\r\n");
    raw.write(head).await;
    raw.answer(method == "HEAD").await
}

#[tokio::test]
async fn describes_exactly_the_routes() {
    let gateway = Gateway::start().await;
    let description = Description::of(&gateway).await;
    let (mut participants, mut operators) = (gateway.proxy().await, gateway.operations().await);
    let operations = description.operations();
    let described: HashSet<_> = operations.iter().map(|one| format!("{one:?}")).collect();
    // Wire §1.
    for expected in [
        "OPTIONS /diagnosiskeys",
        "POST /diagnosiskeys/upload",
        "GET /diagnosiskeys/download/{date}",
        "GET /diagnosiskeys/audit/download/{date}/{batchTag}",
        "GET /diagnosiskeys/callback",
        "PUT /diagnosiskeys/callback/{id}",
        "DELETE /diagnosiskeys/callback/{id}",
    ] {
        assert!(described.contains(expected), "{expected}");
    }
    for operation in &operations {
        let path = path_of(operation);
        let (raw, paths) = if operation.port == Port::Operators {
            (&mut operators, vec![path])
        } else {
            (&mut participants, vec![format!("{path}/"), path])
        };
        for path in paths {
            let answer = ask(raw, operation.method, &path).await;
            let status = answer.status();
            assert!(![404, 405].contains(&status), "{operation:?}: {answer:?}");
            let checked = description.check(operation.port, operation.method, &path, &answer);
            assert_eq!(checked, Ok(()), "{operation:?}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn refuses_methods_that_are_not_described() {
    let gateway = Gateway::start().await;
    let description = Description::of(&gateway).await;
    let (mut participants, mut operators) = (gateway.proxy().await, gateway.operations().await);
    for path in description.paths() {
        let operations = description.operations();
        let here = operations.iter().filter(|operation| operation.path == path);
        let described: BTreeSet<&str> = here.clone().map(|operation| operation.method).collect();
        let first = here.clone().next().unwrap();
        let raw = if first.port == Port::Operators {
            &mut operators
        } else {
            &mut participants
        };
        for method in METHODS
            .iter()
            .filter(|method| !described.contains(**method))
        {
            let answer = ask(raw, method, &path_of(first)).await;
            assert_eq!(answer.status(), 405, "{method} {path}");
            let allowed = answer.header("Allow").unwrap().split(',').collect();
            assert_eq!(described, allowed, "{method} {path}");
            let checked = description.check(first.port, method, &path_of(first), &answer);
            assert_eq!(checked, Ok(()), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn serves_no_undescribed_path_on_either_port() {
    let gateway = Gateway::start().await;
    let description = Description::of(&gateway).await;
    let described: HashSet<&str> = description.paths().collect();
    let (mut participants, mut operators) = (gateway.proxy().await, gateway.operations().await);
    for path in [
        "/diagnosiskeys/callback",
        "/diagnosiskeys/callback/1/2",
        "/diagnosiskeys/download",
        "/diagnosiskeys/audit",
        "/diagnosiskeys/audit/download/2021-06-01",
        "/diagnosiskeys/uploads",
        "/v3/api-docs",
        "/swagger-ui.html",
        "/api",
        "/actuator/health",
        "/favicon.ico",
        "//",
    ] {
        for (port, raw) in [
            (Port::Participants, &mut participants),
            (Port::Operators, &mut operators),
        ] {
            let answer = ask(raw, "GET", path).await;
            if !described.contains(path) {
                assert_eq!(answer.status(), 404, "{path}: {answer:?}");
                let checked = description.check(port, "GET", path, &answer);
                assert_eq!(checked, Ok(()), "{path}");
            }
        }
    }
    // No path exists on both ports.
    for (raw, path) in [
        (&mut participants, "/openapi.json"),
        (&mut operators, "/diagnosiskeys"),
    ] {
        let answer = ask(raw, "GET", path).await;
        assert_eq!(
            (answer.status(), &answer.json()["code"]),
            (404, &Value::from("not_found"))
        );
    }
}

/// Requests that produce many of the statuses; each response is one of those described.
#[tokio::test]
async fn describes_the_responses_of_typical_requests() {
    let gateway = Gateway::start().await;
    let description = Description::of(&gateway).await;
    let mut raw = gateway.proxy().await;
    let mut met = BTreeSet::new();
    let mut check = |method: &str, path: &str, answer: &RawAnswer, status: u16| {
        assert_eq!(answer.status(), status, "{answer:?}");
        assert_eq!(
            description.check(Port::Participants, method, path, answer),
            Ok(()),
            "{answer:?}"
        );
        met.insert(status);
    };
    let upload = signed_upload("DE", 0..3);
    let head = upload.head("DE", "one");
    let path = "/diagnosiskeys/upload";
    let without_version = head.replace("; version=1.0", "");
    let other_version = head.replace("version=1.0", "version=1.1");
    let other_type = head.replace("application/protobuf", "text/plain");
    let html_only = format!("{head}Accept: text/html\r\n");
    let unknown = head.replace("C=DE", "C=FR");
    for (head, body, status) in [
        (without_version.as_str(), &upload.body[..], 400),
        (&other_version, &upload.body, 406),
        (&other_type, &upload.body, 415),
        (&html_only, &upload.body, 406),
        (&unknown, &upload.body, 403),
        (&head, &upload.body, 201),
        (
            &format!("{head}Accept: application/json; version=1.0\r\n"),
            &upload.body,
            201,
        ),
        (&upload.head("DE", "two"), &upload.body, 207),
    ] {
        check("POST", path, &raw.ask(head, body).await, status);
    }
    let mut foreign = signed_upload("DE", 3..6);
    check(
        "POST",
        path,
        &raw.ask(&foreign.head("DE", "one"), &foreign.body).await,
        409,
    );
    check(
        "POST",
        path,
        &raw.ask(&foreign.head("IT", "one"), &foreign.body).await,
        400,
    );
    foreign.signature = "x".to_owned();
    check(
        "POST",
        path,
        &raw.ask(&foreign.head("DE", "3"), &foreign.body).await,
        400,
    );
    let too_many = signed_upload("DE", 100..131);
    check(
        "POST",
        path,
        &raw.ask(&too_many.head("DE", "4"), &too_many.body).await,
        413,
    );

    let path = format!("/diagnosiskeys/download/{TODAY}");
    let deadline = Instant::now() + Duration::from_secs(30);
    let found = loop {
        let found = raw.get(&get(&path, "IT", "")).await;
        if found.status() == 200 {
            break found;
        }
        check("GET", &path, &found, 404);
        assert!(Instant::now() < deadline, "{found:?}");
        tokio::task::yield_now().await;
    };
    check("GET", &path, &found, 200);
    let json = "Accept: application/json\r\n";
    check("GET", &path, &raw.get(&get(&path, "IT", json)).await, 200);
    check("HEAD", &path, &ask(&mut raw, "HEAD", &path).await, 200);
    for (path, more, status) in [
        (path.as_str(), "batchTag: none\r\n", 404),
        (&path, "Accept: image/png\r\n", 406),
        ("/diagnosiskeys/download/2021-05-01", "", 410),
        ("/diagnosiskeys/download/20210601", "", 400),
        (
            "/diagnosiskeys/audit/download/2021-06-01/20210601-1",
            "",
            200,
        ),
        (
            "/diagnosiskeys/audit/download/2021-06-01/20210601-1",
            json,
            200,
        ),
        (
            "/diagnosiskeys/audit/download/2021-05-31/20210601-1",
            "",
            404,
        ),
        (
            "/diagnosiskeys/audit/download/2021-05-31/20210601-1",
            "Accept: a/b\r\n",
            406,
        ),
        ("/diagnosiskeys/nothing", "", 404),
        ("/diagnosiskeys", "", 405),
    ] {
        check("GET", path, &raw.get(&get(path, "IT", more)).await, status);
    }
    let expected = [200, 201, 207, 400, 403, 404, 405, 406, 409, 410, 413, 415];
    assert_eq!(met, BTreeSet::from(expected));
}

/// What the standard requires beyond JSON: valid references, unique names, a parameter for each
/// pair of braces.
#[tokio::test]
async fn is_well_formed() {
    let gateway = Gateway::start().await;
    let description = Description::of(&gateway).await;
    let document = &description.0;
    assert_eq!(document["openapi"], "3.1.0");
    let text = document.to_string();
    for reference in text.split("\"$ref\":\"#").skip(1) {
        let pointer = reference.split('"').next().unwrap();
        assert!(document.pointer(pointer).is_some(), "{pointer}");
    }
    let mut ids = HashSet::new();
    for operation in description.operations() {
        let value = operation.value;
        assert!(
            ids.insert(value["operationId"].as_str().unwrap()),
            "{operation:?}"
        );
        let parameters = value["parameters"].as_array().unwrap().iter();
        let of_path = parameters.filter(|parameter| parameter["in"] == "path");
        let named: BTreeSet<_> = of_path
            .map(|parameter| parameter["name"].as_str().unwrap())
            .collect();
        let braced = operation.path.split('{').skip(1);
        let braced: BTreeSet<_> = braced.map(|rest| rest.split('}').next().unwrap()).collect();
        assert_eq!(named, braced, "{operation:?}");
        for (status, answer) in value["responses"].as_object().unwrap() {
            assert!(
                !answer["description"].as_str().unwrap().is_empty(),
                "{status}"
            );
        }
        let anyone = value["security"] == Value::Array(Vec::new());
        assert_eq!(
            anyone,
            operation.port == Port::Operators || operation.method == "OPTIONS"
        );
    }
    let upload = &document["paths"]["/diagnosiskeys/upload"]["post"];
    let busy = &upload["responses"]["429"];
    assert!(busy["headers"]["Retry-After"].is_object(), "{busy}");
    let null = &upload["responses"]["403"]["content"]["application/json"]["examples"];
    assert!(null["no_client_certificate"]["value"]["message"].is_null());
    let subscribe = &document["paths"]["/diagnosiskeys/callback/{id}"]["put"];
    let told = &subscribe["callbacks"]["newBatch"]["{$request.query.url}"]["get"]["parameters"];
    // Wire §16.3.
    let names: Vec<_> = told
        .as_array()
        .unwrap()
        .iter()
        .map(|one| &one["name"])
        .collect();
    assert_eq!(names, ["batchTag", "date"]);
    let kind = &document["components"]["securitySchemes"]["certificate"]["type"];
    assert_eq!(kind, "mutualTLS");
}

#[tokio::test]
async fn shows_participants_a_description_whose_example_is_stored() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.proxy().await;
    let path = "/diagnosiskeys/openapi.json";
    let anonymous = format!("GET {path} HTTP/1.1\r\nHost: gateway\r\n\r\n");
    assert_eq!(raw.get(&anonymous).await.status(), 403);
    let shown = raw.get(&get(path, "DE", "")).await;
    assert_eq!(shown.status(), 200);
    let document = shown.json();
    assert!(document["paths"].get("/metrics").is_none());
    assert!(document["components"]["schemas"].get("Status").is_none());
    let upload = &document["paths"]["/diagnosiskeys/upload"]["post"];
    let text = upload["description"].as_str().unwrap();
    assert!(text.contains("in base64 once more"), "the signing rule");

    let content = &upload["requestBody"]["content"]["application/json;version=1.0"];
    let example = content["examples"]["twoKeys"]["value"].to_string();
    let tag = upload["parameters"][0]["schema"]["examples"][0]
        .as_str()
        .unwrap();
    let protobuf = to_protobuf(example.as_bytes(), 10).unwrap();
    let signed = sign_upload("DE", protobuf);
    let head = signed.head("DE", tag).replace("protobuf", "json");
    let length = format!("Content-Length: {}", signed.body.len());
    let head = head.replace(&length, &format!("Content-Length: {}", example.len()));
    let dry = head.replace("/upload ", "/upload?dryRun=true ");
    let rehearsed = raw.ask(&dry, example.as_bytes()).await;
    assert_eq!(
        (rehearsed.status(), rehearsed.header("Dry-Run")),
        (201, Some("true"))
    );
    let stored = raw.ask(&head, example.as_bytes()).await;
    assert_eq!((stored.status(), stored.header("Dry-Run")), (201, None));
    let again = raw
        .ask(&head.replace(tag, "again"), example.as_bytes())
        .await;
    assert_eq!(again.status(), 207);

    let proto = raw.get(&get("/diagnosiskeys/Efgs.proto", "DE", "")).await;
    assert_eq!(proto.body, include_bytes!("../../docs/protocol/Efgs.proto"));
    let page = raw.get(&get("/diagnosiskeys/docs", "DE", "")).await;
    assert!(String::from_utf8_lossy(&page.body).contains("fetch(\"openapi.json\")"));
}

#[tokio::test]
async fn shows_participants_nothing_that_the_operator_does_not_want_shown() {
    let gateway = Gateway::start_with(|_, server| server.describes_api = false).await;
    let mut raw = gateway.proxy().await;
    let description = Description::of(&gateway).await;
    for path in [
        "/diagnosiskeys/docs",
        "/diagnosiskeys/openapi.json",
        "/diagnosiskeys/Efgs.proto",
    ] {
        let answer = raw.get(&get(path, "DE", "")).await;
        assert_eq!(answer.json()["code"], "not_found", "{path}");
        assert!(!description.paths().any(|described| described == path));
    }
}

#[tokio::test]
async fn serves_a_page_without_external_resources() {
    let gateway = Gateway::start().await;
    let mut raw = gateway.operations().await;
    let page = raw.get("GET /docs HTTP/1.1\r\nHost: gateway\r\n\r\n").await;
    assert_eq!(
        page.header("Content-Type"),
        Some("text/html; charset=utf-8")
    );
    let text = String::from_utf8(page.body).unwrap();
    assert!(text.contains("default-src 'none'"));
    assert!(text.contains("fetch(\"openapi.json\")"));
    for external in [
        "http:",
        "https:",
        "src=",
        "url(",
        "@import",
        "<link",
        "innerHTML",
    ] {
        assert!(!text.contains(external), "{external}");
    }
}
