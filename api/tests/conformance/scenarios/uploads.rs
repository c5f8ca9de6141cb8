//! Uploads: duplicates, simultaneous ones, and bodies of every form.

use std::time::Duration;

use crate::support::backend::{Backend, Upload, ask, audit, download, fresh_tag};
use crate::support::batch::{from_protobuf, to_protobuf};
use crate::support::world::{Databases, Kind, World};

pub(super) fn refuses_a_batch_with_one_duplicate_whole(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut de = Backend::connect(&world, "DE");
    let stored = de.store(1);
    let mut keys = Upload::fresh(&world, "DE", 4).keys;
    keys[2] = stored.keys[0].clone();
    let mixed = Upload::of(&world, "DE", keys.clone());
    let answer = de.send(&mixed).expect(207);
    let expected = serde_json::json!({"201": [0, 1, 3], "409": [2], "500": []});
    assert_eq!(answer.json(), expected);
    // Nothing was stored, and the tag is free.
    keys.remove(2);
    let rest = Upload::of(&world, "DE", keys).tagged(&mixed.tag);
    de.send(&rest).expect(201);
    world.cut();
    let found = download(&world, "IT", "2021-06-01", None).expect(200);
    assert_eq!(
        from_protobuf(&found.body),
        [stored.keys, rest.keys].concat()
    );
}

pub(super) fn stores_one_of_two_simultaneous_uploads_with_one_tag(
    databases: &Databases,
    kind: Kind,
) {
    let world = World::new(databases, kind);
    for _ in 0..5 {
        let tag = fresh_tag();
        let uploads: Vec<_> = (0..4)
            .map(|_| Upload::fresh(&world, "DE", 2).tagged(&tag))
            .collect();
        let statuses: Vec<u16> = std::thread::scope(|scope| {
            let threads: Vec<_> = uploads
                .iter()
                .map(|upload| scope.spawn(|| upload.send(&world).status))
                .collect();
            threads
                .into_iter()
                .map(|thread| thread.join().unwrap())
                .collect()
        });
        assert_eq!(
            statuses.iter().filter(|status| **status == 201).count(),
            1,
            "{statuses:?}"
        );
        assert_eq!(
            statuses.iter().filter(|status| **status == 409).count(),
            3,
            "{statuses:?}"
        );
    }
    world.cut();
    let entries = audit(&world, "IT", "2021-06-01", "20210601-1")
        .expect(200)
        .json();
    assert_eq!(entries.as_array().unwrap().len(), 5);
}

pub(super) fn stores_full_uploads_and_cuts_them_whole(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let full = Upload::fresh(&world, "DE", 5000);
    full.send(&world).expect(201);
    let over = Upload::fresh(&world, "DE", 5001);
    over.send(&world)
        .expect_error(413, "Too many diagnosis keys");
    let small = Upload::fresh(&world, "IT", 1).store(&world);
    world.cut();
    let first = download(&world, "ES", "2021-06-01", Some("20210601-1")).expect(200);
    assert_eq!(from_protobuf(&first.body), full.keys);
    let second = download(&world, "ES", "2021-06-01", Some("20210601-2")).expect(200);
    assert_eq!(from_protobuf(&second.body), small.keys);
}

fn chunked(body: &[u8], size: usize) -> Vec<u8> {
    let chunk =
        |chunk: &[u8]| [format!("{:x}\r\n", chunk.len()).as_bytes(), chunk, b"\r\n"].concat();
    let mut out: Vec<u8> = body.chunks(size).flat_map(chunk).collect();
    out.extend(b"0\r\n\r\n");
    out
}

pub(super) fn takes_bodies_in_chunks_and_bounds_them(databases: &Databases, kind: Kind) {
    let world = World::with(databases, kind, |options| {
        options.server.body_bytes_max = 64 << 10;
        options.engine.upload.body_bytes_max = 64 << 10;
    });
    let upload = Upload::fresh(&world, "DE", 20);
    let request = upload.request().with("Transfer-Encoding", "chunked");
    let body = chunked(&to_protobuf(&upload.keys), 7);
    ask(&world, &request.body(body)).expect(201);
    // Too large without an announced length, and with one.
    let large = vec![0; (64 << 10) + 1];
    let request = Upload::fresh(&world, "DE", 1).request();
    let unannounced = request.clone().with("Transfer-Encoding", "chunked");
    let refused = ask(&world, &unannounced.body(chunked(&large, 9000))).expect(413);
    assert_eq!(refused.code(), "body_too_large");
    let mut raw = world.proxy();
    let refused = raw.ask(request.body(large).bytes()).expect(413);
    assert_eq!(refused.header("Connection"), Some("close"));
    raw.until_closed();
}

pub(super) fn closes_on_bodies_that_break_off(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let upload = Upload::fresh(&world, "DE", 5);
    let bytes = upload.request().bytes();
    let mut raw = world.proxy();
    raw.send(&bytes[..bytes.len() - 9]);
    drop(raw);
    // A malformed chunk.
    let head = upload.request().with("Transfer-Encoding", "chunked").head();
    let mut raw = world.proxy();
    raw.send([head, b"zz\r\n".to_vec()].concat());
    let answer = raw.answer(false);
    assert_eq!(
        (answer.status, answer.any_case("batchTag")),
        (400, None),
        "{answer:?}"
    );
    raw.until_closed();
    // Nothing is stored, and the gateway still works.
    upload.send(&world).expect(201);
}

pub(super) fn closes_on_clients_that_stall(databases: &Databases, kind: Kind) {
    let stall = Duration::from_millis(300);
    let world = World::with(databases, kind, |options| {
        options.server.stall_timeout = stall;
    });
    let upload = Upload::fresh(&world, "DE", 5);
    let head = upload.plain_request().head();
    for sent in [&b""[..], b"POST /diagnos", &head[..head.len() - 2]] {
        let mut raw = world.tls("DE");
        raw.send(sent);
        assert!(raw.until_closed() < Duration::from_secs(10));
    }
    let mut raw = world.tls("DE");
    raw.send([&head, &b"ab"[..]].concat());
    let answer = raw.answer(false).expect(408);
    assert_eq!(answer.header("Connection"), Some("close"));
    assert!(raw.until_closed() < Duration::from_secs(10));
    // By default, too, it is less than ten seconds.
    let default = api::server::ServerSettings::default().stall_timeout;
    assert!(default + default / 8 < Duration::from_secs(10));
}
