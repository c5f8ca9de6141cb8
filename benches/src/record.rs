//! TLS 1.3 for a client that costs next to nothing: rustls shakes hands, then records are opened
//! where they were received and handed over by reference.
//!
//! Weighed against rustls all the way: it copies each byte three times more on its way from the
//! kernel, and a download over TLS then measures the client as much as the gateway.
//!
//! What is left out ends the connection with an error that says so: a change of keys, which comes
//! after some 24 million full records (RFC 8446 §5.5), and whatever a server need not send.

#[cfg(test)]
pub(crate) mod tests;

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::ops::Range;
use std::sync::Arc;

use aws_lc_rs::aead::{
    AES_128_GCM, AES_256_GCM, Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey,
};
use rustls::{
    AlertDescription, ClientConfig, ClientConnection, ConnectionTrafficSecrets, ContentType,
    ExtractedSecrets, HandshakeType, ProtocolVersion,
};
use rustls_pki_types::ServerName;

/// Content type, two bytes of version, two bytes of length (RFC 8446 §5.1).
const HEADER_BYTES: usize = 5;
/// Plaintext of one record at the most (RFC 8446 §5.1).
const FRAGMENT_BYTES: usize = 1 << 14;
/// What follows the header, at the most (RFC 8446 §5.2).
const SEALED_BYTES_MAX: usize = FRAGMENT_BYTES + 256;
/// A buffer to receive into has room for a record.
pub(crate) const RECORD_BYTES_MAX: usize = HEADER_BYTES + SEALED_BYTES_MAX;
/// The tag of each of the three ciphers.
const TAG_BYTES: usize = 16;
/// Records that are sealed before they are sent together: they stay in the processor's cache.
const RECORDS_AT_ONCE: usize = 4;

/// A TLS connection after its handshake.
pub(crate) struct Records {
    stream: TcpStream,
    opening: Direction,
    sealing: Direction,
    /// Received and not opened yet, in the caller's buffer.
    ahead: Range<usize>,
    /// Records on their way out.
    sealed: Vec<u8>,
}

impl Records {
    /// Shakes hands. The configuration must allow to extract secrets
    /// ([`ClientConfig::enable_secret_extraction`]).
    ///
    /// # Errors
    /// When the handshake fails, or agrees on anything but TLS 1.3.
    pub(crate) fn open(config: &Arc<ClientConfig>, mut stream: TcpStream) -> io::Result<Self> {
        let secrets = shake_hands(config, &mut stream)?;
        Ok(Self {
            stream,
            opening: Direction::new(secrets.rx)?,
            sealing: Direction::new(secrets.tx)?,
            ahead: 0..0,
            sealed: Vec::new(),
        })
    }

