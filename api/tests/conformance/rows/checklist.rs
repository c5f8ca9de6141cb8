//! The compatibility checklist, derived from eleven clients.

use super::{Row, Section, covered_by, same};
use crate::World;
use crate::support::backend::{
    Backend, JSON, PROTOBUF, Upload, ask, audit_request, download, download_request,
};
use crate::support::batch::{from_json, key_to_json, to_protobuf};
use crate::support::cms::{
    BOUNCY_CASTLE, BOUNCY_CASTLE_CSHARP, BOUNCY_CASTLE_PSS, JSRSASIGN, MOZILLA, SERVICE,
};
use crate::support::pki::member;
use crate::support::raw::Request;
use crate::support::world::{Databases, Kind};

pub(super) const SECTION: Section = Section {
    name: "checklist",
    heading: "(a) Checklist drawn from the clients",
    rows: ROWS,
    prepare,
};

fn prepare(databases: &Databases, kind: Kind) -> World {
    let world = World::new(databases, kind);
    Upload::fresh(&world, "DE", 3).store(&world);
    world.cut();
    world
}

const TODAY: &str = "2021-06-01";
const FIRST: &str = "20210601-1";

const ROWS: &[Row] = &[
    same(
        "(a).1",
        "transport",
        "HTTP/1.1 with keep-alive; headers from 16 KB, bodies of 8 MB; gzip optional",
        |world| {
            let mut backend = Backend::connect(world, "ES");
            backend.store(1);
            let upload = Upload::fresh(world, "ES", 1);
            let padded = upload
                .plain_request()
                .with("X-Padding", "x".repeat(16 << 10));
            backend.raw.ask(padded.bytes()).expect(201);
            let upload = Upload::fresh(world, "ES", 1);
            let mut body = to_protobuf(&upload.keys);
            // An unknown field fills the body up to 8 MiB.
            let filler = (8 << 20) - body.len() - 5;
            crate::support::batch::field(&mut body, 9, &vec![0; filler]);
            assert_eq!(body.len(), 8 << 20);
            let request = upload.plain_request().body(body);
            let answer = backend
                .raw
                .ask(request.with("Accept-Encoding", "gzip,deflate").bytes());
            answer.expect(201);
            backend.download(TODAY, Some(FIRST), PROTOBUF).expect(200);
        },
    ),
    same(
        "(a).2",
        "header_names",
        "request headers in any letter case; `batchTag` and `nextBatchTag` in answers spelled so",
        |world| {
            for name in ["batchTag", "BatchTag", "Batchtag", "batchtag", "BATCHTAG"] {
                let upload = Upload::fresh(world, "NL", 1);
                let request = upload.request().without("batchTag").with(name, &upload.tag);
                let answer = ask(world, &request).expect(201);
                assert!(answer.head.contains("\r\nbatchTag: "), "{answer:?}");
                let request = download_request("NL", TODAY).with(name, FIRST);
                let answer = ask(world, &request).expect(200);
                assert!(
                    answer.head.contains("\r\nbatchTag: 20210601-1\r\n"),
                    "{answer:?}"
                );
                assert!(answer.head.contains("\r\nnextBatchTag: "), "{answer:?}");
            }
        },
    ),
    same(
        "(a).3",
        "odd_requests",
        "a `Content-Type` on a GET is ignored; `POST …/upload/` is `POST …/upload`",
        |world| {
            let request = download_request("NL", TODAY).with("Content-Type", "text/nonsense");
            ask(world, &request).expect(200);
            let upload = Upload::fresh(world, "FI", 1).request();
            ask(world, &upload.path("POST", "/diagnosiskeys/upload/")).expect(201);
        },
    ),
    same(
        "(a).4",
        "accept",
        "the `Accept` of every client: absent, `*/*`, lists, JSON with or without version; on \
         downloads with version, or version 1.0",
        |world| {
            let audit = audit_request("IT", TODAY, FIRST).without("Accept");
            let upload = |accept: &str| {
                let request = Upload::fresh(world, "IT", 1).request();
                ask(world, &request.set("Accept", accept)).expect(201);
                ask(world, &audit.clone().with("Accept", accept)).expect(200);
            };
            upload("*/*");
            upload("text/plain, */*");
            upload("application/json, text/plain, */*");
            upload("application/octet-stream, */*");
            upload("application/json");
            upload("application/json; version=1.0");
            ask(world, &audit).expect(200);
            for accept in [PROTOBUF, JSON, "application/json", "*/*"] {
                ask(world, &download_request("IT", TODAY).set("Accept", accept)).expect(200);
            }
        },
    ),
    same(
        "(a).5",
        "media_types",
        "blanks in media types and quoted parameter values are taken (the reference refuses them, \
         §5.1.6)",
        |world| {
            let upload = Upload::fresh(world, "DK", 1).request();
            let content_type = "application / protobuf; version = \"1.0\"";
            ask(world, &upload.set("Content-Type", content_type)).expect(201);
            let accept = "application / json; version = 1.0";
            let request = download_request("DK", TODAY).set("Accept", accept);
            from_json(&ask(world, &request).expect(200).body);
        },
    ),
    same(
        "(a).6",
        "identity_headers",
        "thumbprints in hex of any case, shortened hex, base64, URL-encoded base64; names in \
         either order, with blanks, percent-encoded, just `C=XX`; the country of the row",
        |world| {
            let identity = &member("CZ").authentication;
            let encoded = identity.base64().replace('+', "%2b").replace('=', "%3D");
            let thumbprints = [identity.hex(), identity.hex().to_uppercase(), encoded];
            let names = [
                "C=CZ",
                "O=x, C=CZ",
                "C=CZ,O=x",
                "C%3dCZ%2cO%3dx",
                "CN=a\\,b,C=cz",
            ];
            for thumbprint in &thumbprints {
                for name in names {
                    let request = download_request("CZ", TODAY)
                        .set("X-SSL-Client-SHA256", thumbprint)
                        .set("X-SSL-Client-DN", name);
                    ask(world, &request).expect(200);
                }
            }
        },
    ),
    same(
        "(a).7",
        "claims_never_win",
        "what a client claims in these headers never wins over what was verified",
        |world| {
            let claim = download_request("NO", TODAY)
                .set("X-SSL-Client-SHA256", member("DE").authentication.hex())
                .set("X-SSL-Client-DN", "C=DE");
            let answer = world.tls("NO").ask(claim.bytes()).expect(200);
            // DE uploaded this batch: it would see nothing of it.
            assert!(!answer.body.is_empty());
            world.tls_as(None).ask(claim.bytes()).expect(403);
        },
    ),
    same(
        "(a).8",
        "bodies",
        "uploads in protobuf and JSON, the last member in snake_case or camelCase",
        |world| {
            let upload = Upload::fresh(world, "IE", 2);
            ask(world, &upload.json_request()).expect(201);
            let upload = Upload::fresh(world, "IE", 1);
            let body = format!("{{\"keys\":[{}]}}", key_to_json(&upload.keys[0]));
            let camel = body.replace("days_since_onset_of_symptoms", "daysSinceOnsetOfSymptoms");
            ask(world, &upload.json_request().body(camel)).expect(201);
            Upload::fresh(world, "IE", 1).store(world);
        },
    ),
    same(
        "(a).9",
        "tags",
        "tags of 1 to 64 visible ASCII characters, unique per country as exact bytes, free again \
         after a 207",
        |world| {
            for tag in ["1", "2021-6-1-Ab+/==-1", "20210601-1", &"f".repeat(64)] {
                Upload::fresh(world, "CH", 1)
                    .tagged(tag)
                    .send(world)
                    .expect(201);
                Upload::fresh(world, "PL", 1)
                    .tagged(tag)
                    .send(world)
                    .expect(201);
                Upload::fresh(world, "CH", 1)
                    .tagged(tag)
                    .send(world)
                    .expect(409);
            }
            let stored = Upload::fresh(world, "CH", 1).store(world);
            let refused = Upload::of(world, "CH", stored.keys).tagged("free");
            refused.send(world).expect(207);
            Upload::fresh(world, "CH", 1)
                .tagged("free")
                .send(world)
                .expect(201);
        },
    ),
    same(
        "(a).10",
        "signatures",
        "BER and DER, RSA with combined and bare names, PSS, SHA-1 and SHA-2, digests that differ",
        |world| {
            for (country, shape) in [
                ("DE", BOUNCY_CASTLE),
                ("ES", BOUNCY_CASTLE_PSS),
                ("DK", BOUNCY_CASTLE_CSHARP),
                ("IT", SERVICE),
                ("NL", SERVICE),
                ("IE", JSRSASIGN),
                ("CZ", MOZILLA),
            ] {
                let keys = Upload::fresh(world, country, 3).keys;
                Upload::shaped(world, country, keys, shape)
                    .send(world)
                    .expect(201);
            }
        },
    ),
    same(
        "(a).11",
        "statuses",
        "201 empty with `batchTag`; 207 with three arrays; 409, or 201 for a replay; 413 over \
         5000; 400 with `message`",
        |world| {
            let stored = Upload::fresh(world, "ES", 2).store(world);
            let replayed = stored.send(world).expect(201);
            assert_eq!(replayed.header("batchTag"), Some(stored.tag.as_str()));
            assert!(replayed.body.is_empty());
            let duplicates = Upload::of(world, "ES", stored.keys.clone())
                .send(world)
                .expect(207);
            let expected = serde_json::json!({"201": [], "409": [0, 1], "500": []});
            assert_eq!(duplicates.json(), expected);
            Upload::fresh(world, "ES", 1)
                .tagged(&stored.tag)
                .send(world)
                .expect(409);
            Upload::fresh(world, "ES", 5001).send(world).expect(413);
            let mut bad = Upload::fresh(world, "ES", 1);
            bad.keys[0].rolling_period = 0;
            assert!(!bad.send(world).expect(400).message().is_empty());
        },
    ),
    same(
        "(a).12",
        "errors",
        "no `batchTag` on errors; an empty protobuf body is an empty batch; never 200 for an \
         upload, never HTML",
        |world| {
            let empty = Upload::fresh(world, "FI", 0);
            assert!(to_protobuf(&empty.keys).is_empty());
            empty.send(world).expect(201);
            let unsigned = Upload::fresh(world, "FI", 1)
                .request()
                .without("batchSignature");
            for request in [
                unsigned,
                Request::get("/"),
                Request::get("/diagnosiskeys/upload"),
            ] {
                let answer = ask(world, &request);
                assert!(answer.status >= 400, "{answer:?}");
                assert_eq!(answer.any_case("batchTag"), None);
                assert_eq!(answer.header("Content-Type"), Some("application/json"));
            }
        },
    ),
    covered_by(
        "(a).13",
        "`batchTag` and `nextBatchTag` on every 200, `null` at the end; the first batch of that \
         day or later; tags `yyyyMMdd-N` without gaps from 1; links across days",
        "api/tests/conformance/scenarios/history.rs::numbers_batches_without_gaps_and_links_them_across_days",
        None,
    ),
    same(
        "(a).14",
        "own_keys",
        "own keys are removed; an own-only batch is a 200 with an empty body, or no keys in JSON",
        |world| {
            let own = download(world, "DE", TODAY, Some(FIRST)).expect(200);
            assert_eq!((own.body.len(), own.header("batchTag")), (0, Some(FIRST)));
            let request = download_request("DE", TODAY).with("batchTag", FIRST);
            let json = ask(world, &request.set("Accept", JSON)).expect(200);
            assert_eq!(json.body, b"{\"keys\":[]}");
        },
    ),
    covered_by(
        "(a).15",
        "the order is that of uploads in the audit, each in one piece",
        "api/tests/conformance/clients/italy.rs::verifies_every_upload_through_the_audit",
        None,
    ),
    same(
        "(a).16",
        "json",
        "JSON with exactly the eight known members, all written, names for enumerations, \
         standard padded base64",
        |world| {
            let request = download_request("PL", TODAY)
                .with("batchTag", FIRST)
                .set("Accept", JSON);
            // The tests' parser refuses everything else.
            assert_eq!(from_json(&ask(world, &request).expect(200).body).len(), 3);
        },
    ),
    same(
        "(a).17",
        "no_batches",
        "404 with exactly `Could not find any batches for given date`; 410 beyond retention",
        |world| {
            let answer = download(world, "NO", "2021-06-02", None);
            answer.expect_error(404, "Could not find any batches for given date");
            download(world, "NO", "2021-05-29", None).expect(410);
        },
    ),
    covered_by(
        "(a).18",
        "audits: ten members never null, the PEM as it was signed, own entries last, the day of \
         the batch or 404, the legacy thumbprint",
        "api/tests/conformance/clients/finland.rs::imports_by_slicing_the_whole_list",
        None,
    ),
    covered_by(
        "(a).19",
        "a trust anchor with RSA, self-signed, SHA-256",
        "api/src/cli/pki.rs::mixes_algorithms_and_anchors_with_rsa",
        None,
    ),
    covered_by(
        "(a).20",
        "callbacks: the list, PUT with `url`, DELETE, ids up to 32 characters; a GET with \
         `batchTag` and `date`, 2xx including 202, in order, over mutual TLS",
        "api/tests/callbacks/delivery.rs::notifies_of_each_batch_in_order_over_mutual_tls",
        None,
    ),
    covered_by(
        "(a).21",
        "throttling: 429 with `Retry-After` as an HTTP date; uploads do not wait behind the \
         making of download batches",
        "api/tests/conformance/scenarios/limits.rs::throttles_a_participant_that_exceeds_its_share",
        None,
    ),
];
