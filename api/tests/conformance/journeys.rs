//! Journeys, each on its own gateway.

use std::sync::Arc;
use std::time::{Duration, Instant};

use efgs_client::{Caller, Connection, Protocol, Target};
use engine::domain::{CertificateKind, Country, UnixMillis};
use http::{HeaderName, HeaderValue, Method};
use rcgen::date_time_ymd;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::participants::{Identity as LoadIdentity, Participant};
use testkit::signer::Signer;
use time::PrimitiveDateTime;
use time::macros::format_description;

use crate::named;
use crate::support::backend::{
    Backend, JSON, PROTOBUF, Upload, ask, audit, download, download_request, fresh_tag, identify,
};
use crate::support::batch::{from_json, from_protobuf, signed_bytes, to_protobuf};
use crate::support::cms::{BOUNCY_CASTLE, JSRSASIGN, MOZILLA};
use crate::support::pki::{Identity, Listed, authentication, fixture, member, read};
use crate::support::raw::{Answer, Request};
use crate::support::vectors::{self, Vector, accepts, refuses};
use crate::support::world::{Databases, Kind, World};

pub(crate) const JOURNEYS: &[(&str, crate::Journey)] = named![
    uploads_and_downloads,
    spells_and_orders_headers_exactly,
    speaks_http2,
    removes_own_keys,
    refuses_a_batch_with_one_duplicate_whole,
    stores_one_of_two_simultaneous_uploads_with_one_tag,
    stores_full_uploads_and_cuts_them_whole,
    takes_bodies_in_chunks_and_bounds_them,
    closes_on_bodies_that_break_off,
    closes_on_clients_that_stall,
    throttles_who_takes_more_than_its_share,
    says_when_it_is_full,
    reaches_an_open_connection_with_a_revocation,
    knows_clients_by_their_certificate_alone,
    reads_identity_from_headers_of_other_names,
    believes_identity_headers_of_trusted_peers_only,
    keeps_everything_over_a_restart,
    numbers_batches_without_gaps_and_links_them_across_days,
    stops_serving_what_is_too_old,
    knows_duplicates_longer_than_they_can_be_downloaded,
    audits_what_was_uploaded_before_a_revocation,
    judges_signatures_at_their_time,
    signs_as_bouncy_castle_and_openssl_do,
    writes_canonical_bytes_as_others_do,
];

fn uploads_and_downloads(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut de = Backend::connect(&world, "DE");
    let upload = Upload::fresh(&world, "DE", 3).tagged("2021-6-1-Ab+/==-1");
    let answer = de.send(&upload).expect(201);
    assert_eq!(answer.header("batchTag"), Some("2021-6-1-Ab+/==-1"));
    assert!(answer.body.is_empty());
    assert_eq!(world.cut(), "20210601-1");

    let mut it = Backend::connect(&world, "IT");
    let found = it.download("2021-06-01", None, PROTOBUF).expect(200);
    assert_eq!(from_protobuf(&found.body), upload.keys);
    let json = it.download("2021-06-01", None, JSON).expect(200);
    assert_eq!(from_json(&json.body), upload.keys);
    // The same connection is used all the time, also after an error.
    it.download("2021-06-09", None, JSON).expect(404);
    it.store(1);
    assert_eq!(
        it.download("2021-06-01", None, PROTOBUF).expect(200).body,
        found.body
    );
    // Replay, and other content under the tag.
    de.send(&upload).expect(201);
    let other = Upload::fresh(&world, "DE", 1).tagged(&upload.tag);
    de.send(&other)
        .expect_error(409, "BatchTag already exists.");
    let same_tag = Upload::fresh(&world, "IT", 1).tagged(&upload.tag);
    it.send(&same_tag).expect(201);
}

fn spells_and_orders_headers_exactly(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut de = Backend::connect(&world, "DE");
    let upload = Upload::fresh(&world, "DE", 1).tagged("a");
    let names = |answer: &Answer| {
        let names = answer.headers.iter().map(|(name, _)| name.clone());
        names.collect::<Vec<_>>()
    };
    let stored = de.send(&upload).expect(201);
    assert!(
        stored.head.starts_with("HTTP/1.1 201 Created\r\n"),
        "{stored:?}"
    );
    assert_eq!(names(&stored), ["batchTag", "Content-Length", "Date"]);
    world.cut();
    let found = de.download("2021-06-01", None, PROTOBUF).expect(200);
    let expected = [
        "Content-Type",
        "batchTag",
        "nextBatchTag",
        "X-Protobuf-Schema",
        "X-Protobuf-Message",
        "Content-Length",
        "Date",
    ];
    let mut sorted = names(&found);
    sorted.sort();
    let mut expected = expected.map(str::to_owned).to_vec();
    expected.sort();
    assert_eq!(sorted, expected);
}

