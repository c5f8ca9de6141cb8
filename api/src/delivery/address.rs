//! Which addresses are nobody's on the public network.
//!
//! The IANA registries of special-purpose addresses (RFC 6890 and what was added since), whole:
//! blocks that they call globally reachable (anycast services, translators) are left out, too, as
//! no receiver of callbacks lives there. With them the multicast and reserved space.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Network and prefix length.
const SPECIAL_V4: [(Ipv4Addr, u32); 19] = [
    (Ipv4Addr::new(0, 0, 0, 0), 8),       // This network.
    (Ipv4Addr::new(10, 0, 0, 0), 8),      // Private use.
    (Ipv4Addr::new(100, 64, 0, 0), 10),   // Shared address space.
    (Ipv4Addr::new(127, 0, 0, 0), 8),     // Loopback.
    (Ipv4Addr::new(169, 254, 0, 0), 16),  // Link local.
    (Ipv4Addr::new(172, 16, 0, 0), 12),   // Private use.
    (Ipv4Addr::new(192, 0, 0, 0), 24),    // IETF protocol assignments.
    (Ipv4Addr::new(192, 0, 2, 0), 24),    // Documentation.
    (Ipv4Addr::new(192, 31, 196, 0), 24), // AS112.
    (Ipv4Addr::new(192, 52, 193, 0), 24), // AMT.
    (Ipv4Addr::new(192, 88, 99, 0), 24),  // 6to4 relays, deprecated.
    (Ipv4Addr::new(192, 168, 0, 0), 16),  // Private use.
    (Ipv4Addr::new(192, 175, 48, 0), 24), // AS112, direct delegation.
    (Ipv4Addr::new(198, 18, 0, 0), 15),   // Benchmarking.
    (Ipv4Addr::new(198, 51, 100, 0), 24), // Documentation.
    (Ipv4Addr::new(203, 0, 113, 0), 24),  // Documentation.
    (Ipv4Addr::new(224, 0, 0, 0), 4),     // Multicast.
    (Ipv4Addr::new(240, 0, 0, 0), 4),     // Reserved.
    (Ipv4Addr::BROADCAST, 32),            // Limited broadcast.
];

/// All of IPv6 that is global unicast; everything else is special or reserved: loopback, unique
/// local, link local, multicast, the translation prefixes `64:ff9b::/96` and `64:ff9b:1::/48`, the
/// discard prefix, segment routing.
const GLOBAL_UNICAST_V6: (Ipv6Addr, u32) = (Ipv6Addr::new(0x2000, 0, 0, 0, 0, 0, 0, 0), 3);

/// What is special within it.
const SPECIAL_V6: [(Ipv6Addr, u32); 5] = [
    // IETF protocol assignments: Teredo, benchmarking, ORCHID, anycast services.
    (Ipv6Addr::new(0x2001, 0, 0, 0, 0, 0, 0, 0), 23),
    // Documentation.
    (Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0), 32),
    // 6to4: an IPv4 address of any kind in disguise.
    (Ipv6Addr::new(0x2002, 0, 0, 0, 0, 0, 0, 0), 16),
    // AS112, direct delegation.
    (Ipv6Addr::new(0x2620, 0x4f, 0x8000, 0, 0, 0, 0, 0), 48),
    // Documentation (RFC 9637).
    (Ipv6Addr::new(0x3fff, 0, 0, 0, 0, 0, 0, 0), 20),
];

/// Whether an address is special, reserved or not unicast. An IPv4 address in its IPv6 form counts
/// as the IPv4 address.
pub(crate) fn is_special(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => SPECIAL_V4.iter().any(|&network| holds_v4(network, address)),
        IpAddr::V6(address) => {
            !holds_v6(GLOBAL_UNICAST_V6, address)
                || SPECIAL_V6.iter().any(|&network| holds_v6(network, address))
        }
    }
}

fn holds_v4((network, prefix_bits): (Ipv4Addr, u32), address: Ipv4Addr) -> bool {
    (network.to_bits() ^ address.to_bits()).leading_zeros() >= prefix_bits
}

