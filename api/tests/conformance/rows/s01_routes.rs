//! §1: paths and their methods.

use super::{Row, Section, differs, same};
use crate::World;
use crate::support::backend::{Upload, ask, audit, download, download_request, identify};
use crate::support::raw::Request;
use crate::support::world::{Databases, Kind};

pub(super) const SECTION: Section = Section {
    name: "s01_routes",
    heading: "§1 Routes",
    rows: ROWS,
    prepare,
};

fn prepare(databases: &Databases, kind: Kind) -> World {
    let world = World::new(databases, kind);
    Upload::fresh(&world, "DE", 2).store(&world);
    world.cut();
    world
}

// Rows 5 to 7 of the first table, the callbacks, are with §16.
const ROWS: &[Row] = &[
    same(
        "§1.0.1",
        "options_of_the_service",
        "`OPTIONS /diagnosiskeys` needs no authentication: 200, no body",
        |world| {
            let answer = ask(world, &Request::new("OPTIONS", "/diagnosiskeys")).expect(200);
            assert!(answer.body.is_empty());
        },
    ),
    same(
        "§1.0.2",
        "upload",
        "`POST /diagnosiskeys/upload` takes protobuf and JSON: 201 without body, 207 with JSON",
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            assert!(upload.send(world).expect(201).body.is_empty());
            let upload = upload.tagged("another");
            let answer = ask(world, &upload.json_request()).expect(207);
            assert_eq!(answer.json()["409"], serde_json::json!([0]));
            let upload = Upload::fresh(world, "DE", 1);
            ask(world, &upload.json_request()).expect(201);
        },
    ),
    same(
        "§1.0.3",
        "download",
        "`GET /diagnosiskeys/download/{date}` gives protobuf or JSON: 200",
        |world| {
            let request = download_request("IT", "2021-06-01");
            let answer = ask(world, &request).expect(200);
            assert_eq!(answer.body[0], 0x0a, "a key in protobuf");
            let json = request.set("Accept", "application/json; version=1.0");
            assert!(ask(world, &json).expect(200).json()["keys"].is_array());
        },
    ),
    same(
        "§1.0.4",
        "audit",
        "`GET /diagnosiskeys/audit/download/{date}/{batchTag}` gives JSON: 200",
        |world| {
            let answer = audit(world, "IT", "2021-06-01", "20210601-1").expect(200);
            assert!(answer.json().is_array());
        },
    ),
    same(
        "§1.0.8",
        "everything_else",
        "everything else: 404",
        |world| {
            for path in [
                "/",
                "/diagnosiskeys/uploads",
                "/metrics",
                "/health",
                "/swagger-ui.html",
            ] {
                ask(world, &Request::get(path)).expect_error(404, "Not Found");
            }
        },
    ),
    differs(
        "§1.0.9",
        "trailing_slash",
        [
            "a trailing slash: 404 since 1.0.16, as without it before",
            "as without it",
            "FI posts to `…/upload/`",
        ],
        |world| {
            let upload = Upload::fresh(world, "FI", 1);
            let request = upload.request().path("POST", "/diagnosiskeys/upload/");
            ask(world, &request).expect(201);
            let path = "/diagnosiskeys/download/2021-06-01/";
            let request = download_request("IT", "").path("GET", path);
            ask(world, &request).expect(200);
        },
    ),
    differs(
        "§1.0.9a",
        "several_slashes",
        [
            "several slashes in a row: 404 in 1.1.3, joined into one up to 1.0.15",
            "they are one",
            "IT, NL, CH and IE put paths behind a base URL that may end in one (O-1)",
        ],
        |world| {
            for path in ["//diagnosiskeys/upload", "/diagnosiskeys//upload//"] {
                let upload = Upload::fresh(world, "NL", 1);
                let request = upload.request().path("POST", path);
                ask(world, &request).expect(201);
            }
            for path in [
                "/diagnosiskeys//download/2021-06-01",
                "//diagnosiskeys/audit//download/2021-06-01//20210601-1",
                "//diagnosiskeys/callback",
            ] {
                ask(world, &identify(Request::get(path), "IT")).expect(200);
            }
            // Two slashes do not enclose an empty date.
            for path in [
                "//",
                "//metrics",
                "/diagnosiskeys//uploads",
                "/diagnosiskeys/download//",
                "/diagnosiskeys/audit/download//20210601-1",
            ] {
                ask(world, &Request::get(path)).expect_error(404, "Not Found");
            }
            let request = identify(Request::new("POST", "//diagnosiskeys/callback"), "IT");
            ask(world, &request).expect_error(405, "Method Not Allowed");
        },
    ),
    differs(
        "§1.0.12",
        "description",
        [
            "Swagger's page and document, open to anyone",
            "`GET /diagnosiskeys/docs`, `/openapi.json` and `/Efgs.proto` beside it, for participants; \
             404 with `[api] shown_to_participants = false`",
            "who builds a client reads what this gateway does",
        ],
        |world| {
            for (file, starts) in [
                ("docs", "<!doctype html>"),
                ("openapi.json", "{"),
                ("Efgs.proto", "syntax = \"proto3\";"),
            ] {
                let request = Request::get(&format!("/diagnosiskeys/{file}"));
                ask(world, &request).expect(403);
                let answer = ask(world, &identify(request, "IT")).expect(200);
                let text = String::from_utf8_lossy(&answer.body).into_owned();
                assert!(text.contains(starts), "{file}");
            }
        },
    ),
    differs(
        "§1.0.10",
        "head",
        [
            "`HEAD` on a GET route runs the GET, with authentication, and drops the body",
            "the same, but on a download it reads no keys: `Content-Length` is there only when the \
             bundle is in memory",
            "a header must not cost what a batch costs",
        ],
        |world| {
            let get = download(world, "IT", "2021-06-01", Some("20210601-1")).expect(200);
            let path = "/diagnosiskeys/download/2021-06-01";
            let head = download_request("IT", "").path("HEAD", path);
            let head = head.with("batchTag", "20210601-1");
            let answer = ask(world, &head).expect(200);
            for name in ["batchTag", "Content-Type", "Content-Length"] {
                assert_eq!(answer.header(name), get.header(name), "{name}");
            }
            ask(world, &Request::new("HEAD", path)).expect(403);
        },
    ),
    same(
        "§1.0.11",
        "options_elsewhere",
        "`OPTIONS` on any other path: 200 with `Allow`, no authentication",
        |world| {
            for (path, allow) in [
                ("/diagnosiskeys/upload", "POST,OPTIONS"),
                ("/diagnosiskeys/download/2021-06-01", "GET,HEAD,OPTIONS"),
                (
                    "/diagnosiskeys/audit/download/2021-06-01/x",
                    "GET,HEAD,OPTIONS",
                ),
            ] {
                let answer = ask(world, &Request::new("OPTIONS", path)).expect(200);
                assert_eq!(answer.header("Allow"), Some(allow));
            }
        },
    ),
    same(
        "§1.1.1",
        "capabilities",
        "`OPTIONS /diagnosiskeys`: `Allow: POST,GET,OPTIONS` in that order, and a response header \
         `Accept` that names both formats",
        |world| {
            let answer = ask(world, &Request::new("OPTIONS", "/diagnosiskeys")).expect(200);
            assert_eq!(answer.header("Allow"), Some("POST,GET,OPTIONS"));
            let formats = "application/json; version=1.0, application/protobuf; version=1.0";
            assert_eq!(answer.header("Accept"), Some(formats));
        },
    ),
    same(
        "§1.1.2",
        "get_of_the_service",
        "`GET /diagnosiskeys`: 405",
        |world| {
            let request = identify(Request::get("/diagnosiskeys"), "DE");
            let answer = ask(world, &request).expect_error(405, "Method Not Allowed");
            assert!(answer.header("Allow").is_some());
        },
    ),
];
