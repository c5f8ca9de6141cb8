//! §5: media types and versions.

use super::{Row, Section, differs, same};
use crate::World;
use crate::support::backend::{JSON, PROTOBUF, Upload, ask, audit_request, download_request};
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind};

pub(super) const SECTION: Section = Section {
    name: "s05_negotiation",
    heading: "§5 Content negotiation",
    rows: ROWS,
    prepare,
};

fn prepare(databases: &Databases, kind: Kind) -> World {
    let world = World::new(databases, kind);
    Upload::fresh(&world, "DE", 1).store(&world);
    world.cut();
    world
}

/// Uploads with this `Content-Type`.
fn upload_as(world: &World, content_type: &str) -> Answer {
    let request = Upload::fresh(world, "DE", 1).request();
    ask(world, &request.set("Content-Type", content_type))
}

/// Uploads with this `Accept`.
fn upload_accepting(world: &World, accept: &str) -> Answer {
    let request = Upload::fresh(world, "DE", 1).request();
    ask(world, &request.set("Accept", accept))
}

/// Downloads the one batch with this `Accept`.
fn download_as(world: &World, accept: &str) -> Answer {
    ask(
        world,
        &download_request("IT", "2021-06-01").set("Accept", accept),
    )
}

const SHAPE: &str = "Version can just contain a major and minor version splitted by a dot!";
const NUMBER: &str = "Given version string has an invalid number format!";
const INCOMPATIBLE: &str = "Protocol version is not compatible!";
const REQUIRED: &str = "Version parameter of Content-Type is required!";

const PROTOBUF_ANSWER: &str = "application/protobuf;version=1.0";
const JSON_ANSWER: &str = "application/json;version=1.0";

