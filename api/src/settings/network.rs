//! Networks of trusted proxies and of callback receivers.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use ipnet::IpNet;

/// An address or a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Network(IpNet);

/// What a list of networks is, for errors.
pub(super) const NETWORKS: &str =
    "a list of addresses or networks, as in [\"10.0.0.7\", \"10.1.0.0/16\"]";

/// The text is neither an address nor a network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("write an address, as 10.0.0.7, or a network, as 10.1.0.0/16")]
pub struct NetworkError;

impl Network {
    /// Whether this is every address there is.
    pub(super) fn is_everybody(&self) -> bool {
        self.0.prefix_len() == 0
    }

    /// Whether an address is in this network. An IPv4-mapped IPv6 address counts as IPv4.
    pub fn contains(&self, address: IpAddr) -> bool {
        self.0.contains(&address.to_canonical())
    }
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let address = || text.parse::<IpAddr>().map(IpNet::from);
        let network = text.parse().or_else(|_| address());
        network.map(Self).map_err(|_| NetworkError)
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contains_its_addresses_and_no_others() {
        let network = |text: &str| text.parse::<Network>().unwrap();
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        assert!(network("10.1.0.0/16").contains(address("10.1.255.1")));
        assert!(network("10.1.2.3/16").contains(address("10.1.255.1")));
        assert!(network("10.1.0.0/16").contains(address("::ffff:10.1.255.1")));
        assert!(!network("10.1.0.0/16").contains(address("10.2.0.1")));
        assert!(network("0.0.0.0/0").contains(address("192.0.2.1")));
        assert!(!network("0.0.0.0/0").contains(address("::1")));
        assert!(network("fd00::/8").contains(address("fdff::1")));
        assert!(!network("10.0.0.7").contains(address("10.0.0.8")));
    }
}
