//! A national backend's receiver of callbacks, and an HTTP proxy before it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use engine::domain::Thumbprint;
use rustls::client::danger::HandshakeSignatureValid;
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{
    DigitallySignedStruct, DistinguishedName, Error, ServerConfig, SignatureScheme,
    SupportedProtocolVersion,
};
use rustls_pki_types::{CertificateDer, UnixTime};
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio_rustls::TlsAcceptor;

use super::{Pair, TIMEOUT, thumbprint};

/// How to respond to a request.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    /// With this header, without its final empty line and its length of 0.
    Head(&'static str),
    /// Never.
    Hang,
    /// By closing the connection.
    Close,
}

/// A request as received.
#[derive(Debug)]
pub(crate) struct Told {
    /// The header of the request, as sent.
    pub(crate) head: String,
    /// The bytes after it.
    pub(crate) more: Vec<u8>,
    /// Thumbprint of the gateway's certificate.
    pub(crate) gateway: Thumbprint,
    /// The server name (SNI) of the TLS handshake.
    pub(crate) server_name: Option<String>,
}

impl Told {
    /// The request target.
    pub(crate) fn target(&self) -> &str {
        self.head.split(' ').nth(1).unwrap()
    }

    pub(crate) fn tag(&self) -> &str {
        let query = self.target().split_once("?batchTag=").unwrap().1;
        query.split('&').next().unwrap()
    }
}

/// A receiver that listens.
pub(crate) struct Receiver {
    pub(crate) address: SocketAddr,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    told: mpsc::Receiver<Told>,
}

impl Receiver {
    /// With this certificate. Responds with 200 by default.
    pub(crate) async fn start(pair: &Pair) -> Self {
        Self::speaking(pair, rustls::ALL_VERSIONS).await
    }

    /// The same, with some versions of TLS only.
    pub(crate) async fn speaking(
        pair: &Pair,
        versions: &[&'static SupportedProtocolVersion],
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let answers: Arc<Mutex<VecDeque<Answer>>> = Arc::default();
        let (sender, told) = mpsc::channel(1000);
        let acceptor = TlsAcceptor::from(Arc::new(server_config(pair, versions)));
        let shared = Arc::clone(&answers);
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                tokio::spawn(serve(
                    stream,
                    acceptor.clone(),
                    Arc::clone(&shared),
                    sender.clone(),
                ));
            }
        });
        Self {
            address,
            answers,
            told,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("https://localhost:{}/callback", self.address.port())
    }

    /// Sets the responses to the next requests.
    pub(crate) fn answer(&self, answers: impl IntoIterator<Item = Answer>) {
        self.answers.lock().unwrap().extend(answers);
    }

    /// Waits for a request.
    pub(crate) async fn told(&mut self) -> Told {
        let told = tokio::time::timeout(TIMEOUT, self.told.recv()).await;
        told.expect("a callback comes").unwrap()
    }

    /// A request that has already arrived.
    pub(crate) fn already_received(&mut self) -> Option<Told> {
        self.told.try_recv().ok()
    }
}

/// Presents the certificate without validating it.
fn server_config(pair: &Pair, versions: &[&'static SupportedProtocolVersion]) -> ServerConfig {
    let provider = Arc::new(aws_lc_rs::default_provider());
    let key = aws_lc_rs::sign::any_supported_type(&pair.private_key()).unwrap();
    let shown = CertifiedKey::new(pair.chain(), key);
    ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(versions)
        .unwrap()
        .with_client_cert_verifier(Arc::new(AnyClient(provider)))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(shown)))
}

async fn serve(
    stream: TcpStream,
    acceptor: TlsAcceptor,
    answers: Arc<Mutex<VecDeque<Answer>>>,
    sender: mpsc::Sender<Told>,
) {
    // The gateway disconnects from receivers that it does not trust.
    let Ok(stream) = acceptor.accept(stream).await else {
        return;
    };
    let connection = stream.get_ref().1;
    let shown = connection.peer_certificates().unwrap();
    let (gateway, server_name) = (thumbprint(&shown[0]), connection.server_name());
    let server_name = server_name.map(ToOwned::to_owned);
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if stream.read_line(&mut head).await.unwrap_or(0) == 0 {
            return;
        }
    }
    let more = stream.buffer().to_vec();
    let answer = answers.lock().unwrap().pop_front();
    let told = Told {
        head,
        more,
        gateway,
        server_name,
    };
    sender.send(told).await.unwrap();
    match answer.unwrap_or(Answer::Head("HTTP/1.1 200 OK")) {
        Answer::Head(head) => {
            let answer = format!("{head}\r\nContent-Length: 0\r\n\r\n");
            // The gateway may have disconnected.
            let _ = stream.write_all(answer.as_bytes()).await;
            let _ = stream.flush().await;
            let mut rest = Vec::new();
            let _ = stream.read_to_end(&mut rest).await;
        }
        Answer::Hang => std::future::pending().await,
        Answer::Close => {}
    }
}

/// Accepts every client that proves possession of its certificate's key.
#[derive(Debug)]
struct AnyClient(Arc<CryptoProvider>);

impl ClientCertVerifier for AnyClient {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        &[]
    }

    fn verify_client_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: UnixTime,
    ) -> Result<ClientCertVerified, Error> {
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.0.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.0.signature_verification_algorithms.supported_schemes()
    }
}

/// A proxy that accepts CONNECT with the right credentials; returns its address and the headers of
/// the requests that it receives.
pub(crate) async fn proxy(authorization: &'static str) -> (SocketAddr, mpsc::Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (sender, heads) = mpsc::channel(100);
    tokio::spawn(async move {
        loop {
            let (stream, _) = listener.accept().await.unwrap();
            tokio::spawn(tunnel(stream, authorization, sender.clone()));
        }
    });
    (address, heads)
}

async fn tunnel(stream: TcpStream, authorization: &str, sender: mpsc::Sender<String>) {
    let mut stream = BufReader::new(stream);
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        assert!(stream.read_line(&mut head).await.unwrap() > 0);
    }
    let let_in = head.contains(authorization);
    let target = head.split(' ').nth(1).unwrap().to_owned();
    sender.send(head).await.unwrap();
    if !let_in {
        let refused = b"HTTP/1.1 407 Proxy Authentication Required\r\nContent-Length: 0\r\n\r\n";
        let _ = stream.write_all(refused).await;
        return;
    }
    let mut receiver = TcpStream::connect(target).await.unwrap();
    stream
        .write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")
        .await
        .unwrap();
    // Ends when either side closes.
    let _ = tokio::io::copy_bidirectional(&mut stream, &mut receiver).await;
}