fn load_client(world: &World, country: &'static str, protocol: Protocol) -> Connection {
    let certificate = |identity: &Identity| CertificateDer::from(identity.certificate.clone());
    let (authentication, signing) = (&member(country).authentication, &member(country).signing);
    let participant = Participant {
        country: Country::parse(country).unwrap(),
        authentication: LoadIdentity {
            chain: vec![certificate(authentication)],
            key: PrivateKeyDer::try_from(authentication.key.clone()).unwrap(),
        },
        signer: Signer::new(&signing.certificate, &signing.key).unwrap(),
    };
    let caller = Caller::new(&participant, world.server_certificate(), protocol).unwrap();
    let target = Target::parse(&format!("https://localhost:{}", world.public().port())).unwrap();
    Connection::new(
        Arc::new(caller),
        Arc::from([target]),
        0,
        Duration::from_secs(30),
    )
}

fn speaks_http2(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut client = load_client(&world, "DE", Protocol::Http2);
    let upload = Upload::fresh(&world, "DE", 3);
    let header = |name: &'static str, value: &str| {
        (
            HeaderName::from_static(name),
            HeaderValue::from_str(value).unwrap(),
        )
    };
    let headers = [
        header("content-type", PROTOBUF),
        header("batchtag", &upload.tag),
        header("batchsignature", &upload.signature),
    ];
    let body = to_protobuf(&upload.keys).into();
    let path = "/diagnosiskeys/upload";
    let send = client.send(Method::POST, path, &headers, body);
    let answer = world.runtime.block_on(send).unwrap();
    assert_eq!(
        (answer.status, answer.header("batchtag")),
        (201, Some(upload.tag.as_str()))
    );
    world.cut();
    let mut client = load_client(&world, "IT", Protocol::Http2);
    let path = "/diagnosiskeys/download/2021-06-01";
    let headers = [header("accept", PROTOBUF)];
    let get = client.send(Method::GET, path, &headers, Default::default());
    let answer = world.runtime.block_on(get).unwrap();
    assert_eq!(
        (answer.status, answer.header("nextbatchtag")),
        (200, Some("null"))
    );
    assert_eq!(from_protobuf(&answer.body), upload.keys);
}

fn removes_own_keys(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let uploads = ["DE", "IT", "DE"].map(|country| Upload::fresh(&world, country, 2).store(&world));
    world.cut();
    let seen = |country| from_protobuf(&download(&world, country, "2021-06-01", None).body);
    let [first, second, third] = uploads.map(|upload| upload.keys);
    assert_eq!(seen("DE"), second);
    assert_eq!(seen("IT"), [first.clone(), third.clone()].concat());
    assert_eq!(seen("FI"), [first, second, third].concat());
    Upload::fresh(&world, "DE", 2).store(&world);
    let tag = world.cut();
    let own = download(&world, "DE", "2021-06-01", Some(&tag)).expect(200);
    assert_eq!(
        (own.body.len(), own.header("nextBatchTag")),
        (0, Some("null"))
    );
}

