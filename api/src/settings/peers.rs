//! Whose identity headers are believed.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

/// An address or a network whose identity headers are believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TrustedPeer {
    network: IpAddr,
    prefix_bits: u8,
}

/// The text is no address and no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("a trusted peer is an address, as 10.0.0.7, or a network, as 10.1.0.0/16")]
pub struct TrustedPeerError;

impl TrustedPeer {
    /// Whether an address is this peer or in this network. An IPv4 address in its IPv6 form counts
    /// as the IPv4 address.
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.network, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix_bits)
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let differ = network.to_bits() ^ address.to_bits();
                differ.leading_zeros() >= u32::from(self.prefix_bits)
            }
            _ => false,
        }
    }
}

impl FromStr for TrustedPeer {
    type Err = TrustedPeerError;

    fn from_str(text: &str) -> Result<Self, TrustedPeerError> {
        let (address, prefix) = match text.split_once('/') {
            Some((address, prefix)) => (address, Some(prefix)),
            None => (text, None),
        };
        let network: IpAddr = address.parse().map_err(|_| TrustedPeerError)?;
        let bits = if network.is_ipv4() { 32 } else { 128 };
        let prefix_bits = match prefix {
            Some(prefix) => prefix.parse().map_err(|_| TrustedPeerError)?,
            None => bits,
        };
        if prefix_bits > bits {
            return Err(TrustedPeerError);
        }
        Ok(Self {
            network,
            prefix_bits,
        })
    }
}

impl fmt::Display for TrustedPeer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.network, self.prefix_bits)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn holds_its_addresses_and_no_others() {
        let peer = |text: &str| text.parse::<TrustedPeer>().unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(peer("10.1.0.0/16").contains(address("10.1.255.1")));
        assert!(peer("10.1.0.0/16").contains(address("::ffff:10.1.255.1")));
        assert!(!peer("10.1.0.0/16").contains(address("10.2.0.1")));
        assert!(peer("0.0.0.0/0").contains(address("192.0.2.1")));
        assert!(!peer("0.0.0.0/0").contains(address("::1")));
        assert!(peer("fd00::/8").contains(address("fdff::1")));
        assert!(!peer("10.0.0.7").contains(address("10.0.0.8")));
    }
}
