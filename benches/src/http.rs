//! A client that costs next to nothing: blocking sockets, requests rendered ahead of time, answers
//! read into one buffer and dropped. HTTP/1.1 with kept-alive connections, plain or with mutual TLS.

use std::io::{self, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use engine::upload::UploadRequest;
use loadgen::participants::Identity;
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use rustls_pki_types::{CertificateDer, ServerName};

use crate::backend::Backend;

/// Read at a time.
const BUFFER_BYTES: usize = 256 << 10;
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
    /// As a participant.
    Tls(SocketAddr, Arc<ClientConfig>),
}

/// The TLS of a participant that trusts one authority.
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
    let config = ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots)
        .with_client_auth_cert(identity.chain, identity.key)?;
    Ok(Arc::new(config))
}

/// A socket that is read in large pieces: rustls asks for 4 KiB at a time.
#[derive(Debug)]
struct Buffered(BufReader<TcpStream>);

impl Read for Buffered {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        self.0.read(into)
    }
}

impl Write for Buffered {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.get_mut().write(bytes)
    }

    fn write_vectored(&mut self, slices: &[io::IoSlice<'_>]) -> io::Result<usize> {
        self.0.get_mut().write_vectored(slices)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.get_mut().flush()
    }
}

enum Wire {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, Buffered>>),
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
    /// Connects; for TLS, the handshake comes with the first request.
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
                let name = ServerName::try_from("localhost").expect("a name");
                let session = ClientConnection::new(Arc::clone(config), name);
                let session = session.map_err(io::Error::other)?;
                let stream = Buffered(BufReader::with_capacity(BUFFER_BYTES, tcp(address)?));
                Wire::Tls(Box::new(StreamOwned::new(session, stream)))
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
        self.stream().write_all(&request.head)?;
        self.stream().write_all(&request.body)?;
        self.stream().flush()?;
        let (head_bytes, mut filled) = self.read_head()?;
        let head = String::from_utf8_lossy(&self.buffer[..head_bytes]).into_owned();
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
        take(&self.buffer[head_bytes..filled]);
        let mut left = answer.body_bytes - (filled - head_bytes);
        while left > 0 {
            filled = self.read(0)?;
            take(&self.buffer[..filled]);
            left -= filled.min(left);
        }
        Ok(answer)
    }

    /// Reads until the head is whole; tells where it ends, and how much is there.
    fn read_head(&mut self) -> io::Result<(usize, usize)> {
        let mut filled = 0;
        loop {
            filled += self.read(filled)?;
            let end = self.buffer[..filled]
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                return Ok((end + 4, filled));
            }
        }
    }

    fn read(&mut self, at: usize) -> io::Result<usize> {
        let got = match &mut self.wire {
            Wire::Plain(stream) => stream.read(&mut self.buffer[at..])?,
            Wire::Tls(stream) => stream.read(&mut self.buffer[at..])?,
        };
        if got == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        Ok(got)
    }

    fn stream(&mut self) -> &mut dyn Write {
        match &mut self.wire {
            Wire::Plain(stream) => stream,
            Wire::Tls(stream) => stream,
        }
    }
}