    /// Seals and sends.
    ///
    /// # Errors
    /// When the connection breaks.
    pub(crate) fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        for some in bytes.chunks(RECORDS_AT_ONCE * FRAGMENT_BYTES) {
            self.sealed.clear();
            for fragment in some.chunks(FRAGMENT_BYTES) {
                self.sealing.seal(fragment, &mut self.sealed)?;
            }
            self.stream.write_all(&self.sealed)?;
        }
        Ok(())
    }

    /// Waits for the next bytes; tells where in the buffer they are. It must be the same buffer each
    /// time, of at least [`RECORD_BYTES_MAX`]: it holds what was received beyond them.
    ///
    /// # Errors
    /// When the connection ends or breaks, a record is not what the server has sealed, or is one
    /// that this client does not know.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<Range<usize>> {
        loop {
            let (header, body) = self.record(buffer)?;
            let (kind, length) = self.opening.open(header, &mut buffer[body.clone()])?;
            let content = body.start..body.start + length;
            match kind {
                ContentType::ApplicationData if content.is_empty() => {}
                ContentType::ApplicationData => return Ok(content),
                ContentType::Handshake => pass_over_tickets(&buffer[content])?,
                ContentType::Alert => return Err(alert(&buffer[content])),
                other => return Err(broken(format!("a record of type {other:?}"))),
            }
        }
    }

    /// The header of the next record, and where its body is.
    fn record(&mut self, buffer: &mut [u8]) -> io::Result<(Header, Range<usize>)> {
        self.fill(buffer, HEADER_BYTES)?;
        let header = *buffer[self.ahead.clone()]
            .first_chunk()
            .expect("was waited for");
        // Nothing else comes after the handshake (RFC 8446 §5.1, §5.2).
        if ContentType::from(header[0]) != ContentType::ApplicationData {
            return Err(broken(format!("a record of type {} in clear", header[0])));
        }
        let whole = HEADER_BYTES + body_bytes(header)?;
        self.fill(buffer, whole)?;
        let start = self.ahead.start;
        self.ahead.start += whole;
        Ok((header, start + HEADER_BYTES..self.ahead.start))
    }

    /// Receives until so many bytes are there.
    fn fill(&mut self, buffer: &mut [u8], wanted: usize) -> io::Result<()> {
        while self.ahead.len() < wanted {
            if self.ahead.is_empty() {
                self.ahead = 0..0;
            } else if buffer.len() - self.ahead.start < RECORD_BYTES_MAX {
                buffer.copy_within(self.ahead.clone(), 0);
                self.ahead = 0..self.ahead.len();
            }
            match self.stream.read(&mut buffer[self.ahead.end..])? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                got => self.ahead.end += got,
            }
        }
        Ok(())
    }
}

/// Leaves nothing in rustls: it gets one record at a time, so that what comes behind the server's
/// last one, tickets above all, is still in the socket.
fn shake_hands(config: &Arc<ClientConfig>, stream: &mut TcpStream) -> io::Result<ExtractedSecrets> {
    let name = ServerName::try_from("localhost").expect("a name");
    let session = ClientConnection::new(Arc::clone(config), name);
    let mut session = session.map_err(io::Error::other)?;
    let mut record = Vec::new();
    loop {
        while session.wants_write() {
            session.write_tls(stream)?;
        }
        if !session.is_handshaking() {
            break;
        }
        read_record(stream, &mut record)?;
        let mut rest = record.as_slice();
        while !rest.is_empty() {
            session.read_tls(&mut rest)?;
            session.process_new_packets().map_err(io::Error::other)?;
        }
    }
    let version = session.protocol_version();
    if version != Some(ProtocolVersion::TLSv1_3) {
        let version = version.and_then(|version| version.as_str());
        return Err(unsupported(version.unwrap_or("this version")));
    }
    session
        .dangerous_extract_secrets()
        .map_err(io::Error::other)
}

/// Reads one record and not a byte more.
fn read_record(stream: &mut TcpStream, record: &mut Vec<u8>) -> io::Result<()> {
    let mut header = [0; HEADER_BYTES];
    stream.read_exact(&mut header)?;
    record.clear();
    record.extend_from_slice(&header);
    record.resize(HEADER_BYTES + body_bytes(header)?, 0);
    stream.read_exact(&mut record[HEADER_BYTES..])
}

type Header = [u8; HEADER_BYTES];

/// The length that a header tells, if a record may have it (RFC 8446 §5.2).
fn body_bytes(header: Header) -> io::Result<usize> {
    let length = usize::from(u16::from_be_bytes([header[3], header[4]]));
    if length > SEALED_BYTES_MAX {
        return Err(broken(format!("a record of {length} bytes")));
    }
    Ok(length)
}

/// The key of one direction, and how many records went that way.
struct Direction {
    key: LessSafeKey,
    iv: [u8; NONCE_LEN],
    sequence: u64,
}

