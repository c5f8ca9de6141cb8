//! §3: the order of checks.

use super::{Row, Section, differs, same};
use crate::World;
use crate::support::backend::{Upload, ask, download_request, identify};
use crate::support::raw::Request;

pub(super) const SECTION: Section = Section {
    name: "s03_order",
    heading: "§3 Order of work",
    rows: ROWS,
    prepare: World::new,
};

const ROWS: &[Row] = &[
    differs(
        "§3.1",
        "container_limits",
        [
            "headers beyond 8 KB: 400 with HTML; bodies are not bounded",
            "64 KB of headers are taken, 128 KB are the bound (431); a body may have 8 MiB (413)",
            "signatures with 4096-bit chains take over 8 KB; nothing that grows is without bound",
        ],
        |world| {
            let filler = "x".repeat(64 << 10);
            let request = download_request("DE", "2021-06-01").with("X-Filler", filler);
            ask(world, &request).expect(404);
            let mut raw = world.proxy();
            let endless = format!("GET / HTTP/1.1\r\nX-Filler: {}", "x".repeat(200 << 10));
            // The gateway may close the connection before it has read everything.
            let _sent = raw.try_send(endless);
            raw.answer(false).expect(431);
            let announced = Upload::fresh(world, "DE", 1).request();
            let announced = announced.with("Content-Length", "8388609");
            let mut raw = world.proxy();
            raw.send(announced.head());
            assert_eq!(raw.answer(false).expect(413).code(), "body_too_large");
        },
    ),
    differs(
        "§3.2",
        "routes_and_media_types",
        [
            "path, method, `Content-Type`, `Accept` are looked at before authentication",
            "path and method, then authentication, then media types",
            "unauthenticated callers are told nothing about the service; no client depends on the order",
        ],
        |world| {
            ask(world, &Request::get("/nothing")).expect(404);
            ask(world, &Request::get("/diagnosiskeys/upload")).expect(405);
            let upload = Request::new("POST", "/diagnosiskeys/upload");
            ask(world, &upload.clone().with("Content-Type", "text/plain")).expect(403);
            let authenticated = identify(upload, "DE");
            ask(world, &authenticated.with("Content-Type", "text/plain")).expect(415);
            let download = Request::get("/diagnosiskeys/download/2021-06-01");
            let download = download.with("Accept", "text/html");
            ask(world, &download).expect(403);
            ask(world, &identify(download, "DE")).expect(406);
        },
    ),
    same(
        "§3.3",
        "authentication_where_it_is_due",
        "authentication for uploads, downloads and audits; none for OPTIONS",
        |world| {
            ask(world, &Request::new("OPTIONS", "/diagnosiskeys")).expect(200);
            ask(world, &Request::new("POST", "/diagnosiskeys/upload")).expect(403);
            ask(world, &Request::get("/diagnosiskeys/download/nonsense")).expect(403);
            ask(
                world,
                &Request::get("/diagnosiskeys/audit/download/nonsense/x"),
            )
            .expect(403);
        },
    ),
    same(
        "§3.4",
        "headers_before_the_body",
        "headers and path are read before the body",
        |world| {
            let upload = Upload::fresh(world, "DE", 1);
            let request = upload.request().without("batchTag").body(b"\xff".to_vec());
            assert_eq!(ask(world, &request).expect(400).code(), "batch_tag_missing");
        },
    ),
    same(
        "§3.5",
        "the_body_before_its_keys",
        "the body is read before any of its keys is validated",
        |world| {
            let mut upload = Upload::fresh(world, "DE", 1);
            upload.keys[0].rolling_period = 145;
            let mut body = crate::support::batch::to_protobuf(&upload.keys);
            body.extend(b"\x0a\x05x");
            let answer = ask(world, &upload.request().body(body));
            answer.expect_error(400, "Failed to read request");
        },
    ),
    same(
        "§3.6",
        "all_keys_before_anything_else",
        "every key is validated before the tag, the signature and the database are looked at",
        |world| {
            let taken = Upload::fresh(world, "DE", 1).store(world);
            let mut upload = Upload::fresh(world, "DE", 2).tagged(&taken.tag);
            upload.keys[1].rolling_period = 145;
            upload.signature = "nonsense".to_owned();
            let answer = upload.send(world).expect(400);
            assert_eq!(answer.code(), "invalid_key");
        },
    ),
    differs(
        "§3.7",
        "the_tag_before_the_signature",
        [
            "then the tag, then the signature, then the database: a replay with a bad signature is \
             a 409",
            "the same order, but a tag that was used for the same content is not taken: a replay \
             with a bad signature is a 400",
            "a replay is an upload as well, and its signature is verified",
        ],
        |world| {
            let taken = Upload::fresh(world, "DE", 1).store(world);
            let mut upload = Upload::of(world, "DE", taken.keys.clone());
            upload.signature = "nonsense".to_owned();
            upload.send(world).expect_error(400, "Invalid signature");
            let mut other = Upload::fresh(world, "DE", 1).tagged(&taken.tag);
            other.signature = "nonsense".to_owned();
            other
                .send(world)
                .expect_error(409, "BatchTag already exists.");
            let mut replay = Upload::of(world, "DE", taken.keys.clone()).tagged(&taken.tag);
            replay.signature = "nonsense".to_owned();
            replay.send(world).expect_error(400, "Invalid signature");
        },
    ),
    differs(
        "§3.8",
        "version_of_accept",
        [
            "the version in `Accept` is checked last, after all side effects",
            "before anything is done",
            "a request that is refused should have done nothing",
        ],
        |world| {
            let request = download_request("DE", "2021-06-01").with("batchTag", "20210601-9");
            let request = request.set("Accept", "application/protobuf; version=2.0");
            ask(world, &request).expect_error(406, "Protocol version is not compatible!");
        },
    ),
];
