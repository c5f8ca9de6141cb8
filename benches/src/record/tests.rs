//! At the other end stands rustls.

use std::net::{SocketAddr, TcpListener};
use std::time::Duration;

use loadgen::participants::Identity;
use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs::cipher_suite::{
    TLS13_AES_128_GCM_SHA256, TLS13_AES_256_GCM_SHA384, TLS13_CHACHA20_POLY1305_SHA256,
};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{
    ALL_VERSIONS, RootCertStore, ServerConfig, ServerConnection, Stream, SupportedCipherSuite,
};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use super::*;
use crate::http::mutual_tls;

/// Whatever is awaited longer has gone wrong.
const TIMEOUT: Duration = Duration::from_secs(20);

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn key_of(made: &CertifiedKey<KeyPair>) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(made.signing_key.serialize_der().into())
}

fn roots(of: &CertificateDer<'static>) -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add(of.clone()).unwrap();
    roots
}

/// Two that know each other; the server knows no other suite, if one is given.
pub(crate) fn parties(suite: Option<SupportedCipherSuite>) -> (Arc<ClientConfig>, ServerConfig) {
    let (client, server) = (certificate(), certificate());
    let config = server_config(&server, suite, Some(client.cert.der()));
    (client_config(&client, &server), config)
}

fn client_config(
    client: &CertifiedKey<KeyPair>,
    server: &CertifiedKey<KeyPair>,
) -> Arc<ClientConfig> {
    let identity = Identity {
        chain: vec![client.cert.der().clone()],
        key: key_of(client),
    };
    mutual_tls(identity, server.cert.der().clone()).unwrap()
}

/// A server that lets in whom `known` has issued, or anybody.
fn server_config(
    server: &CertifiedKey<KeyPair>,
    suite: Option<SupportedCipherSuite>,
    known: Option<&CertificateDer<'static>>,
) -> ServerConfig {
    let mut provider = default_provider();
    provider.cipher_suites = suite.map_or(provider.cipher_suites, |suite| vec![suite]);
    let provider = Arc::new(provider);
    let verifier = known.map_or_else(WebPkiClientVerifier::no_client_auth, |known| {
        let roots = Arc::new(roots(known));
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
        verifier.build().unwrap()
    });
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(ALL_VERSIONS)
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.cert.der().clone()], key_of(server));
    config.unwrap()
}

/// A server's end.
pub(crate) struct Peer {
    pub(crate) session: ServerConnection,
    pub(crate) stream: TcpStream,
}

impl Peer {
    /// Shakes hands; `early` is said as soon as it may be. What the session has to say after the
    /// handshake, tickets, is not sent yet.
    fn accept(listener: &TcpListener, config: ServerConfig, early: &[u8]) -> Self {
        let mut session = ServerConnection::new(config.into()).unwrap();
        session.writer().write_all(early).unwrap();
        let stream = listener.accept().unwrap().0;
        stream.set_read_timeout(Some(TIMEOUT)).unwrap();
        let mut peer = Self { session, stream };
        while peer.session.is_handshaking() {
            peer.flush();
            let got = peer.session.read_tls(&mut peer.stream).unwrap();
            assert_ne!(got, 0, "the client is gone");
            if peer.session.process_new_packets().is_err() {
                // What is wrong is told by an alert.
                peer.flush();
                break;
            }
        }
        peer
    }

    /// What the session wants to send.
    fn sealed(&mut self) -> Vec<u8> {
        let mut wire = Vec::new();
        while self.session.wants_write() {
            self.session.write_tls(&mut wire).unwrap();
        }
        wire
    }

    fn flush(&mut self) {
        let wire = self.sealed();
        self.stream.write_all(&wire).unwrap();
    }

    /// Sends this in a record of its own.
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        self.session.writer().write_all(bytes).unwrap();
        self.flush();
    }

    /// Waits for so many bytes.
    pub(crate) fn hear(&mut self, length: usize) -> Vec<u8> {
        let mut bytes = vec![0; length];
        let mut plain = Stream::new(&mut self.session, &mut self.stream);
        plain.read_exact(&mut bytes).unwrap();
        bytes
    }
}

/// Runs a server for one connection, and a client.
pub(crate) fn meet<T>(
    server: ServerConfig,
    early: &[u8],
    serve: impl FnOnce(Peer) + Send,
    ask: impl FnOnce(SocketAddr) -> T,
) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| serve(Peer::accept(&listener, server, early)));
        ask(listener.local_addr().unwrap())
    })
}

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Records {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    Records::open(config, stream).unwrap()
}

/// All that comes, and why nothing else does.
fn all_of(mut records: Records) -> (Vec<u8>, io::Error) {
    let (mut all, mut buffer) = (Vec::new(), vec![0; 1 << 16]);
    loop {
        match records.receive(&mut buffer) {
            Ok(piece) => all.extend_from_slice(&buffer[piece]),
            Err(error) => return (all, error),
        }
    }
}

