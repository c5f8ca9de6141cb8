//! Ports for servers that are told where to listen, and listen there again after a restart.

use std::io;
use std::net::{Ipv4Addr, TcpListener};
use std::ops::Range;

use rand::Rng as _;

/// Below those that Linux gives to connections and to listeners on port 0 (`ip_local_port_range`): what
/// was free stays free until the server listens, whatever else connects meanwhile.
const PORTS: Range<u16> = 10_000..32_768;
const ATTEMPTS: usize = 1000;

/// A random port of 127.0.0.1 on which nothing listens.
///
/// # Errors
/// When a thousand attempts found none.
pub fn free_port() -> io::Result<u16> {
    let mut random = rand::rng();
    let mut refused = io::Error::from(io::ErrorKind::AddrInUse);
    for _ in 0..ATTEMPTS {
        let port = random.random_range(PORTS);
        match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
            Ok(_) => return Ok(port),
            Err(error) => refused = error,
        }
    }
    Err(refused)
}