fn refuses_a_batch_with_one_duplicate_whole(databases: &Databases, kind: Kind) {
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

fn stores_one_of_two_simultaneous_uploads_with_one_tag(databases: &Databases, kind: Kind) {
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

fn stores_full_uploads_and_cuts_them_whole(databases: &Databases, kind: Kind) {
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

fn takes_bodies_in_chunks_and_bounds_them(databases: &Databases, kind: Kind) {
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

fn closes_on_bodies_that_break_off(databases: &Databases, kind: Kind) {
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

fn closes_on_clients_that_stall(databases: &Databases, kind: Kind) {
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

/// Begins uploads, which wait to continue, until one is refused.
fn fill(world: &World, countries: &[&'static str]) -> (Vec<crate::support::raw::Raw>, Answer) {
    let mut held = Vec::new();
    for country in countries.iter().cycle().take(64) {
        let upload = Upload::fresh(world, country, 1);
        let mut raw = world.proxy();
        raw.send(upload.request().with("Expect", "100-continue").head());
        let answer = raw.answer(true);
        if answer.status != 100 {
            return (held, answer);
        }
        held.push(raw);
    }
    panic!("nothing was refused");
}

fn throttles_who_takes_more_than_its_share(databases: &Databases, kind: Kind) {
    let world = World::with(databases, kind, |options| {
        options.engine.upload.batches_in_flight_max = 8;
    });
    let (held, refused) = fill(&world, &["CZ"]);
    assert_eq!((held.len(), refused.status), (2, 429));
    let when = refused.header("Retry-After").unwrap();
    let when = httpdate::parse_http_date(when).unwrap();
    let now = Duration::from_millis(world.now().0);
    let wait = when.duration_since(std::time::UNIX_EPOCH).unwrap() - now;
    assert!((1..=60).contains(&wait.as_secs()), "{wait:?}");
    assert_eq!(refused.any_case("batchTag"), None);
    // Others are not affected, and it is temporary.
    Upload::fresh(&world, "DE", 1).store(&world);
    drop(held);
    let upload = Upload::fresh(&world, "CZ", 1);
    let begun = Instant::now();
    while upload.send(&world).status != 201 {
        assert!(begun.elapsed() < Duration::from_secs(20));
    }
}

fn says_when_it_is_full(databases: &Databases, kind: Kind) {
    let world = World::with(databases, kind, |options| {
        options.engine.upload.batches_in_flight_max = 4;
    });
    let (held, refused) = fill(&world, &["DE", "IT", "ES", "FI", "NL"]);
    assert_eq!((held.len(), refused.status), (4, 503));
    let seconds: u64 = refused.header("Retry-After").unwrap().parse().unwrap();
    assert!((1..=60).contains(&seconds));
    // Downloads go on.
    download(&world, "DE", "2021-06-01", None).expect(404);
}

fn reaches_an_open_connection_with_a_revocation(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let mut de = Backend::connect(&world, "DE");
    let mut it = Backend::connect(&world, "IT");
    de.store(1);
    world.revoke(&member("DE").authentication);
    let revoked = Instant::now();
    let refused = loop {
        let answer = de.download("2021-06-01", None, PROTOBUF);
        if answer.status == 403 {
            break answer;
        }
        assert!(revoked.elapsed() < Duration::from_secs(5), "{answer:?}");
    };
    refused.expect_error(403, "Client certificate is revoked");
    let upload = Upload::fresh(&world, "DE", 1);
    de.send(&upload).expect(403);
    it.store(1);
}

fn knows_clients_by_their_certificate_alone(databases: &Databases, kind: Kind) {
    let expired = authentication("DE", |params| params.not_after = date_time_ymd(2021, 6, 1));
    let world = World::with(databases, kind, |options| {
        let listed = Listed::new(CertificateKind::Authentication, &expired);
        options.listed.push(listed);
    });
    let get = Request::get("/diagnosiskeys/download/2021-06-01").bytes();
    // Self-signed, and listed.
    world.tls("DE").ask(&get).expect(404);
    // No certificate.
    let answer = world.tls_as(None).ask(&get).expect(403);
    assert_eq!(answer.code(), "no_client_certificate");
    // A certificate of the same name that is not listed.
    let stranger = authentication("DE", |_| {});
    let answer = world.tls_as(Some(&stranger)).ask(&get);
    answer.expect_error(403, "Client is not authorized to access the service");
    let answer = world.tls_as(Some(&expired)).ask(&get);
    answer.expect_error(403, "Client certificate has expired");
    // Another participant's identity headers change nothing.
    let claim = identify(Request::get("/diagnosiskeys/download/2021-06-01"), "DE").bytes();
    world.tls_as(None).ask(&claim).expect(403);
    world.tls_as(Some(&stranger)).ask(&claim).expect(403);
    let upload = Upload::fresh(&world, "DE", 1);
    let as_de = identify(upload.plain_request(), "DE").bytes();
    let answer = world.tls("IT").ask(as_de);
    answer.expect_error(
        400,
        "One or more keys are not originated from uploader country",
    );
}

fn reads_identity_from_headers_of_other_names(databases: &Databases, kind: Kind) {
    let world = World::with(databases, kind, |options| {
        let proxy = options.server.proxy.as_mut().unwrap();
        proxy.thumbprint_header = HeaderName::from_static("x-client-hash");
        proxy.distinguished_name_header = HeaderName::from_static("x-client-name");
    });
    let request = Request::get("/diagnosiskeys/download/2021-06-01")
        .with("X-Client-Hash", member("DE").authentication.hex())
        .with("X-Client-Name", "C=DE");
    ask(&world, &request).expect(404);
    ask(&world, &download_request("DE", "2021-06-01")).expect(403);
}

fn believes_identity_headers_of_trusted_peers_only(databases: &Databases, kind: Kind) {
    let world = World::with(databases, kind, |options| {
        let proxy = options.server.proxy.as_mut().unwrap();
        proxy.trusted_peers = vec!["192.0.2.0/24".parse().unwrap()];
    });
    let answer = download(&world, "DE", "2021-06-01", None).expect(403);
    assert_eq!(answer.code(), "untrusted_peer");
    let trusting = World::with(databases, kind, |options| {
        let proxy = options.server.proxy.as_mut().unwrap();
        proxy.trusted_peers = vec!["127.0.0.0/8".parse().unwrap()];
    });
    download(&trusting, "DE", "2021-06-01", None).expect(404);
}

fn keeps_everything_over_a_restart(databases: &Databases, kind: Kind) {
    let mut world = World::new(databases, kind);
    let stored = Upload::fresh(&world, "DE", 3).store(&world);
    world.cut();
    let waiting = Upload::fresh(&world, "IT", 2).store(&world);
    let before = download(&world, "ES", "2021-06-01", None).expect(200);
    let audited = audit(&world, "ES", "2021-06-01", "20210601-1").expect(200);
    world.stop();
    world.start();
    let after = download(&world, "ES", "2021-06-01", Some("20210601-1")).expect(200);
    assert_eq!(after.body, before.body);
    let again = audit(&world, "ES", "2021-06-01", "20210601-1").expect(200);
    assert_eq!(again.body, audited.body);
    // Answered uploads are remembered: replay, taken tag, duplicates.
    stored.send(&world).expect(201);
    Upload::fresh(&world, "DE", 1)
        .tagged(&stored.tag)
        .send(&world)
        .expect(409);
    Upload::of(&world, "DE", stored.keys)
        .send(&world)
        .expect(207);
    assert_eq!(world.cut(), "20210601-2");
    let next = download(&world, "ES", "2021-06-01", Some("20210601-2")).expect(200);
    assert_eq!(from_protobuf(&next.body), waiting.keys);
}

fn numbers_batches_without_gaps_and_links_them_across_days(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    let cut = || {
        Upload::fresh(&world, "DE", 1).store(&world);
        world.cut()
    };
    let mut tags = vec![cut(), cut()];
    world.pass_days(2);
    tags.extend([cut(), cut(), cut()]);
    assert_eq!(
        tags,
        [
            "20210601-1",
            "20210601-2",
            "20210603-1",
            "20210603-2",
            "20210603-3"
        ]
    );
    let mut it = Backend::connect(&world, "IT");
    let mut found = Vec::new();
    let mut next = None;
    loop {
        let answer = it
            .download("2021-06-01", next.as_deref(), PROTOBUF)
            .expect(200);
        found.push(answer.header("batchTag").unwrap().to_owned());
        match answer.header("nextBatchTag").unwrap() {
            "null" => break,
            tag => next = Some(tag.to_owned()),
        }
    }
    assert_eq!(found, tags);
    // A day without batches begins with the first of a later one.
    let later = it.download("2021-06-02", None, PROTOBUF).expect(200);
    assert_eq!(later.header("batchTag"), Some("20210603-1"));
}

fn stops_serving_what_is_too_old(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    Upload::fresh(&world, "DE", 2).store(&world);
    let tag = world.cut();
    world.pass_days(2);
    let whole = download(&world, "IT", "2021-06-01", Some(&tag)).expect(200);
    assert_eq!(from_protobuf(&whole.body).len(), 2);
    let entries = audit(&world, "IT", "2021-06-01", &tag).expect(200).json();
    assert_eq!(entries[0]["amount"], 2);
    world.pass_days(1);
    let gone = "Requested date is too old!";
    download(&world, "IT", "2021-06-01", None).expect_error(410, gone);
    download(&world, "IT", "2021-06-01", Some(&tag)).expect_error(410, gone);
    audit(&world, "IT", "2021-06-01", &tag).expect_error(410, gone);
    let message = "Given date does is not after or equals the requested batchTag";
    download(&world, "IT", "2021-06-02", Some(&tag)).expect_error(400, message);
}

fn knows_duplicates_longer_than_they_can_be_downloaded(databases: &Databases, kind: Kind) {
    let mut world = World::new(databases, kind);
    let stored = Upload::fresh(&world, "DE", 1).store(&world);
    world.pass_days(14);
    let again = Upload::of(&world, "DE", stored.keys.clone());
    again.send(&world).expect(207);
    world.stop();
    world.start();
    Upload::of(&world, "DE", stored.keys)
        .send(&world)
        .expect(207);
}

fn audits_what_was_uploaded_before_a_revocation(databases: &Databases, kind: Kind) {
    let world = World::new(databases, kind);
    Upload::fresh(&world, "DE", 1).store(&world);
    let tag = world.cut();
    let before = audit(&world, "IT", "2021-06-01", &tag).expect(200);
    world.revoke(&member("DE").authentication);
    world.revoke(&member("DE").signing);
    let begun = Instant::now();
    while download(&world, "DE", "2021-06-01", None).status != 403 {
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
    let after = audit(&world, "IT", "2021-06-01", &tag).expect(200);
    assert_eq!(after.body, before.body);
}

fn judges_signatures_at_their_time(databases: &Databases, kind: Kind) {
    let world = vectors::world(databases, kind);
    for (number, reason) in [
        ("601", Some("cert_expired")),
        ("602", Some("cert_not_yet_valid")),
        ("603", None),
        ("604", Some("cert_expired")),
        ("605", None),
        ("607", None),
        ("608", None),
        ("610", Some("signing_time_invalid")),
        ("611", Some("signing_time_invalid")),
    ] {
        let vector = Vector::read(number);
        world.clock.set(UnixMillis(vector.verification_time()));
        match reason {
            None => accepts(&world, &[number]),
            Some(reason) => refuses(&world, reason, &[number]),
        }
    }
}

/// The signatures of the personas have the shape of the real ones: made anew of the same content,
/// they are the same, byte for byte.
fn signs_as_bouncy_castle_and_openssl_do(_: &Databases, _: Kind) {
    let vector = Vector::read("001");
    let signer = Identity::new(
        "DE",
        read("vectors/pki/DE/DE-signing.pem"),
        &read("vectors/keys/TEST-ONLY-DE-signing.key.pem"),
    );
    let content = vector.bytes("canonical.bin");
    // One minute before the verification time.
    let at = UnixMillis(vector.verification_time() - 60_000);
    let made = BOUNCY_CASTLE.sign_base64(&signer, &content, at);
    assert_eq!(made.as_bytes(), vector.bytes("signature.b64"));
    for (file, shape) in [
        ("ie-sha256-digest-sha1-signature", JSRSASIGN),
        ("cz-sha1-rsa", MOZILLA),
    ] {
        let theirs = std::fs::read(fixture(&format!("legacy/{file}.der"))).unwrap();
        let at = signing_time(&theirs);
        assert_eq!(shape.sign(&signer, &content, at), theirs, "{file}");
    }
}

/// The first `UTCTime` behind the identifier of the attribute.
fn signing_time(cms: &[u8]) -> UnixMillis {
    let identifier = [0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x05];
    let at = cms
        .windows(9)
        .position(|window| window == identifier)
        .unwrap();
    let text = std::str::from_utf8(&cms[at + 13..at + 25]).unwrap();
    let format = format_description!("[year][month][day][hour][minute][second]");
    let time = PrimitiveDateTime::parse(&format!("20{text}"), format).unwrap();
    let time = time.assume_utc();
    UnixMillis(u64::try_from(time.unix_timestamp()).unwrap() * 1000)
}

/// The tests' canonical form agrees with other implementations.
fn writes_canonical_bytes_as_others_do(_: &Databases, _: Kind) {
    for number in [
        "001", "005", "204", "210", "211", "213", "214", "215", "216", "221",
    ] {
        let vector = Vector::read(number);
        let keys = from_protobuf(&vector.bytes("batch.pb"));
        assert_eq!(
            signed_bytes(&keys),
            vector.bytes("canonical.bin"),
            "{number}"
        );
        assert_eq!(from_json(&vector.bytes("batch.json")), keys, "{number}");
    }
}
