//! A raw socket: requests byte for byte as written, responses with the letter case and the order of
//! their headers.

use std::fmt;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, StreamOwned};
use serde_json::Value;

/// Timeout of a test for the other side.
const TIMEOUT: Duration = Duration::from_secs(30);

enum Stream {
    Plain(TcpStream),
    Tls(Box<StreamOwned<ClientConnection, TcpStream>>),
}

/// One connection.
pub(crate) struct Raw {
    stream: Stream,
    buffered: Vec<u8>,
}

impl fmt::Debug for Raw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Raw").finish_non_exhaustive()
    }
}

impl Raw {
    /// Without TLS, as a proxy connects.
    pub(crate) fn plain(address: SocketAddr) -> Self {
        Self {
            stream: Stream::Plain(connect(address)),
            buffered: Vec::new(),
        }
    }

    /// With TLS.
    pub(crate) fn tls(address: SocketAddr, config: Arc<ClientConfig>) -> Self {
        let name = ServerName::try_from("localhost").unwrap();
        let tls = ClientConnection::new(config, name).unwrap();
        Self {
            stream: Stream::Tls(Box::new(StreamOwned::new(tls, connect(address)))),
            buffered: Vec::new(),
        }
    }

    /// Sends bytes unchanged.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.try_send(bytes).unwrap();
    }

    /// Sends bytes to a peer that may close early.
    pub(crate) fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> std::io::Result<()> {
        match &mut self.stream {
            Stream::Plain(stream) => stream.write_all(bytes.as_ref()),
            Stream::Tls(stream) => stream
                .write_all(bytes.as_ref())
                .and_then(|()| stream.flush()),
        }
    }

    /// Sends a complete request and reads its response.
    pub(crate) fn ask(&mut self, request: impl AsRef<[u8]>) -> Answer {
        let without_body = request.as_ref().starts_with(b"HEAD ");
        self.send(request);
        self.answer(without_body)
    }

    /// Reads one response, which has a `Content-Length` or no body.
    pub(crate) fn answer(&mut self, without_body: bool) -> Answer {
        let end = loop {
            let at = self
                .buffered
                .windows(4)
                .position(|four| four == b"\r\n\r\n");
            if let Some(at) = at {
                break at + 4;
            }
            let closed = self.read_more() == 0;
            assert!(!closed, "closed before an answer: {:?}", self.buffered);
        };
        let rest = self.buffered.split_off(end);
        let head = String::from_utf8(std::mem::replace(&mut self.buffered, rest)).unwrap();
        let mut answer = Answer::new(head);
        let length = answer.any_case("content-length");
        let length = length.map_or(0, |text| text.parse().unwrap());
        let length: usize = if without_body { 0 } else { length };
        while self.buffered.len() < length {
            assert!(self.read_more() > 0, "closed inside an answer: {answer:?}");
        }
        let rest = self.buffered.split_off(length);
        answer.body = std::mem::replace(&mut self.buffered, rest);
        answer
    }

    fn read_more(&mut self) -> usize {
        let mut chunk = [0; 64 << 10];
        let read = match &mut self.stream {
            Stream::Plain(stream) => stream.read(&mut chunk),
            Stream::Tls(stream) => stream.read(&mut chunk),
        };
        match read {
            Ok(count) => {
                self.buffered.extend_from_slice(&chunk[..count]);
                count
            }
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::TimedOut) => {
                panic!("nothing came within {TIMEOUT:?}");
            }
            // A reset counts as an end.
            Err(_) => 0,
        }
    }

    /// Waits until the other side closes; returns how long that took.
    pub(crate) fn until_closed(&mut self) -> Duration {
        let begun = Instant::now();
        while self.read_more() > 0 {}
        begun.elapsed()
    }
}

fn connect(address: SocketAddr) -> TcpStream {
    let stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    stream.set_read_timeout(Some(TIMEOUT)).unwrap();
    stream.set_write_timeout(Some(TIMEOUT)).unwrap();
    stream
}

/// A response, unchanged.
#[derive(Clone)]
pub(crate) struct Answer {
    pub(crate) head: String,
    pub(crate) status: u16,
    /// Names and values, in their letter case and order.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl fmt::Debug for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let shown = &self.body[..self.body.len().min(600)];
        write!(f, "{}{}", self.head, String::from_utf8_lossy(shown))
    }
}

