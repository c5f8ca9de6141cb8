//! Uploads and downloads between two backends, on HTTP/1.1 and HTTP/2.

use std::sync::Arc;
use std::time::Duration;

use efgs_client::{Caller, Connection, Protocol, Target};
use engine::domain::Country;
use http::{HeaderName, HeaderValue, Method};
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use testkit::participants::{Identity as LoadIdentity, Participant};
use testkit::signer::Signer;

use crate::support::backend::{Backend, JSON, PROTOBUF, Upload, download};
use crate::support::batch::{from_json, from_protobuf, to_protobuf};
use crate::support::pki::{Identity, member};
use crate::support::raw::Answer;
use crate::support::world::{Databases, Kind, World};

pub(super) fn uploads_and_downloads(databases: &Databases, kind: Kind) {
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
    // The same connection is used throughout, also after an error.
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

pub(super) fn spells_and_orders_headers_exactly(databases: &Databases, kind: Kind) {
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

pub(super) fn speaks_http2(databases: &Databases, kind: Kind) {
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

pub(super) fn removes_own_keys(databases: &Databases, kind: Kind) {
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