/// What a client gets from a server that does this.
#[track_caller]
fn check(serve: impl FnOnce(Peer) + Send, bytes: &[u8], why: &str) {
    let (client, server) = parties(None);
    let ask = |address| all_of(connect(address, &client));
    let (all, error) = meet(server, b"", serve, ask);
    assert_eq!(all, bytes);
    assert_eq!(error.to_string(), why);
}

fn echo(suite: SupportedCipherSuite, buffer_bytes: usize) {
    const LENGTHS: [usize; 10] = [
        1, 2, 16_383, 16_384, 16_385, 65_536, 65_537, 100_003, 999_999, 3_000_001,
    ];
    let (client, server) = parties(Some(suite));
    let serve = |mut peer: Peer| {
        let agreed = peer.session.negotiated_cipher_suite();
        assert_eq!(agreed, Some(suite));
        for length in LENGTHS {
            let bytes = peer.hear(length);
            for piece in bytes.chunks(10_007) {
                peer.say(piece);
            }
        }
    };
    meet(server, b"", serve, |address| {
        let mut records = connect(address, &client);
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let mut buffer = vec![0; buffer_bytes];
        for length in LENGTHS {
            let mut said = vec![0; length];
            random.fill_bytes(&mut said);
            records.send(&said).unwrap();
            let mut heard = Vec::new();
            while heard.len() < length {
                let piece = records.receive(&mut buffer).unwrap();
                heard.extend_from_slice(&buffer[piece]);
            }
            assert!(heard == said, "{length} bytes with {suite:?}");
        }
    });
}

#[test]
fn carries_megabytes_both_ways_with_every_suite() {
    for suite in [
        TLS13_AES_128_GCM_SHA256,
        TLS13_AES_256_GCM_SHA384,
        TLS13_CHACHA20_POLY1305_SHA256,
    ] {
        for buffer_bytes in [RECORD_BYTES_MAX, 256 << 10] {
            echo(suite, buffer_bytes);
        }
    }
}

#[test]
fn shows_its_certificate() {
    let (client, server) = parties(None);
    let serve = |peer: Peer| {
        let shown = peer.session.peer_certificates().unwrap();
        assert_eq!(shown.len(), 1);
    };
    meet(server, b"", serve, |address| {
        all_of(connect(address, &client))
    });
}

#[test]
fn refuses_a_record_that_was_tampered_with() {
    // The version in the header, the first and the last byte behind it, the tag's last.
    let last = HEADER_BYTES + b"hello".len();
    for at in [2, HEADER_BYTES, last, last + TAG_BYTES] {
        let serve = |mut peer: Peer| {
            peer.say(b"before");
            peer.session.writer().write_all(b"hello").unwrap();
            let mut wire = peer.sealed();
            assert_eq!(wire.len(), last + 1 + TAG_BYTES);
            wire[at] ^= 1;
            peer.stream.write_all(&wire).unwrap();
        };
        let why = "the server sent a record that is not what was sealed";
        check(serve, b"before", why);
    }
}

#[test]
fn refuses_a_record_that_comes_twice() {
    let serve = |mut peer: Peer| {
        peer.flush();
        peer.session.writer().write_all(b"hello").unwrap();
        let wire = peer.sealed().repeat(2);
        peer.stream.write_all(&wire).unwrap();
    };
    let why = "the server sent a record that is not what was sealed";
    check(serve, b"hello", why);
}