impl Answer {
    fn new(head: String) -> Self {
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap();
        assert!(status.starts_with("HTTP/1.1 "), "{head}");
        let status = status[9..12].parse().unwrap();
        let pair = |line: &str| {
            let (name, value) = line
                .split_once(": ")
                .unwrap_or_else(|| (line.trim_end_matches(':'), ""));
            (name.to_owned(), value.to_owned())
        };
        let headers = lines.map(pair).collect();
        Self {
            head,
            status,
            headers,
            body: Vec::new(),
        }
    }

    /// A header by its exact letter case, as IT looks it up.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let found = self.headers.iter().find(|(found, _)| found == name);
        found.map(|(_, value)| value.as_str())
    }

    /// A header by its case-insensitive name, as other clients look it up.
    pub(crate) fn any_case(&self, name: &str) -> Option<&str> {
        let mut headers = self.headers.iter();
        let found = headers.find(|(found, _)| found.eq_ignore_ascii_case(name));
        found.map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("no JSON: {self:?}"))
    }

    /// The member `code` of an error.
    #[track_caller]
    pub(crate) fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }

    /// The member `message` of an error.
    #[track_caller]
    pub(crate) fn message(&self) -> String {
        self.json()["message"]
            .as_str()
            .unwrap_or_default()
            .to_owned()
    }

    /// Fails unless the response has this status.
    #[track_caller]
    pub(crate) fn expect(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{self:?}");
        self
    }

    /// Fails unless it is an error in the common form: JSON with `message` and `code`, and no
    /// `batchTag`.
    #[track_caller]
    pub(crate) fn expect_error(self, status: u16, message: &str) -> Self {
        assert_eq!(
            (self.status, self.message().as_str()),
            (status, message),
            "{self:?}"
        );
        assert_eq!(
            self.header("Content-Type"),
            Some("application/json"),
            "{self:?}"
        );
        assert_eq!(self.any_case("batchTag"), None, "{self:?}");
        assert!(!self.code().is_empty(), "{self:?}");
        self
    }
}

/// A request that is built header by header; they are sent in that order.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    line: String,
    headers: Vec<(String, Vec<u8>)>,
    body: Vec<u8>,
}

impl Request {
    pub(crate) fn new(method: &str, path: &str) -> Self {
        Self {
            line: format!("{method} {path} HTTP/1.1\r\n"),
            headers: vec![("Host".to_owned(), b"efgs".to_vec())],
            body: Vec::new(),
        }
    }

    pub(crate) fn get(path: &str) -> Self {
        Self::new("GET", path)
    }

    /// Appends a header.
    pub(crate) fn with(mut self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.headers
            .push((name.to_owned(), value.as_ref().to_vec()));
        self
    }

    /// Removes every header of that name.
    pub(crate) fn without(mut self, name: &str) -> Self {
        self.headers
            .retain(|(found, _)| !found.eq_ignore_ascii_case(name));
        self
    }

    /// Replaces every header of that name.
    pub(crate) fn set(self, name: &str, value: impl AsRef<[u8]>) -> Self {
        self.without(name).with(name, value)
    }

    pub(crate) fn path(mut self, method: &str, path: &str) -> Self {
        self.line = format!("{method} {path} HTTP/1.1\r\n");
        self
    }

    pub(crate) fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into();
        self
    }

    /// The head, with the empty line, and a `Content-Length` where a method has a body.
    pub(crate) fn head(&self) -> Vec<u8> {
        let mut out = self.line.clone().into_bytes();
        for (name, value) in &self.headers {
            out.extend([name.as_bytes(), b": ", value, b"\r\n"].concat());
        }
        let framed = self.headers.iter().any(|(name, _)| {
            name.eq_ignore_ascii_case("Transfer-Encoding")
                || name.eq_ignore_ascii_case("Content-Length")
        });
        if !framed && (self.line.starts_with("POST") || !self.body.is_empty()) {
            out.extend(format!("Content-Length: {}\r\n", self.body.len()).into_bytes());
        }
        out.extend(b"\r\n");
        out
    }

    pub(crate) fn bytes(&self) -> Vec<u8> {
        [self.head(), self.body.clone()].concat()
    }
}