fn holds_v6((network, prefix_bits): (Ipv6Addr, u32), address: Ipv6Addr) -> bool {
    (network.to_bits() ^ address.to_bits()).leading_zeros() >= prefix_bits
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(special: bool, addresses: &[&str]) {
        for text in addresses {
            let address = text.parse().unwrap();
            assert_eq!(is_special(address), special, "{text}");
        }
    }

    /// First and last address of each block, from the registries.
    #[test]
    fn knows_every_special_block_to_its_edges() {
        check(
            true,
            &[
                "0.0.0.0",
                "0.255.255.255",
                "10.0.0.0",
                "10.255.255.255",
                "100.64.0.0",
                "100.127.255.255",
                "127.0.0.1",
                "127.255.255.255",
                "169.254.0.0",
                "169.254.169.254",
                "169.254.255.255",
                "172.16.0.0",
                "172.31.255.255",
                "192.0.0.0",
                "192.0.0.255",
                "192.0.2.0",
                "192.0.2.255",
                "192.31.196.1",
                "192.52.193.1",
                "192.88.99.1",
                "192.168.0.0",
                "192.168.255.255",
                "192.175.48.6",
                "198.18.0.0",
                "198.19.255.255",
                "198.51.100.0",
                "198.51.100.255",
                "203.0.113.0",
                "203.0.113.255",
                "224.0.0.1",
                "239.255.255.255",
                "240.0.0.0",
                "255.255.255.255",
            ],
        );
        check(
            true,
            &[
                "::",
                "::1",
                "::ffff:10.0.0.1",
                "::ffff:127.0.0.1",
                "::127.0.0.1",
                "64:ff9b::",
                "64:ff9b::808:808",
                "64:ff9b:1::1",
                "100::",
                "100:0:0:1::1",
                "2001::",
                "2001:0:4136:e378:8000:63bf:3fff:fdd2",
                "2001:2::1",
                "2001:10::1",
                "2001:20::1",
                "2001:1ff:ffff:ffff:ffff:ffff:ffff:ffff",
                "2001:db8::1",
                "2001:db8:ffff:ffff:ffff:ffff:ffff:ffff",
                "2002::",
                "2002:7f00:1::",
                "2002:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
                "2620:4f:8000::1",
                "3fff::1",
                "3fff:fff:ffff:ffff:ffff:ffff:ffff:ffff",
                "4000::1",
                "5f00::1",
                "fc00::1",
                "fdff::1",
                "fe80::1",
                "febf::1",
                "fec0::1",
                "ff02::1",
                "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
            ],
        );
    }

    /// The neighbours of the blocks, and the two that the reference refuses by mistake (K-3).
    #[test]
    fn lets_public_addresses_pass() {
        check(
            false,
            &[
                "1.0.0.0",
                "9.255.255.255",
                "11.0.0.0",
                "100.63.255.255",
                "100.128.0.0",
                "126.255.255.255",
                "128.0.0.0",
                "144.64.0.1",
                "144.127.255.255",
                "169.253.255.255",
                "169.255.0.0",
                "172.15.255.255",
                "172.32.0.0",
                "177.0.0.1",
                "177.255.255.255",
                "192.0.1.0",
                "192.0.3.0",
                "192.167.255.255",
                "192.169.0.0",
                "198.17.255.255",
                "198.20.0.0",
                "198.51.99.255",
                "198.51.101.0",
                "203.0.112.255",
                "203.0.114.0",
                "223.255.255.255",
                "8.8.8.8",
                "::ffff:8.8.8.8",
            ],
        );
        check(
            false,
            &[
                "2000::1",
                "2001:200::1",
                "2001:db7:ffff::1",
                "2001:db9::1",
                "2003::1",
                "2606:4700::1111",
                "2620:4f:7fff::1",
                "2620:4f:8001::1",
                "2a00:1450::1",
                "3ffe::1",
                "3fff:1000::1",
            ],
        );
    }
}