#[test]
fn passes_over_tickets_that_come_with_the_first_bytes() {
    let (client, mut server) = parties(None);
    server.send_tls13_tickets = 3;
    let serve = |mut peer: Peer| {
        let mut wire = peer.sealed();
        assert!(!wire.is_empty(), "tickets");
        peer.session.writer().write_all(b"hello").unwrap();
        wire.extend(peer.sealed());
        peer.stream.write_all(&wire).unwrap();
    };
    let ask = |address| all_of(connect(address, &client));
    let (all, error) = meet(server, b"", serve, ask);
    assert_eq!(all, b"hello");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn loses_nothing_that_comes_behind_the_servers_last_word() {
    // Only a server that asks for no certificate may say something that early.
    let (client, server) = (certificate(), certificate());
    let mut config = server_config(&server, None, None);
    config.send_half_rtt_data = true;
    let ask = |address| all_of(connect(address, &client_config(&client, &server)));
    let (all, error) = meet(config, b"hello", drop, ask);
    assert_eq!(all, b"hello");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn refuses_a_change_of_keys() {
    let serve = |mut peer: Peer| {
        peer.say(b"hello");
        peer.session.refresh_traffic_keys().unwrap();
        peer.say(b"not understood any more");
    };
    let why = "the server sent the handshake message KeyUpdate";
    check(serve, b"hello", why);
}

#[test]
fn tells_which_alert_came() {
    let serve = |mut peer: Peer| {
        peer.say(b"hello");
        peer.session.send_close_notify();
        peer.flush();
    };
    check(serve, b"hello", "the server sent the alert CloseNotify");
}

#[test]
fn tells_that_the_server_does_not_know_it() {
    let (client, server) = (certificate(), certificate());
    let config = server_config(&server, None, Some(certificate().cert.der()));
    let ask = |address| all_of(connect(address, &client_config(&client, &server)));
    let (_, error) = meet(config, b"", drop, ask);
    // The certificate that it knows has the same name and another key.
    let why = "the server sent the alert DecryptError";
    assert_eq!(error.to_string(), why);
}

#[test]
fn refuses_records_that_tls_does_not_know() {
    let mut long = vec![23, 3, 3, 0x41, 0x01];
    long.resize(HEADER_BYTES + 0x4101, 0);
    for (wire, why) in [
        (
            [20, 3, 3, 0, 1, 1].to_vec(),
            "the server sent a record of type 20 in clear",
        ),
        (long, "the server sent a record of 16641 bytes"),
    ] {
        let serve = |mut peer: Peer| {
            peer.say(b"hello");
            peer.stream.write_all(&wire).unwrap();
        };
        check(serve, b"hello", why);
    }
}

#[test]
fn tells_that_a_record_was_cut_off() {
    let (client, server) = parties(None);
    let serve = |mut peer: Peer| {
        peer.session.writer().write_all(b"hello").unwrap();
        let wire = peer.sealed();
        peer.stream.write_all(&wire[..wire.len() - 1]).unwrap();
    };
    let ask = |address| all_of(connect(address, &client));
    let (all, error) = meet(server, b"", serve, ask);
    assert_eq!(all, b"");
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
}

#[test]
fn speaks_no_tls_1_2() {
    let server = certificate();
    let mut client = ClientConfig::builder_with_provider(default_provider().into())
        .with_protocol_versions(&[&rustls::version::TLS12])
        .unwrap()
        .with_root_certificates(roots(server.cert.der()))
        .with_no_client_auth();
    client.enable_secret_extraction = true;
    let ask = |address| Records::open(&Arc::new(client), TcpStream::connect(address).unwrap());
    let error = meet(
        server_config(&server, None, None),
        b"",
        |mut peer| peer.flush(),
        ask,
    )
    .err();
    let error = error.unwrap().to_string();
    assert_eq!(error, "TLSv1_2 is not what this client speaks");
}

/// The same key at both ends of a direction.
fn directions() -> [Direction; 2] {
    [(); 2].map(|()| {
        let (key, iv) = ([7; 32].into(), [9; NONCE_LEN].into());
        Direction::new((5, ConnectionTrafficSecrets::Aes256Gcm { key, iv })).unwrap()
    })
}

/// Seals what is inside of a record; tells what another finds in it.
fn inside(inner: &[u8]) -> io::Result<(ContentType, usize)> {
    let [mut sealing, mut opening] = directions();
    let header = [23, 3, 3, 0, u8::try_from(inner.len() + TAG_BYTES).unwrap()];
    let mut body = inner.to_vec();
    let nonce = sealing.nonce();
    let sealed = sealing
        .key
        .seal_in_place_append_tag(nonce, Aad::from(header), &mut body);
    sealed.unwrap();
    opening.open(header, &mut body)
}

#[test]
fn strips_type_and_padding() {
    let application_data = |inner: &[u8]| match inside(inner).unwrap() {
        (ContentType::ApplicationData, length) => length,
        other => panic!("{other:?}"),
    };
    assert_eq!(application_data(b"hello\x17"), 5);
    assert_eq!(application_data(b"hello\x17\0\0\0"), 5);
    assert_eq!(application_data(b"hello\0\x17\0"), 6);
    assert_eq!(application_data(b"\x17\0"), 0);
    let error = inside(b"\0\0\0").unwrap_err().to_string();
    assert_eq!(error, "the server sent a record of nothing but padding");
}

#[test]
fn takes_the_nonces_that_the_standard_defines() {
    // RFC 8446 §5.3: 64 bits big-endian, padded on the left with zeros, XOR the IV.
    let (key, iv) = ([7; 32].into(), [0xF0; NONCE_LEN].into());
    let secrets = ConnectionTrafficSecrets::Aes256Gcm { key, iv };
    let mut direction = Direction::new((0x0102_0304, secrets)).unwrap();
    let expected = |last| {
        let mut nonce = [0xF0; NONCE_LEN];
        nonce[8..].copy_from_slice(&[0xF1, 0xF2, 0xF3, last]);
        nonce
    };
    assert_eq!(direction.nonce().as_ref(), &expected(0xF4));
    assert_eq!(direction.nonce().as_ref(), &expected(0xF5));
}

#[test]
fn passes_over_tickets_and_nothing_else() {
    let refusal = |messages: &[u8]| pass_over_tickets(messages).unwrap_err().to_string();
    // Two tickets of two bytes and of none.
    pass_over_tickets(&[4, 0, 0, 2, 1, 2, 4, 0, 0, 0]).unwrap();
    let in_pieces = "the server sent a handshake message in pieces";
    assert_eq!(refusal(&[4, 0, 0, 3, 1, 2]), in_pieces);
    assert_eq!(refusal(&[4, 0, 0]), in_pieces);
    let request = "the server sent the handshake message CertificateRequest";
    assert_eq!(refusal(&[4, 0, 0, 0, 13, 0, 0, 0]), request);
}
