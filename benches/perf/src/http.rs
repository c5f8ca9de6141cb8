//! A small client: blocking sockets, requests rendered ahead of time, response bodies read into one
//! buffer and dropped. HTTP/1.1 with keep-alive, plain or with mutual TLS by rustls.

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use benches::Backend;
use engine::upload::UploadRequest;
use rustls::client::Resumption;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};
use testkit::participants::Identity;

/// Size of a connection's receive buffer.
const BUFFER_BYTES: usize = 256 << 10;
/// Connect and read timeout.
const TIMEOUT: Duration = Duration::from_secs(30);

/// An HTTP request, already encoded.
#[derive(Debug, Clone)]
pub(crate) struct EncodedRequest {
    head: Vec<u8>,
    body: bytes::Bytes,
}

impl EncodedRequest {
    /// An upload in protobuf, with the identity headers of proxy mode.
    pub(crate) fn upload(request: &UploadRequest) -> Self {
        let head = format!(
            "POST /diagnosiskeys/upload HTTP/1.1\r\nHost: localhost\r\n\
             Content-Type: application/protobuf; version=1.0\r\n\
             Content-Length: {}\r\nbatchTag: {}\r\nbatchSignature: {}\r\n\
             X-SSL-Client-SHA256: {}\r\nX-SSL-Client-DN: C={}\r\n\r\n",
            request.body.len(),
            request.tag.as_str(),
            request.batch_signature,
            request.uploader,
            request.country
        );
        Self {
            head: head.into_bytes(),
            body: request.body.clone(),
        }
    }

    /// A request without a body.
    pub(crate) fn get(path: &str, headers: &[(&str, String)]) -> Self {
        let mut head = format!("GET {path} HTTP/1.1\r\nHost: localhost\r\n");
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        Self {
            head: head.into_bytes(),
            body: bytes::Bytes::new(),
        }
    }
}

/// Request headers of a download in proxy mode.
pub(crate) fn download_headers(
    backend: &Backend,
    tag: Option<&str>,
) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("Accept", "application/protobuf; version=1.0".to_owned()),
        ("X-SSL-Client-SHA256", backend.thumbprint().to_string()),
        ("X-SSL-Client-DN", format!("C={}", backend.country)),
    ];
    headers.extend(tag.map(|tag| ("batchTag", tag.to_owned())));
    headers
}

/// A response, without its body.
#[derive(Debug, Clone)]
pub(crate) struct Response {
    /// The status code.
    pub(crate) status: u16,
    /// The status line and headers as received; of an error response, also the start of the body.
    pub(crate) head: String,
    /// Length of the body.
    pub(crate) body_bytes: usize,
}

impl Response {
    /// The value of a header; the name is case-insensitive.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// How to reach a gateway.
#[derive(Debug, Clone)]
pub(crate) enum Route {
    /// As a proxy that has terminated TLS.
    Plain(SocketAddr),
    /// As a participant, with a configuration from [`mutual_tls`].
    Tls(SocketAddr, Arc<ClientConfig>),
}

/// TLS 1.3 with a participant's certificate, trusting one authority. Sessions are not resumed: every
/// handshake is a full one.
///
/// # Errors
/// When rustls refuses a certificate or the key.
pub(crate) fn mutual_tls(
    identity: Identity,
    server_ca: CertificateDer<'static>,
) -> Result<Arc<ClientConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(server_ca)?;
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let mut config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain, identity.key)?;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

impl Stream {
    fn open(route: &Route) -> io::Result<Self> {
        let (Route::Plain(address) | Route::Tls(address, _)) = route;
        let tcp = TcpStream::connect_timeout(address, TIMEOUT)?;
        tcp.set_nodelay(true)?;
        tcp.set_read_timeout(Some(TIMEOUT))?;
        let Route::Tls(_, config) = route else {
            return Ok(Self::Plain(tcp));
        };
        let name = ServerName::try_from("localhost").expect("a valid name");
        let session = ClientConnection::new(Arc::clone(config), name).map_err(io::Error::other)?;
        let mut tls = StreamOwned::new(session, tcp);
        while tls.conn.is_handshaking() {
            tls.conn.complete_io(&mut tls.sock)?;
        }
        Ok(Self::Tls(Box::new(tls)))
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(stream) => {
                stream.write_all(bytes)?;
                stream.flush()
            }
        }
    }

    /// Waits for the next bytes and returns how many there are.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let received = match self {
            Self::Plain(stream) => stream.read(buffer)?,
            Self::Tls(stream) => stream.read(buffer)?,
        };
        match received {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            received => Ok(received),
        }
    }
}

/// A keep-alive connection.
pub(crate) struct Connection {
    stream: Stream,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects, and completes the TLS handshake if there is one.
    ///
    /// # Errors
    /// When the connection or the handshake fails.
    pub(crate) fn open(route: &Route) -> io::Result<Self> {
        Ok(Self {
            stream: Stream::open(route)?,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Sends a request and reads the whole response.
    ///
    /// # Errors
    /// When the connection breaks, or the response has no length.
    pub(crate) fn send(&mut self, request: &EncodedRequest) -> io::Result<Response> {
        let mut body = Vec::new();
        self.send_with(request, |bytes| {
            // The start of the body is enough to explain an error.
            if body.len() + bytes.len() < 4096 {
                body.extend_from_slice(bytes);
            }
        })
        .map(|mut response| {
            if response.status >= 400 {
                response.head.push_str(&String::from_utf8_lossy(&body));
            }
            response
        })
    }

    /// Like [`Self::send`]; passes the body to `consume` as it arrives.
    ///
    /// # Errors
    /// When the connection breaks, or the response has no length.
    pub(crate) fn send_with(
        &mut self,
        request: &EncodedRequest,
        mut consume: impl FnMut(&[u8]),
    ) -> io::Result<Response> {
        self.stream.send(&request.head)?;
        self.stream.send(&request.body)?;
        let (head, mut chunk) = self.read_head()?;
        let mut response = Response {
            status: head
                .get(9..12)
                .and_then(|code| code.parse().ok())
                .unwrap_or(0),
            head,
            body_bytes: 0,
        };
        let length = response
            .header("content-length")
            .and_then(|text| text.parse().ok());
        response.body_bytes = length
            .or_else(|| (response.status == 204).then_some(0))
            .ok_or_else(|| io::Error::other(format!("no content-length: {}", response.head)))?;
        let mut remaining = response.body_bytes;
        loop {
            remaining = remaining
                .checked_sub(chunk.len())
                .ok_or_else(|| io::Error::other("the body is longer than its content-length"))?;
            consume(&self.buffer[chunk]);
            if remaining == 0 {
                return Ok(response);
            }
            chunk = 0..self.stream.receive(&mut self.buffer)?;
        }
    }

    /// Reads until the head is complete. Returns it, and the part of the buffer that holds what follows.
    fn read_head(&mut self) -> io::Result<(String, Range<usize>)> {
        let mut head = Vec::new();
        loop {
            let mut chunk = 0..self.stream.receive(&mut self.buffer)?;
            for line in self.buffer[chunk.clone()].split_inclusive(|byte| *byte == b'\n') {
                head.extend_from_slice(line);
                chunk.start += line.len();
                if head.ends_with(b"\r\n\r\n") {
                    return Ok((String::from_utf8_lossy(&head).into_owned(), chunk));
                }
            }
        }
    }
}
