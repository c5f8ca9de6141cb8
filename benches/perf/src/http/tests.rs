use std::net::TcpListener;

use rcgen::{CertifiedKey, KeyPair, generate_simple_self_signed};
use rustls::crypto::aws_lc_rs::default_provider;
use rustls::server::WebPkiClientVerifier;
use rustls::{ServerConfig, ServerConnection};
use rustls_pki_types::PrivateKeyDer;

use super::*;

const RESPONSE: &[u8] =
    b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nbatchTag: 20260102-1\r\n\r\nhello";

fn request() -> EncodedRequest {
    EncodedRequest::get("/", &[])
}

fn send(connection: &mut Connection) -> io::Result<(Response, Vec<u8>)> {
    let mut body = Vec::new();
    let response = connection.send_with(&request(), |bytes| body.extend_from_slice(bytes))?;
    Ok((response, body))
}

fn assert_hello((response, body): &(Response, Vec<u8>)) {
    assert_eq!((response.status, response.body_bytes), (200, 5));
    assert_eq!(response.header("BatchTag"), Some("20260102-1"));
    assert_eq!(body, b"hello");
}

/// Runs `serve` for one connection, and `client` against it.
fn with_server<T>(serve: impl FnOnce(TcpStream) + Send, client: impl FnOnce(SocketAddr) -> T) -> T {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    std::thread::scope(|scope| {
        scope.spawn(|| serve(listener.accept().unwrap().0));
        client(listener.local_addr().unwrap())
    })
}

fn read_request(stream: &mut impl Read) {
    let mut head = vec![0; request().head.len()];
    stream.read_exact(&mut head).unwrap();
    assert_eq!(head, request().head);
}

/// The client's result for a response sent without TLS.
fn receive(bytes: &[u8]) -> io::Result<(Response, Vec<u8>)> {
    let serve = |mut stream: TcpStream| {
        read_request(&mut stream);
        stream.write_all(bytes).unwrap();
    };
    with_server(serve, |address| {
        send(&mut Connection::open(&Route::Plain(address)).unwrap())
    })
}

#[test]
fn reads_a_response_without_tls() {
    assert_hello(&receive(RESPONSE).unwrap());
    let (response, body) = receive(b"HTTP/1.1 204 No Content\r\n\r\n").unwrap();
    assert_eq!((response.status, response.body_bytes), (204, 0));
    assert_eq!(body, b"");
}

#[test]
fn rejects_a_response_that_is_truncated_too_long_or_without_length() {
    let error = receive(&RESPONSE[..RESPONSE.len() - 1]).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof);
    let error = receive(&[RESPONSE, b"!"].concat()).unwrap_err().to_string();
    assert_eq!(error, "the body is longer than its content-length");
    let error = receive(b"HTTP/1.1 200 OK\r\n\r\n").unwrap_err();
    assert!(
        error.to_string().starts_with("no content-length"),
        "{error}"
    );
}

fn certificate() -> CertifiedKey<KeyPair> {
    generate_simple_self_signed(["localhost".to_owned()]).unwrap()
}

fn private_key(of: &CertifiedKey<KeyPair>) -> PrivateKeyDer<'static> {
    PrivateKeyDer::Pkcs8(of.signing_key.serialize_der().into())
}

/// A server that only admits clients with the certificate `client`.
fn server_config(
    server: &CertifiedKey<KeyPair>,
    client: &CertifiedKey<KeyPair>,
) -> Arc<ServerConfig> {
    let provider = Arc::new(default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(client.cert.der().clone()).unwrap();
    let verifier =
        WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
            .build()
            .unwrap();
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .unwrap()
        .with_client_cert_verifier(verifier)
        .with_single_cert(vec![server.cert.der().clone()], private_key(server));
    Arc::new(config.unwrap())
}

#[test]
fn reads_responses_over_mutual_tls_in_records_of_any_size() {
    let (server, client) = (certificate(), certificate());
    let config = server_config(&server, &client);
    let serve = |tcp: TcpStream| {
        let mut stream = StreamOwned::new(ServerConnection::new(config).unwrap(), tcp);
        for record_bytes in [1, 20, RESPONSE.len()] {
            read_request(&mut stream);
            for record in RESPONSE.chunks(record_bytes) {
                stream.write_all(record).unwrap();
                stream.flush().unwrap();
            }
        }
    };
    let identity = Identity {
        chain: vec![client.cert.der().clone()],
        key: private_key(&client),
    };
    let client_config = mutual_tls(identity, server.cert.der().clone()).unwrap();
    with_server(serve, |address| {
        let mut connection = Connection::open(&Route::Tls(address, client_config)).unwrap();
        for _ in 0..3 {
            assert_hello(&send(&mut connection).unwrap());
        }
    });
}