impl Direction {
    fn new((sequence, secrets): (u64, ConnectionTrafficSecrets)) -> io::Result<Self> {
        let (algorithm, key, iv) = match secrets {
            ConnectionTrafficSecrets::Aes128Gcm { key, iv } => (&AES_128_GCM, key, iv),
            ConnectionTrafficSecrets::Aes256Gcm { key, iv } => (&AES_256_GCM, key, iv),
            ConnectionTrafficSecrets::Chacha20Poly1305 { key, iv } => (&CHACHA20_POLY1305, key, iv),
            _ => return Err(unsupported("the cipher that was agreed on")),
        };
        let key = UnboundKey::new(algorithm, key.as_ref());
        Ok(Self {
            key: LessSafeKey::new(key.map_err(io::Error::other)?),
            iv: iv.as_ref().try_into().map_err(io::Error::other)?,
            sequence,
        })
    }

    /// The next one: the record's number, on the right, over the IV (RFC 8446 §5.3).
    fn nonce(&mut self) -> Nonce {
        let mut nonce = self.iv;
        let number = self.sequence.to_be_bytes();
        for (byte, of) in nonce[NONCE_LEN - number.len()..].iter_mut().zip(number) {
            *byte ^= of;
        }
        self.sequence += 1;
        Nonce::assume_unique_for_key(nonce)
    }

    /// Opens a record's body in place; tells what it holds, and how much of that from its start on.
    fn open(&mut self, header: Header, body: &mut [u8]) -> io::Result<(ContentType, usize)> {
        let nonce = self.nonce();
        let opened = self.key.open_in_place(nonce, Aad::from(header), body);
        let inner = opened.map_err(|_| broken("a record that is not what was sealed"))?;
        // Content, its type, zeros as padding (RFC 8446 §5.2, §5.4).
        let length = inner.iter().rposition(|byte| *byte != 0);
        let length = length.ok_or_else(|| broken("a record of nothing but padding"))?;
        Ok((ContentType::from(inner[length]), length))
    }

    /// Appends a record with this plaintext (RFC 8446 §5.2).
    fn seal(&mut self, fragment: &[u8], into: &mut Vec<u8>) -> io::Result<()> {
        let length = fragment.len() + 1 + TAG_BYTES;
        let length = u16::try_from(length).expect("a fragment").to_be_bytes();
        let kind = u8::from(ContentType::ApplicationData);
        let header = [kind, 3, 3, length[0], length[1]];
        into.extend_from_slice(&header);
        let start = into.len();
        into.extend_from_slice(fragment);
        into.push(kind);
        let nonce = self.nonce();
        let body = &mut into[start..];
        let tag = self
            .key
            .seal_in_place_separate_tag(nonce, Aad::from(header), body);
        into.extend_from_slice(tag.map_err(io::Error::other)?.as_ref());
        Ok(())
    }
}

/// Messages after the handshake (RFC 8446 §4.6): tickets for another time are of no use here.
fn pass_over_tickets(mut messages: &[u8]) -> io::Result<()> {
    while !messages.is_empty() {
        let in_pieces = || broken("a handshake message in pieces");
        let [kind, high, middle, low, rest @ ..] = messages else {
            return Err(in_pieces());
        };
        let kind = HandshakeType::from(*kind);
        if kind != HandshakeType::NewSessionTicket {
            return Err(broken(format!("the handshake message {kind:?}")));
        }
        let length = u16::from_be_bytes([*middle, *low]);
        let length = usize::from(*high) << 16 | usize::from(length);
        messages = rest.get(length..).ok_or_else(in_pieces)?;
    }
    Ok(())
}

fn alert(content: &[u8]) -> io::Error {
    match content {
        [_, kind] => broken(format!("the alert {:?}", AlertDescription::from(*kind))),
        _ => broken("an alert that is none"),
    }
}

fn broken(what: impl std::fmt::Display) -> io::Error {
    let text = format!("the server sent {what}");
    io::Error::new(io::ErrorKind::InvalidData, text)
}

fn unsupported(what: impl std::fmt::Display) -> io::Error {
    let text = format!("{what} is not what this client speaks");
    io::Error::new(io::ErrorKind::Unsupported, text)
}
