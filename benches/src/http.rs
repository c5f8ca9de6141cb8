//! A client that costs next to nothing: blocking sockets, requests rendered ahead of time, answers
//! read into one buffer and dropped. HTTP/1.1 with kept-alive connections, plain or with mutual TLS,
//! whose records are opened in that buffer.

#[cfg(test)]
mod tests;

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::ops::Range;
use std::sync::Arc;
use std::time::Duration;

use engine::upload::UploadRequest;
use loadgen::participants::Identity;
use rustls::client::Resumption;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::CertificateDer;

use crate::backend::Backend;
use crate::record::{RECORD_BYTES_MAX, Records};

/// Read at a time.
const BUFFER_BYTES: usize = 256 << 10;
const _: () = assert!(BUFFER_BYTES >= RECORD_BYTES_MAX);
/// No server takes longer to answer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// A request, as it goes over the wire.
#[derive(Debug, Clone)]
pub struct Rendered {
    head: Vec<u8>,
    body: bytes::Bytes,
}

impl Rendered {
    /// An upload in protobuf, with the identity headers of proxy mode.
    pub fn upload(request: &UploadRequest) -> Self {
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
    pub fn get(path: &str, headers: &[(&str, String)]) -> Self {
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

/// What a participant says about itself and what it wants, for downloads in proxy mode.
pub fn download_headers(backend: &Backend, tag: Option<&str>) -> Vec<(&'static str, String)> {
    let mut headers = vec![
        ("Accept", "application/protobuf; version=1.0".to_owned()),
        ("X-SSL-Client-SHA256", backend.thumbprint().to_string()),
        ("X-SSL-Client-DN", format!("C={}", backend.country)),
    ];
    headers.extend(tag.map(|tag| ("batchTag", tag.to_owned())));
    headers
}

/// An answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The head, as it came.
    pub head: String,
    /// Bytes in the body.
    pub body_bytes: usize,
}

impl Answer {
    /// The value of a header; names in any letter case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (found, value) = line.split_once(':')?;
            found.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }
}

/// How to reach a gateway.
#[derive(Debug, Clone)]
pub enum Route {
    /// As a proxy that has ended TLS.
    Plain(SocketAddr),
    /// As a participant; the configuration is one of [`mutual_tls`].
    Tls(SocketAddr, Arc<ClientConfig>),
}

/// The TLS 1.3 of a participant that trusts one authority. Every handshake is a whole one.
///
/// # Errors
/// When rustls refuses a certificate or the key.
pub fn mutual_tls(
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
    config.enable_secret_extraction = true;
    config.resumption = Resumption::disabled();
    Ok(Arc::new(config))
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<Records>),
}

impl Wire {
    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.write_all(bytes),
            Self::Tls(records) => records.send(bytes),
        }
    }

    /// Waits for the next bytes; tells where in the buffer they are.
    fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Range<usize>> {
        match self {
            Self::Plain(stream) => match stream.read(buffer)? {
                0 => Err(io::ErrorKind::UnexpectedEof.into()),
                got => Ok(0..got),
            },
            Self::Tls(records) => records.receive(buffer),
        }
    }
}

/// A kept-alive connection.
pub struct Connection {
    wire: Wire,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Connection").finish_non_exhaustive()
    }
}

impl Connection {
    /// Connects; for TLS, shakes hands.
    ///
    /// # Errors
    /// When there is no connection.
    pub fn open(route: &Route) -> io::Result<Self> {
        let tcp = |address| {
            let stream = TcpStream::connect_timeout(address, TIMEOUT)?;
            stream.set_nodelay(true)?;
            stream.set_read_timeout(Some(TIMEOUT))?;
            Ok::<_, io::Error>(stream)
        };
        let wire = match route {
            Route::Plain(address) => Wire::Plain(tcp(address)?),
            Route::Tls(address, config) => {
                Wire::Tls(Box::new(Records::open(config, tcp(address)?)?))
            }
        };
        Ok(Self {
            wire,
            buffer: vec![0; BUFFER_BYTES],
        })
    }

    /// Sends a request and reads the whole answer.
    ///
    /// # Errors
    /// When the connection breaks, or the answer has no length.
    pub fn ask(&mut self, request: &Rendered) -> io::Result<Answer> {
        let mut body = Vec::new();
        self.ask_into(request, |bytes| {
            // Only what tells of a refusal is kept.
            if body.len() + bytes.len() < 4096 {
                body.extend_from_slice(bytes);
            }
        })
        .map(|mut answer| {
            if answer.status >= 400 {
                answer.head.push_str(&String::from_utf8_lossy(&body));
            }
            answer
        })
    }

    /// The same; the body goes to `take`, piece by piece.
    ///
    /// # Errors
    /// When the connection breaks, or the answer has no length.
    pub fn ask_into(
        &mut self,
        request: &Rendered,
        mut take: impl FnMut(&[u8]),
    ) -> io::Result<Answer> {
        self.wire.send(&request.head)?;
        self.wire.send(&request.body)?;
        let (head, mut piece) = self.read_head()?;
        let mut answer = Answer {
            status: head
                .get(9..12)
                .and_then(|code| code.parse().ok())
                .unwrap_or(0),
            head,
            body_bytes: 0,
        };
        let length = answer
            .header("content-length")
            .and_then(|text| text.parse().ok());
        answer.body_bytes = length
            .or_else(|| (answer.status == 204).then_some(0))
            .ok_or_else(|| io::Error::other(format!("no length: {}", answer.head)))?;
        let mut left = answer.body_bytes;
        loop {
            left = left
                .checked_sub(piece.len())
                .ok_or_else(|| io::Error::other("a body longer than its head says"))?;
            take(&self.buffer[piece]);
            if left == 0 {
                return Ok(answer);
            }
            piece = self.wire.receive(&mut self.buffer)?;
        }
    }

    /// Reads until the head is whole; tells it, and where what follows it is.
    fn read_head(&mut self) -> io::Result<(String, Range<usize>)> {
        let mut head = Vec::new();
        loop {
            let mut piece = self.wire.receive(&mut self.buffer)?;
            for line in self.buffer[piece.clone()].split_inclusive(|byte| *byte == b'\n') {
                head.extend_from_slice(line);
                piece.start += line.len();
                if head.ends_with(b"\r\n\r\n") {
                    return Ok((String::from_utf8_lossy(&head).into_owned(), piece));
                }
            }
        }
    }
}
