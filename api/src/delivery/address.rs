//! Which addresses are not public.
//!
//! All of the IANA special-purpose address registries (RFC 6890 and later additions). That includes
//! blocks that they call globally reachable (anycast services, translators): no receiver of
//! callbacks lives there. Multicast and reserved space as well.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::{Ipv4Net, Ipv6Net};

const SPECIAL_V4: [Ipv4Net; 19] = [
    v4([0, 0, 0, 0], 8),          // This network.
    v4([10, 0, 0, 0], 8),         // Private use.
    v4([100, 64, 0, 0], 10),      // Shared address space.
    v4([127, 0, 0, 0], 8),        // Loopback.
    v4([169, 254, 0, 0], 16),     // Link local.
    v4([172, 16, 0, 0], 12),      // Private use.
    v4([192, 0, 0, 0], 24),       // IETF protocol assignments.
    v4([192, 0, 2, 0], 24),       // Documentation.
    v4([192, 31, 196, 0], 24),    // AS112.
    v4([192, 52, 193, 0], 24),    // AMT.
    v4([192, 88, 99, 0], 24),     // 6to4 relays, deprecated.
    v4([192, 168, 0, 0], 16),     // Private use.
    v4([192, 175, 48, 0], 24),    // AS112, direct delegation.
    v4([198, 18, 0, 0], 15),      // Benchmarking.
    v4([198, 51, 100, 0], 24),    // Documentation.
    v4([203, 0, 113, 0], 24),     // Documentation.
    v4([224, 0, 0, 0], 4),        // Multicast.
    v4([240, 0, 0, 0], 4),        // Reserved.
    v4([255, 255, 255, 255], 32), // Limited broadcast.
];

/// All of IPv6 that is global unicast; everything else is special or reserved: loopback, unique
/// local, link local, multicast, the translation prefixes `64:ff9b::/96` and `64:ff9b:1::/48`, the
/// discard prefix, segment routing.
const GLOBAL_UNICAST_V6: Ipv6Net = v6([0x2000, 0, 0], 3);

/// The special blocks within it.
const SPECIAL_V6: [Ipv6Net; 5] = [
    // IETF protocol assignments: Teredo, benchmarking, ORCHID, anycast services.
    v6([0x2001, 0, 0], 23),
    // Documentation.
    v6([0x2001, 0xdb8, 0], 32),
    // 6to4: embeds an IPv4 address of any kind.
    v6([0x2002, 0, 0], 16),
    // AS112, direct delegation.
    v6([0x2620, 0x4f, 0x8000], 48),
    // Documentation (RFC 9637).
    v6([0x3fff, 0, 0], 20),
];

const fn v4([a, b, c, d]: [u8; 4], prefix_bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, d), prefix_bits)
}

/// The segments that are not given are zero.
const fn v6([a, b, c]: [u16; 3], prefix_bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(a, b, c, 0, 0, 0, 0, 0), prefix_bits)
}

/// Whether an address is special, reserved or not unicast. An IPv4-mapped IPv6 address counts as
/// the IPv4 address.
pub(crate) fn is_special(address: IpAddr) -> bool {
    match address.to_canonical() {
        IpAddr::V4(address) => SPECIAL_V4.iter().any(|network| network.contains(&address)),
        IpAddr::V6(address) => {
            !GLOBAL_UNICAST_V6.contains(&address)
                || SPECIAL_V6.iter().any(|network| network.contains(&address))
        }
    }
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
    fn covers_every_special_block_to_its_edges() {
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
    fn accepts_public_addresses() {
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
