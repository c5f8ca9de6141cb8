//! §2: error bodies.

use super::{Row, Section, differs, same};
use crate::World;
use crate::support::backend::{Upload, ask, audit, download, download_request};
use crate::support::raw::Request;

pub(super) const SECTION: Section = Section {
    name: "s02_errors",
    heading: "§2 Error bodies",
    rows: ROWS,
    prepare: World::new,
};

const ONE_SHAPE: &str = "the shape of releases up to 1.0.15 everywhere: `application/json` with \
    `message`, and a `code` beside it";
const CLIENTS: &str = "every client was written against that shape; DK and NO compare a message";

const ROWS: &[Row] = &[
    same(
        "§2.1",
        "message",
        "up to 1.0.15 every deliberate failure is `application/json` with \
         `{\"message\":\"<reason>\"}`, null when there is no reason",
        |world| {
            let answer = download(world, "DE", "2021-05-01", None);
            answer.expect_error(410, "Requested date is too old!");
            let unauthenticated = ask(world, &Request::get("/diagnosiskeys/download/2021-06-01"));
            assert!(unauthenticated.expect(403).json()["message"].is_null());
        },
    ),
    differs(
        "§2.2",
        "problem",
        [
            "from 1.0.16 deliberate failures are `application/problem+json` without `message`",
            ONE_SHAPE,
            CLIENTS,
        ],
        |world| {
            let unknown = download(world, "DE", "2021-06-01", Some("20210601-9"));
            unknown.expect_error(404, "Could not find batch with given BatchTag");
            let upload = Upload::fresh(world, "DE", 1);
            let request = upload.request().set("batchSignature", "AAAA");
            ask(world, &request).expect_error(400, "Invalid signature");
        },
    ),
    differs(
        "§2.3",
        "framework_failures",
        [
            "failures of the framework have an empty body up to 1.0.15",
            ONE_SHAPE,
            "one shape is simpler to read, and no client looks at the body of these",
        ],
        |world| {
            let upload = Upload::fresh(world, "DE", 1).request();
            let missing = ask(world, &upload.clone().without("batchTag"));
            missing.expect_error(400, "Required header 'batchTag' is not present.");
            let missing = ask(world, &upload.without("batchSignature"));
            missing.expect_error(400, "Required header 'batchSignature' is not present.");
        },
    ),
    same(
        "§2.4",
        "bad_date",
        "a bad date: `Failed to convert 'date' with value: '…'`",
        |world| {
            let answer = download(world, "DE", "01.06.2021", None);
            answer.expect_error(400, "Failed to convert 'date' with value: '01.06.2021'");
        },
    ),
    same(
        "§2.5",
        "unreadable_body",
        "an unreadable body: `Failed to read request`",
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            let request = upload.request().body(b"\x0a\x7f".to_vec());
            ask(world, &request).expect_error(400, "Failed to read request");
        },
    ),
    differs(
        "§2.6",
        "unsupported_media_type",
        [
            "415: `Content-Type '…' is not supported.`, and an `Accept` header that lists what is",
            "415 with the header, and a message that names what is supported",
            "nothing that was sent is repeated",
        ],
        |world| {
            let request = Upload::fresh(world, "DE", 1).request();
            let answer = ask(world, &request.set("Content-Type", "text/plain"));
            let message = "Content-Type must be application/protobuf or application/json";
            let answer = answer.expect_error(415, message);
            let listed = "application/protobuf, application/json";
            assert_eq!(answer.header("Accept"), Some(listed));
        },
    ),
    same(
        "§2.7",
        "not_acceptable",
        "406: `Acceptable representations: […]`, and an `Accept` header",
        |world| {
            let request = download_request("DE", "2021-06-01").set("Accept", "text/html");
            let answer = ask(world, &request).expect(406);
            assert!(
                answer
                    .message()
                    .starts_with("Acceptable representations: [")
            );
            assert!(answer.header("Accept").is_some());
        },
    ),
    same(
        "§2.8",
        "method_not_allowed",
        "405 carries `Allow`",
        |world| {
            let request = Request::new("DELETE", "/diagnosiskeys/upload");
            let answer = ask(world, &request).expect(405);
            assert_eq!(answer.header("Allow"), Some("POST,OPTIONS"));
        },
    ),
    differs(
        "§2.9",
        "authentication_failures",
        [
            "from 1.0.16 a failure of authentication is problem JSON labelled `application/json`, \
             or on downloads as protobuf an empty body",
            ONE_SHAPE,
            CLIENTS,
        ],
        |world| {
            let request = download_request("DE", "2021-06-01").set("X-SSL-Client-DN", "C=IT");
            let answer = ask(world, &request);
            answer.expect_error(403, "Client is not authorized to access the service");
        },
    ),
    differs(
        "§2.10",
        "no_batches_message",
        [
            "from 1.0.16 the 404 of a day without batches has no `message`",
            "`message` is `Could not find any batches for given date`",
            "DK and NO compare it literally: their job fails without it",
        ],
        |world| {
            let answer = download(world, "DK", "2021-06-01", None);
            answer.expect_error(404, "Could not find any batches for given date");
        },
    ),
    same(
        "§2.11",
        "no_batch_tag_and_no_html",
        "errors carry no `batchTag` header (PL takes its absence for \"no data\")",
        |world| {
            let taken = Upload::fresh(world, "DE", 1).store(world);
            let other = Upload::fresh(world, "DE", 1).tagged(&taken.tag);
            let errors = [
                other.send(world).expect(409),
                download(world, "DE", "2021-06-01", Some("20210601-9")),
                audit(world, "DE", "2021-06-01", "20210601-9"),
                ask(world, &Request::get("/")),
                ask(
                    world,
                    &Upload::fresh(world, "DE", 1)
                        .request()
                        .without("batchSignature"),
                ),
            ];
            for answer in errors {
                assert!(answer.status >= 400, "{answer:?}");
                assert_eq!(answer.any_case("batchTag"), None, "{answer:?}");
                assert_eq!(answer.header("Content-Type"), Some("application/json"));
            }
        },
    ),
    differs(
        "§2.12",
        "requests_that_are_not_http",
        [
            "what is not HTTP, or has too long headers: 400 with HTML of the container",
            "400 or 431 with an empty body, and the connection is closed",
            "the HTTP library answers before there is a request; no client sends such",
        ],
        |world| {
            for request in [
                "GET / HTTP/1.1\r\nno header\r\n\r\n",
                "POST /diagnosiskeys/upload HTTP/1.1\r\nContent-Length: -1\r\n\r\n",
                "\u{16}\u{3}\u{1} TLS?\r\n\r\n",
            ] {
                let mut raw = world.proxy();
                raw.send(request);
                let answer = raw.answer(false).expect(400);
                assert!(answer.body.is_empty(), "{answer:?}");
                raw.until_closed();
            }
        },
    ),
];
