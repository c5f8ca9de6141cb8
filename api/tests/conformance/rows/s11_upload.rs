//! §11: every check of an upload, in its order.

use serde_json::json;

use super::{Difference, Row, Section, covered_by, differs, same};
use crate::World;
use crate::support::backend::{Upload, ask, download};
use crate::support::batch::{from_protobuf, to_protobuf};
use crate::support::pki::member;
use crate::support::raw::Request;

pub(super) const SECTION: Section = Section {
    name: "s11_upload",
    heading: "§11 Uploads",
    rows: ROWS,
    prepare: World::new,
};

const ROWS: &[Row] = &[
    same(
        "§11.1",
        "route_and_media_types",
        "path, method, `Content-Type`, `Accept`: 404, 405, 415, 406",
        |world| {
            let request = Upload::fresh(world, "DE", 1).request();
            ask(world, &request.clone().path("POST", "/diagnosiskeys/up")).expect(404);
            ask(world, &request.clone().path("PUT", "/diagnosiskeys/upload")).expect(405);
            ask(world, &request.clone().set("Content-Type", "text/xml")).expect(415);
            ask(world, &request.set("Accept", "image/png")).expect(406);
        },
    ),
    differs(
        "§11.2",
        "authentication",
        [
            "authentication (§4): 403, 400",
            "the same, but 403 where neither the thumbprint is listed nor the name has a country \
             (§4.0.4)",
            "the subject name of a stranger is not read",
        ],
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            let request = upload.plain_request();
            ask(world, &request).expect(403);
            let unknown = request.with("X-SSL-Client-SHA256", "ab".repeat(32));
            ask(world, &unknown.clone().with("X-SSL-Client-DN", "C=DE")).expect(403);
            ask(world, &unknown.with("X-SSL-Client-DN", "O=x")).expect(403);
            let nameless = upload.request().set("X-SSL-Client-DN", "O=x");
            ask(world, &nameless).expect(400);
        },
    ),
    same(
        "§11.3",
        "batch_tag_missing",
        "no `batchTag`: 400",
        |world| {
            let request = Upload::fresh(world, "DE", 1).request();
            assert_eq!(
                ask(world, &request.without("batchTag")).expect(400).code(),
                "batch_tag_missing"
            );
        },
    ),
    same(
        "§11.4",
        "batch_signature_missing",
        "no `batchSignature`: 400",
        |world| {
            let request = Upload::fresh(world, "DE", 1).request();
            let answer = ask(world, &request.without("batchSignature")).expect(400);
            assert_eq!(answer.code(), "batch_signature_missing");
        },
    ),
    differs(
        "§11.5",
        "body_empty",
        [
            "an empty body: 400",
            "in protobuf a batch without keys, in JSON 400",
            "see §5.1.2",
        ],
        |world| {
            let upload = Upload::fresh(world, "DE", 0);
            ask(world, &upload.json_request().body("")).expect(400);
            ask(world, &upload.request()).expect(201);
        },
    ),
    same(
        "§11.6",
        "version",
        "the version of the `Content-Type` (§5.1): 400, 406",
        |world| {
            let request = Upload::fresh(world, "DE", 1).request();
            ask(
                world,
                &request.clone().set("Content-Type", "application/protobuf"),
            )
            .expect(400);
            let other = request.set("Content-Type", "application/protobuf; version=3.0");
            ask(world, &other).expect(406);
        },
    ),
    same(
        "§11.7",
        "body_unreadable",
        "a body that cannot be read: 400",
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            let protobuf = upload.request().body(b"\x0a".to_vec());
            ask(world, &protobuf).expect_error(400, "Failed to read request");
            let json = upload
                .json_request()
                .body("{\"keys\":[{\"keyData\":\"#\"}]}");
            ask(world, &json).expect_error(400, "Invalid Base64 in JSON object");
        },
    ),
    same(
        "§11.8",
        "keys",
        "every key obeys the rules of §8; else 400",
        |world| {
            let mut keys = Upload::fresh(world, "DE", 3).keys;
            keys[2].rolling_period = 0;
            let answer = Upload::of(world, "DE", keys).send(world).expect(400);
            assert_eq!(answer.json()["keyIndex"], 2);
        },
    ),
    differs(
        "§11.9",
        "key_count",
        [
            "more than 5000 keys: 413 `Too many diagnosis keys`, after all were validated",
            "the same at the first key too many, before any is validated",
            "an oversized body should not cost a full parse",
        ],
        |world| {
            let upload = Upload::fresh(world, "DE", 5001);
            let message = "Too many diagnosis keys";
            upload.send(world).expect_error(413, message);
            ask(world, &upload.json_request()).expect_error(413, message);
            let most = upload.keys[..5000].to_vec();
            Upload::of(world, "DE", most).send(world).expect(201);
        },
    ),
    differs(
        "§11.10",
        "batch_tag_taken",
        [
            "a stored key of any country has this tag: 409 `BatchTag already exists.` (U-1)",
            "409 when the same country has used it for other content",
            "the documents and #246 say per country; IT's and IE's tags have no prefix",
        ],
        |world| {
            let first = Upload::fresh(world, "DE", 1).store(world);
            let second = Upload::fresh(world, "DE", 1).tagged(&first.tag);
            second
                .send(world)
                .expect_error(409, "BatchTag already exists.");
            let other = Upload::fresh(world, "IT", 1).tagged(&first.tag);
            other.send(world).expect(201);
        },
    ),
    same(
        "§11.11",
        "signature",
        "the signature (§10): 400 `Invalid signature`",
        |world| {
            let mut upload = Upload::fresh(world, "DE", 1);
            upload.signature = Upload::fresh(world, "DE", 1).signature;
            upload.send(world).expect_error(400, "Invalid signature");
        },
    ),
    same(
        "§11.12",
        "origins",
        "every origin is the country of the authentication certificate; else 400",
        |world| {
            // Signed by a certificate of IT for keys of IT, but DE uploads it.
            let upload = Upload::fresh(world, "IT", 1);
            let request = upload
                .request()
                .set("X-SSL-Client-SHA256", member("DE").authentication.hex())
                .set("X-SSL-Client-DN", "C=DE");
            let message = "One or more keys are not originated from uploader country";
            ask(world, &request).expect_error(400, message);
        },
    ),
    same(
        "§11.13",
        "transaction",
        "all keys are stored in one transaction, or none: 207 (§12)",
        |world| {
            let stored = Upload::fresh(world, "DE", 1).store(world);
            let fresh = Upload::fresh(world, "DE", 1).keys;
            let mixed = [fresh.clone(), stored.keys].concat();
            Upload::of(world, "DE", mixed).send(world).expect(207);
            Upload::of(world, "DE", fresh).send(world).expect(201);
        },
    ),
    covered_by(
        "§11.14",
        "a row of statistics in a transaction of its own; when it fails, 500 after the commit (U-4)",
        "engine/tests/retention.rs::keeps_its_promises_on_sqlite",
        Some(Difference {
            gateway: "an upload is one row of the log, and the log is what is counted; the \
                      transaction that deletes rows adds them up",
            reason: "what is counted and its count cannot disagree",
        }),
    ),
    same(
        "§11.15",
        "success",
        "201, no body, header `batchTag` as sent",
        |world| {
            for tag in ["20210601-1", "2021-6-1-Ab+/==-1", "7"] {
                let answer = Upload::fresh(world, "ES", 1)
                    .tagged(tag)
                    .send(world)
                    .expect(201);
                assert_eq!(answer.header("batchTag"), Some(tag));
                assert_eq!(
                    (answer.body.len(), answer.header("Content-Length")),
                    (0, Some("0"))
                );
            }
        },
    ),
    differs(
        "§11.16",
        "odd_tags",
        [
            "an empty tag, two tags joined with a comma, any character; beyond 64 every key is \
             reported as a duplicate (U-6)",
            "1 to 64 visible ASCII characters, else 400; of two headers the first counts",
            "the 409 of the reference misled; the tag goes into a header and a log",
        ],
        |world| {
            let request = Upload::fresh(world, "DE", 1).request();
            for tag in ["", "a b", "\u{e9}", &"x".repeat(65)] {
                let answer = ask(world, &request.clone().set("batchTag", tag)).expect(400);
                assert_eq!(answer.code(), "batch_tag_invalid", "{tag:?}");
            }
            let longest = "y".repeat(64);
            let answer = ask(
                world,
                &request.set("batchTag", &longest).with("batchTag", "z"),
            );
            assert_eq!(
                answer.expect(201).header("batchTag"),
                Some(longest.as_str())
            );
        },
    ),
    differs(
        "§11.17",
        "long_values",
        [
            "a signature over 8000 characters, or many countries: every key is reported as a \
             duplicate (U-6)",
            "stored up to 96 countries of two letters; beyond, and a signature beyond 24 KiB: 400",
            "larger certificates and chains are asked for (#49, #276, #277); a key that the \
             reference cannot store is refused for what it is",
        ],
        |world| {
            let mut keys = Upload::fresh(world, "DE", 1).keys;
            keys[0].visited = vec!["FR".to_owned(); 96];
            Upload::of(world, "DE", keys).send(world).expect(201);
            let mut keys = Upload::fresh(world, "DE", 1).keys;
            keys[0].visited = vec!["FR".to_owned(); 97];
            let refused = Upload::of(world, "DE", keys).send(world).expect(400).json();
            assert_eq!(refused["reason"], "countries_length");
            assert_eq!(refused["keyIndex"], 0);
            let mut upload = Upload::fresh(world, "DE", 1);
            upload.signature = "A".repeat(33 << 10);
            assert_eq!(
                upload.send(world).expect(400).json()["reason"],
                "malformed_cms"
            );
        },
    ),
    differs(
        "§11.18",
        "batch_without_keys",
        [
            "a batch without keys: 201, nothing is stored, the tag stays free (U-5)",
            "201, and the tag is used",
            "an answer that says stored should have a trace",
        ],
        |world| {
            let empty = Upload::fresh(world, "DE", 0).store(world);
            empty.send(world).expect(201);
            Upload::fresh(world, "DE", 1)
                .tagged(&empty.tag)
                .send(world)
                .expect(409);
        },
    ),
    differs(
        "§11.19",
        "probing_for_tags",
        [
            "any participant can find out which tags the others used, without a valid signature",
            "only its own",
            "tags are per country",
        ],
        |world| {
            let stored = Upload::fresh(world, "DE", 1).store(world);
            let mut probe = Upload::fresh(world, "IT", 1).tagged(&stored.tag);
            probe.signature = "AAAA".to_owned();
            probe.send(world).expect_error(400, "Invalid signature");
        },
    ),
    differs(
        "§11.20",
        "tags_as_exact_bytes",
        [
            "the database's collation may ignore letter case and trailing blanks",
            "tags are compared as exact bytes",
            "DE's tags contain base64",
        ],
        |world| {
            Upload::fresh(world, "DE", 1)
                .tagged("2021-aB")
                .send(world)
                .expect(201);
            Upload::fresh(world, "DE", 1)
                .tagged("2021-Ab")
                .send(world)
                .expect(201);
        },
    ),
    covered_by(
        "§11.21",
        "two simultaneous uploads with one tag both succeed and become one (U-2)",
        "api/tests/conformance/scenarios/uploads.rs::stores_one_of_two_simultaneous_uploads_with_one_tag",
        Some(Difference {
            gateway: "one is stored, the other gets 409",
            reason: "country and tag are unique in the database",
        }),
    ),
    differs(
        "§11.22",
        "retry_after_a_lost_answer",
        [
            "the same upload again: 409 (U-3)",
            "same country, tag and content: 201 again",
            "a client whose answer was lost must not take it for an error; NL repeats for ever",
        ],
        |world| {
            let upload = Upload::fresh(world, "NL", 3).store(world);
            let again = upload.send(world).expect(201);
            assert_eq!(again.header("batchTag"), Some(upload.tag.as_str()));
            // A new signature and another order: still the same content.
            let mut keys = upload.keys.clone();
            keys.reverse();
            Upload::of(world, "NL", keys)
                .tagged(&upload.tag)
                .send(world)
                .expect(201);
            let other = Upload::of(world, "NL", upload.keys).send(world).expect(207);
            assert_eq!(other.json()["409"], json!([0, 1, 2]));
        },
    ),
    same(
        "§11.23",
        "order_is_kept",
        "keys are stored in request order",
        |world| {
            let upload = Upload::fresh(world, "DE", 7).store(world);
            let tag = world.cut();
            let answer = download(world, "IT", &world.today(), Some(&tag)).expect(200);
            let keys = from_protobuf(&answer.body);
            assert!(keys.windows(7).any(|window| window == upload.keys));
        },
    ),
    same(
        "§11.24",
        "header_names_in_any_case",
        "header names in any letter case",
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            let request = Request::new("POST", "/diagnosiskeys/upload")
                .with("x-ssl-client-sha256", member("DE").authentication.hex())
                .with("X-SSL-CLIENT-DN", "C=DE")
                .with("content-type", "application/protobuf; version=1.0")
                .with("BATCHTAG", &upload.tag)
                .with("Batchsignature", &upload.signature)
                .body(to_protobuf(&upload.keys));
            ask(world, &request).expect(201);
        },
    ),
    differs(
        "§11.25",
        "two_batch_tag_headers",
        [
            "two `batchTag` headers are joined with a comma",
            "the first counts",
            "no client sends two; the first counts of every other header, too",
        ],
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            let request = upload.request().with("batchTag", "second");
            let answer = ask(world, &request).expect(201);
            assert_eq!(answer.header("batchTag"), Some(upload.tag.as_str()));
            Upload::fresh(world, "DE", 1)
                .tagged("second")
                .send(world)
                .expect(201);
        },
    ),
    differs(
        "§11.26",
        "dry_run",
        [
            "parameters of the query are passed over: `?dryRun=true` stores",
            "`?dryRun=true` answers as the upload would, with the header `Dry-Run: true`, and stores \
             nothing; a value that is neither true nor false is 400",
            "a signer can be tried against the gateway that it will serve (decision 34)",
        ],
        |world| {
            let path = "/diagnosiskeys/upload?dryRun=true";
            let rehearse = |upload: &Upload, status| {
                let request = upload.request().path("POST", path);
                let answer = ask(world, &request).expect(status);
                assert_eq!(answer.header("Dry-Run"), Some("true"));
                answer
            };
            let upload = Upload::fresh(world, "DE", 2);
            let answer = rehearse(&upload, 201);
            assert_eq!(answer.header("batchTag"), Some(upload.tag.as_str()));
            // Neither the tag nor the keys are taken.
            let other = Upload::fresh(world, "DE", 1).tagged(&upload.tag);
            rehearse(&other, 201);
            let upload = upload.store(world);
            rehearse(&upload, 201);
            let again = rehearse(&upload.clone().tagged("another"), 207);
            assert_eq!(again.json()["409"], json!([0, 1]));
            rehearse(&other, 409);
            let mut broken = Upload::fresh(world, "DE", 1);
            broken.signature = upload.signature;
            let answer = rehearse(&broken, 400);
            assert_eq!(answer.json()["reason"], "digest_mismatch");
            let misspelled = other
                .request()
                .path("POST", "/diagnosiskeys/upload?dryrun=1");
            assert_eq!(
                ask(world, &misspelled).expect(400).code(),
                "dry_run_invalid"
            );
            let stored = Upload::fresh(world, "DE", 1);
            let real = stored
                .request()
                .path("POST", "/diagnosiskeys/upload?dryRun=false");
            assert_eq!(ask(world, &real).expect(201).header("Dry-Run"), None);
        },
    ),
];
