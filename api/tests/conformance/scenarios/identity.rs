//! Who a client is: certificates, identity headers, revocations.

use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use engine::domain::CertificateKind;
use http::HeaderName;
use rcgen::date_time_ymd;

use crate::support::backend::{
    Backend, PROTOBUF, Upload, ask, download, download_request, identify,
};
use crate::support::pki::{Listed, authentication, member};
use crate::support::raw::Request;
use crate::support::world::{Databases, Kind, World};

pub(super) fn reaches_an_open_connection_with_a_revocation(databases: &Databases, kind: Kind) {
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

pub(super) fn knows_clients_by_their_certificate_alone(databases: &Databases, kind: Kind) {
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

pub(super) fn reads_identity_from_headers_of_other_names(databases: &Databases, kind: Kind) {
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

pub(super) fn reads_the_certificate_itself_from_a_header(databases: &Databases, kind: Kind) {
    let world = World::with(databases, kind, |options| {
        let proxy = options.server.proxy.as_mut().unwrap();
        proxy.certificate_header = Some(HeaderName::from_static("client-cert"));
    });
    let request = Request::get("/diagnosiskeys/download/2021-06-01");
    let with = |value: &str| ask(&world, &request.clone().with("Client-Cert", value));
    let base64 = BASE64_STANDARD.encode(&member("DE").authentication.certificate);
    with(&base64).expect(404);
    with(&format!(":{base64}:")).expect(404);
    let escaped = member("DE").authentication.pem.replace('\n', "%0A");
    with(&escaped).expect(404);
    with(&format!("Hash=00;Cert=\"{escaped}\"")).expect(404);
    let unlisted = authentication("DE", |_| {});
    let answer = with(&BASE64_STANDARD.encode(&unlisted.certificate)).expect(403);
    assert_eq!(answer.code(), "unknown_certificate");
    for unreadable in ["x".repeat(16 * 1024 + 1), format!("{base64}, {base64}")] {
        let answer = with(&unreadable).expect(403);
        assert_eq!(answer.code(), "no_forwarded_identity");
    }
    // Not read any more.
    ask(&world, &download_request("DE", "2021-06-01")).expect(403);
}

pub(super) fn trusts_identity_headers_of_configured_peers_only(databases: &Databases, kind: Kind) {
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
