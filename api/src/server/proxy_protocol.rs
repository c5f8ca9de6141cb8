//! The PROXY protocol, version 2: a load balancer that forwards TCP says in front of the TLS handshake who
//! has connected to it (<https://www.haproxy.org/download/3.2/doc/proxy-protocol.txt>).
//!
//! Only the balancers that are listed are read so, and each connection of theirs must begin with a
//! header: whoever may send one chooses the address that counts in logs and limits. What a participant
//! may do rests on its certificate alone.

use std::io;
use std::net::{IpAddr, SocketAddr};

use proxy_header::{ParseConfig, ProxyHeader};
use tokio::io::{AsyncRead, AsyncReadExt as _};

use crate::settings::Network;

/// Signature, version, family and length: in front of every header.
const PREFIX_BYTES: usize = 16;
/// Longest header, in bytes. Balancers add a few hundred at most to the addresses.
const HEADER_BYTES_MAX: usize = 4096;
const VERSION_2: ParseConfig = ParseConfig {
    include_tlvs: false,
    allow_v1: false,
    allow_v2: true,
};

/// The balancers that are listed.
#[derive(Debug, Clone, Default)]
pub(super) struct Balancers(Vec<Network>);

impl Balancers {
    pub(super) const fn new(networks: Vec<Network>) -> Self {
        Self(networks)
    }

    /// Whether connections from this address begin with a header.
    pub(super) fn contain(&self, address: IpAddr) -> bool {
        self.0.iter().any(|network| network.contains(address))
    }
}

/// Reads a header and nothing behind it. `None`: the balancer speaks for itself, as its health checks
/// do, or does not know.
///
/// # Errors
/// Those of the stream; [`io::ErrorKind::InvalidData`] when there is no header of version 2, or one
/// longer than 4 KiB.
pub(super) async fn read_client(
    stream: &mut (impl AsyncRead + Unpin),
) -> io::Result<Option<SocketAddr>> {
    let mut header = vec![0; PREFIX_BYTES];
    stream.read_exact(&mut header).await?;
    let length = usize::from(u16::from_be_bytes([header[14], header[15]]));
    // Before it is believed how much follows.
    let begins_well = matches!(
        ProxyHeader::parse(&header, VERSION_2),
        Ok(_) | Err(proxy_header::Error::BufferTooShort)
    );
    if !begins_well || PREFIX_BYTES + length > HEADER_BYTES_MAX {
        return Err(io::ErrorKind::InvalidData.into());
    }
    header.resize(PREFIX_BYTES + length, 0);
    stream.read_exact(&mut header[PREFIX_BYTES..]).await?;
    let (header, _) = ProxyHeader::parse(&header, VERSION_2)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))?;
    Ok(header.proxied_address().map(|address| address.source))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As section 2.2 of the protocol lays it out.
    fn header(command: u8, family: u8, addresses: &[u8]) -> Vec<u8> {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(addresses.len()).unwrap().to_be_bytes());
        bytes.extend(addresses);
        bytes
    }

    const IPV4: [u8; 12] = [192, 0, 2, 7, 10, 0, 0, 1, 0x30, 0x39, 0x20, 0xfb];

    async fn read(bytes: &[u8]) -> (Option<Option<SocketAddr>>, usize) {
        let mut stream = bytes;
        let read = read_client(&mut stream).await;
        (read.ok(), stream.len())
    }

    #[tokio::test]
    async fn reads_who_connected_and_nothing_behind() {
        let client = |text: &str| Some(Some(text.parse().unwrap()));
        let mut bytes = header(1, 0x11, &IPV4);
        bytes.extend(b"tls");
        assert_eq!(read(&bytes).await, (client("192.0.2.7:12345"), 3));
        let extended = [&IPV4[..], &[4, 0, 2, 0, 0]].concat();
        let mut bytes = header(1, 0x11, &extended);
        bytes.extend(b"tls");
        assert_eq!(read(&bytes).await, (client("192.0.2.7:12345"), 3));
        let address: std::net::Ipv6Addr = "2001:db8::7".parse().unwrap();
        let ipv6 = [&address.octets()[..], &[0; 16], &[0, 80, 0, 81]].concat();
        let bytes = header(1, 0x21, &ipv6);
        assert_eq!(read(&bytes).await, (client("[2001:db8::7]:80"), 0));
    }

    #[tokio::test]
    async fn leaves_the_address_of_a_balancer_that_speaks_for_itself() {
        for bytes in [
            header(0, 0, &[]),
            header(0, 0x11, &IPV4),
            header(1, 0, &[]),
            header(1, 0x31, &[0; 216]),
        ] {
            assert_eq!(read(&bytes).await, (Some(None), 0), "{bytes:?}");
        }
    }

    #[tokio::test]
    async fn refuses_what_is_no_header_of_version_2() {
        let mut version_3 = header(1, 0x11, &IPV4);
        version_3[12] = 0x31;
        let cases: [Vec<u8>; 8] = [
            Vec::new(),
            b"PROXY TCP4 192.0.2.7 10.0.0.1 12345 8443\r\n".to_vec(),
            vec![0x16; 600],
            header(1, 0x11, &IPV4)[..20].to_vec(),
            header(1, 0x11, &IPV4[..11]),
            header(1, 0x41, &IPV4),
            header(1, 0x11, &[0; 5000]),
            version_3,
        ];
        for bytes in cases {
            let (read, _) = read(&bytes).await;
            assert_eq!(read, None, "{bytes:?}");
        }
        // The longest one that is read.
        let longest = [&IPV4[..], &[0; HEADER_BYTES_MAX - PREFIX_BYTES - 12]].concat();
        assert!(read(&header(1, 0x11, &longest)).await.0.is_some());
    }
}