const ROWS: &[Row] = &[
    same(
        "§5.0.1",
        "equal_versions_only",
        "compatible means major and minor equal",
        |world| {
            upload_as(world, "application/protobuf; version=1.0").expect(201);
            for version in ["0.1", "1.1", "0.0", "2.0"] {
                let content_type = format!("application/protobuf; version={version}");
                upload_as(world, &content_type).expect_error(406, INCOMPATIBLE);
            }
        },
    ),
    same(
        "§5.0.2",
        "two_integers_and_a_dot",
        "a version is two decimal integers and one dot; `01.0` and `+1.0` are 1.0",
        |world| {
            for version in ["01.0", "+1.0", "1.00"] {
                upload_as(world, &format!("application/protobuf; version={version}")).expect(201);
            }
        },
    ),
    same(
        "§5.1.1",
        "other_types",
        "neither protobuf nor JSON, missing or unparsable: 415",
        |world| {
            for content_type in ["text/plain", "application/octet-stream", "nonsense", ""] {
                upload_as(world, content_type).expect(415);
            }
            let request = Upload::fresh(world, "DE", 1)
                .request()
                .without("Content-Type");
            ask(world, &request).expect(415);
        },
    ),
    differs(
        "§5.1.2",
        "empty_body",
        [
            "a body of zero length: 400, also where it is a batch without keys",
            "in protobuf it is a batch without keys, 201 when the signature covers zero bytes; in \
             JSON 400",
            "FI sends it after a 207 in which every key was a duplicate, and repeats it for ever \
             on the 400",
        ],
        |world| {
            let empty = Upload::fresh(world, "FI", 0);
            ask(world, &empty.json_request().body("")).expect_error(400, "Failed to read request");
            empty.send(world).expect(201);
        },
    ),
    same("§5.1.3", "no_version", "no `version`: 400", |world| {
        upload_as(world, "application/protobuf").expect_error(400, REQUIRED);
        upload_as(world, "application/json; charset=utf-8").expect_error(400, REQUIRED);
    }),
    same(
        "§5.1.4",
        "malformed_version",
        "a malformed version: 400",
        |world| {
            for version in ["1", "1.0.0", "v1"] {
                let content_type = format!("application/protobuf; version={version}");
                upload_as(world, &content_type).expect_error(400, SHAPE);
            }
            for version in ["1.x", "1.", "a.b"] {
                let content_type = format!("application/protobuf; version={version}");
                upload_as(world, &content_type).expect_error(400, NUMBER);
            }
        },
    ),
    same("§5.1.5", "other_version", "another version: 406", |world| {
        upload_as(world, "application/json; version=2.0").expect_error(406, INCOMPATIBLE);
    }),
    differs(
        "§5.1.6",
        "forms",
        [
            "other parameters, any letter case, blanks around `;`: taken; a quoted version: 400; \
             blanks around `/` or `=`: 415",
            "all of them are taken",
            "a quoted value is standard, and DK and NO write blanks that only their library removes",
        ],
        |world| {
            for content_type in [
                "application/protobuf;version=1.0",
                "application/protobuf; charset=utf-8; version=1.0",
                "Application/Protobuf; Version=1.0",
                "application / protobuf ; version = 1.0",
                "application/protobuf; version=\"1.0\"",
            ] {
                upload_as(world, content_type).expect(201);
            }
        },
    ),
    differs(
        "§5.1.7",
        "encoded_body",
        [
            "`Content-Encoding` is not looked at: 400, because the body cannot be parsed",
            "415, with an `Accept-Encoding` header that lists what is supported",
            "the sender is told what is wrong (RFC 9110 §15.5.16)",
        ],
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            let request = upload.request();
            for encoding in ["gzip", "br, gzip", "identity, gzip"] {
                let answer = ask(world, &request.clone().with("Content-Encoding", encoding));
                let answer = answer.expect_error(415, "The body must not be encoded");
                assert_eq!(answer.header("Accept-Encoding"), Some("identity"));
                assert_eq!(answer.code(), "unsupported_content_encoding");
            }
            ask(world, &request.with("Content-Encoding", "identity")).expect(201);
        },
    ),
    same(
        "§5.2.1",
        "accept_of_json_answers",
        "uploads and audits answer in JSON if the request accepts it in any way, `*` for `*/*` included; its \
         version is not looked at",
        |world| {
            let audit = audit_request("IT", "2021-06-01", "20210601-1");
            for accept in [
                "*/*",
                "application/*",
                "application/json",
                "application/json; version=7",
                "text/plain, */*",
                "application/json, text/plain, */*",
                "application/octet-stream, */*",
                "*; q=.2",
                "text/html, image/gif, image/jpeg, *; q=.2, */*; q=.2",
            ] {
                upload_accepting(world, accept).expect(201);
                ask(world, &audit.clone().set("Accept", accept)).expect(200);
            }
            let upload = Upload::fresh(world, "DE", 1).request();
            ask(world, &upload.without("Accept")).expect(201);
            ask(world, &audit.without("Accept")).expect(200);
        },
    ),
    same(
        "§5.2.2",
        "accept_without_json",
        "uploads and audits: 406 if the request does not accept JSON",
        |world| {
            upload_accepting(world, "application/protobuf; version=1.0").expect(406);
            let audit = audit_request("IT", "2021-06-01", "20210601-1");
            ask(world, &audit.set("Accept", "text/html")).expect(406);
        },
    ),
    differs(
        "§5.2.3",
        "type_of_json_answers",
        [
            "the `Content-Type` of such an answer repeats the accepted range with its parameters",
            "`application/json;version=1.0` if the request asks for that version, else `application/json`",
            "nothing that was sent is repeated",
        ],
        |world| {
            let audit = audit_request("IT", "2021-06-01", "20210601-1");
            for (accept, answered) in [
                ("application/json; version=1.0", JSON_ANSWER),
                ("application/json; version=7; x=y", "application/json"),
                ("*/*", "application/json"),
            ] {
                let answer = ask(world, &audit.clone().set("Accept", accept)).expect(200);
                assert_eq!(answer.header("Content-Type"), Some(answered));
            }
        },
    ),
    same(
        "§5.2.4",
        "download_as_protobuf",
        "`application/protobuf; version=1.0`: 200, `application/protobuf;version=1.0`",
        |world| {
            let answer = download_as(world, PROTOBUF).expect(200);
            assert_eq!(answer.header("Content-Type"), Some(PROTOBUF_ANSWER));
        },
    ),
    same(
        "§5.2.5",
        "download_as_json",
        "`application/json; version=1.0`: 200, `application/json;version=1.0`",
        |world| {
            let answer = download_as(world, JSON).expect(200);
            assert_eq!(answer.header("Content-Type"), Some(JSON_ANSWER));
        },
    ),
    differs(
        "§5.2.6",
        "download_without_version",
        [
            "absent, `*/*`, `application/*` or a type without version: 415, after everything was \
             done (N-1)",
            "version 1.0, protobuf when both fit",
            "no client can rely on the error",
        ],
        |world| {
            let request = download_request("IT", "2021-06-01");
            for (accept, answered) in [
                (None, PROTOBUF_ANSWER),
                (Some("*/*"), PROTOBUF_ANSWER),
                (Some("*; q=.2"), PROTOBUF_ANSWER),
                (Some("application/*;version=1.0"), PROTOBUF_ANSWER),
                (Some("application/protobuf"), PROTOBUF_ANSWER),
                (Some("application/json"), JSON_ANSWER),
            ] {
                let request = match accept {
                    Some(accept) => request.clone().set("Accept", accept),
                    None => request.clone().without("Accept"),
                };
                let answer = ask(world, &request).expect(200);
                assert_eq!(answer.header("Content-Type"), Some(answered), "{accept:?}");
            }
        },
    ),
    differs(
        "§5.2.7",
        "download_of_another_version",
        [
            "a version that differs or is malformed: 415, after everything was done",
            "406, before anything is done",
            "the reference's documents promise 406; NL stops on it and repeats on others",
        ],
        |world| {
            download_as(world, "application/protobuf; version=1.1").expect_error(406, INCOMPATIBLE);
            download_as(world, "application/json; version=1").expect_error(406, SHAPE);
        },
    ),
    same(
        "§5.2.8",
        "download_as_html",
        "a type that is not given: 406",
        |world| {
            download_as(world, "text/html").expect(406);
            download_as(world, "nonsense").expect(406);
        },
    ),
    differs(
        "§5.2.9",
        "download_with_several_ranges",
        [
            "of several ranges the client's order by specificity, then q; a chosen range's other \
             parameters are repeated",
            "the same order; nothing is repeated",
            "nothing that was sent is repeated",
        ],
        |world| {
            for (accept, answered) in [
                ("*/*, application/json; version=1.0", JSON_ANSWER),
                (
                    "application/protobuf; version=1.0; q=0.5, application/json; version=1.0; q=0.9",
                    JSON_ANSWER,
                ),
                (
                    "application/protobuf; version=1.0; charset=x, application/json; version=1.0",
                    PROTOBUF_ANSWER,
                ),
            ] {
                let answer = download_as(world, accept).expect(200);
                assert_eq!(answer.header("Content-Type"), Some(answered), "{accept}");
            }
        },
    ),
    same(
        "§5.2.10",
        "schema_headers",
        "a download carries `X-Protobuf-Schema` and `X-Protobuf-Message`",
        |world| {
            let answer = download_as(world, PROTOBUF).expect(200);
            assert_eq!(answer.header("X-Protobuf-Schema"), Some("Efgs.proto"));
            let message = answer.header("X-Protobuf-Message");
            assert_eq!(message, Some("eu.interop.DiagnosisKeyBatch"));
        },
    ),
];
