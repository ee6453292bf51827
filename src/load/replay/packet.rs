//! Finds the UDP datagram in one captured packet, or the reason why there is none to send.
//!
//! ```text
//!   │ link header │ VLAN tags │ IP header │ options, extensions │ UDP header │ payload │ padding │
//! ```
//! `etherparse` reads IP and UDP strictly: every length must fit the captured bytes, which may be
//! anything.

use std::net::{IpAddr, SocketAddr};

use etherparse::{IpNumber, IpSlice, LaxIpSlice, UdpSlice};
use ringest_engine::wire::limits::PAYLOAD_BYTES_MAX;

const ETHERTYPE_IPV4: u16 = 0x0800;
const ETHERTYPE_IPV6: u16 = 0x86dd;
/// 802.1Q, 802.1ad, and the number used before 802.1ad had one.
const ETHERTYPES_VLAN: [u16; 3] = [0x8100, 0x88a8, 0x9100];
/// The most VLAN tags of a packet; more are taken for garbage.
const VLAN_TAGS_MAX: usize = 8;

/// The link header of a captured packet; the numbers are those of
/// <https://www.tcpdump.org/linktypes.html>.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Link {
    /// 1: Ethernet.
    Ethernet,
    /// 113: Linux cooked, as captured on `any` by older tools.
    Cooked,
    /// 276: Linux cooked, version 2.
    Cooked2,
    /// 0 and 108: BSD loopback, an address family in 4 bytes.
    Loopback,
    /// 101, 228 and 229, and 12 as some systems write it: IP comes first.
    Raw,
}

impl Link {
    /// Returns the link of a LINKTYPE number, or `None` if it is not supported.
    pub(crate) fn of(number: u32) -> Option<Self> {
        match number {
            0 | 108 => Some(Self::Loopback),
            1 => Some(Self::Ethernet),
            12 | 101 | 228 | 229 => Some(Self::Raw),
            113 => Some(Self::Cooked),
            276 => Some(Self::Cooked2),
            _ => None,
        }
    }

    /// Removes the link header. Returns `None` if the packet ends inside the header, and `Some(None)` if it
    /// holds no IP.
    fn strip(self, packet: &[u8]) -> Option<Option<&[u8]>> {
        match self {
            Self::Ethernet => untag(ethertype(packet, 12)?, packet.get(14..)?),
            Self::Cooked => untag(ethertype(packet, 14)?, packet.get(16..)?),
            Self::Cooked2 => untag(ethertype(packet, 0)?, packet.get(20..)?),
            Self::Raw => Some(Some(packet)),
            Self::Loopback => {
                let (family, inside) = packet.split_first_chunk()?;
                // In the byte order of the capturing host; AF_INET6 differs between systems.
                let families = [u32::from_le_bytes(*family), u32::from_be_bytes(*family)];
                let is_ip = families.iter().any(|family| matches!(family, 2 | 10 | 24 | 28 | 30));
                Some(is_ip.then_some(inside))
            }
        }
    }
}

fn ethertype(packet: &[u8], at: usize) -> Option<u16> {
    packet.get(at..)?.first_chunk().map(|raw| u16::from_be_bytes(*raw))
}

/// Returns the IP packet after any VLAN tags (2 bytes of tag, 2 of the next type).
fn untag(mut kind: u16, mut inside: &[u8]) -> Option<Option<&[u8]>> {
    for _ in 0..VLAN_TAGS_MAX {
        if !ETHERTYPES_VLAN.contains(&kind) {
            break;
        }
        kind = ethertype(inside, 2)?;
        inside = inside.get(4..)?;
    }
    Some(matches!(kind, ETHERTYPE_IPV4 | ETHERTYPE_IPV6).then_some(inside))
}

/// The datagram in a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Found<'a> {
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) payload: &'a [u8],
}

/// The reason why a packet is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Skip {
    NotIp,
    NotUdp,
    Fragment,
    Truncated,
    Malformed,
    Oversize,
}

/// Finds the datagram in a packet. `is_cut` means that fewer bytes were captured than were on the wire.
pub(crate) fn find(link: Link, packet: &[u8], is_cut: bool) -> Result<Found<'_>, Skip> {
    let short = if is_cut { Skip::Truncated } else { Skip::Malformed };
    let inside = link.strip(packet).ok_or(short)?.ok_or(Skip::NotIp)?;
    let Ok(ip) = IpSlice::from_slice(inside) else {
        return Err(if is_not_udp(inside) { Skip::NotUdp } else { short });
    };
    let whole = ip.payload();
    if whole.ip_number != IpNumber::UDP {
        return Err(Skip::NotUdp);
    }
    if whole.fragmented {
        return Err(Skip::Fragment);
    }
    let udp = UdpSlice::from_slice(whole.payload).map_err(|_| Skip::Malformed)?;
    let payload = udp.payload();
    if payload.len() > PAYLOAD_BYTES_MAX {
        return Err(Skip::Oversize);
    }
    let address = |ip: IpAddr, port| SocketAddr::new(ip, port);
    Ok(Found {
        source: address(ip.source_addr(), udp.source_port()),
        destination: address(ip.destination_addr(), udp.destination_port()),
        payload,
    })
}

/// Whether as much of a packet as there is says that UDP is not inside.
fn is_not_udp(inside: &[u8]) -> bool {
    match LaxIpSlice::from_slice(inside) {
        Ok((ip, None)) => ip.payload_ip_number() != IpNumber::UDP,
        _ => false,
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use proptest::prelude::*;

    use super::*;

    /// 192.0.2.1:1000 → 192.0.2.2:2000.
    pub(crate) fn ipv4(payload: &[u8], options: &[u8], fragment: u16) -> Vec<u8> {
        let header = 20 + options.len();
        let mut packet = vec![0x40 | u8::try_from(header / 4).unwrap(), 0];
        packet.extend(length(header + 8 + payload.len()));
        packet.extend([0, 7]);
        packet.extend(fragment.to_be_bytes());
        packet.extend([64, 17, 0, 0, 192, 0, 2, 1, 192, 0, 2, 2]);
        packet.extend(options);
        packet.extend(udp(payload));
        packet
    }

    fn ipv6(next: u8, extensions: &[u8], payload: &[u8]) -> Vec<u8> {
        let mut packet = vec![0x60, 0, 0, 0];
        packet.extend(length(extensions.len() + 8 + payload.len()));
        packet.extend([next, 64]);
        packet.extend("2001:db8::1".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend("2001:db8::2".parse::<std::net::Ipv6Addr>().unwrap().octets());
        packet.extend(extensions);
        packet.extend(udp(payload));
        packet
    }

    fn udp(payload: &[u8]) -> Vec<u8> {
        let ports = [1000u16.to_be_bytes(), 2000u16.to_be_bytes()].concat();
        [&ports[..], &length(8 + payload.len()), &[0, 0], payload].concat()
    }

    fn length(bytes: usize) -> [u8; 2] {
        u16::try_from(bytes).unwrap().to_be_bytes()
    }

    /// Ethernet with VLAN tags and 6 bytes of padding.
    pub(crate) fn ethernet(tags: &[u16], kind: u16, inside: &[u8]) -> Vec<u8> {
        let mut packet = vec![2; 12];
        for tag in tags {
            packet.extend(tag.to_be_bytes());
            packet.extend([0, 42]);
        }
        packet.extend(kind.to_be_bytes());
        packet.extend(inside);
        packet.extend([0xee; 6]);
        packet
    }

    fn payload_of(link: Link, packet: &[u8]) -> Vec<u8> {
        let found = find(link, packet, false).unwrap();
        assert_eq!((found.source.port(), found.destination.port()), (1000, 2000));
        found.payload.to_vec()
    }

    #[test]
    fn every_link_is_taken_off() {
        let (v4, v6) = (ipv4(b"four", &[], 0), ipv6(17, &[], b"six"));
        for tags in [&[][..], &[0x8100], &[0x88a8, 0x8100], &[0x9100, 0x8100, 0x8100]] {
            assert_eq!(payload_of(Link::Ethernet, &ethernet(tags, 0x0800, &v4)), b"four");
            assert_eq!(payload_of(Link::Ethernet, &ethernet(tags, 0x86dd, &v6)), b"six");
        }
        let cooked = [&[0; 14][..], &[0x08, 0], &v4].concat();
        assert_eq!(payload_of(Link::Cooked, &cooked), b"four");
        let tagged = [&[0; 14][..], &[0x81, 0, 0, 9, 0x86, 0xdd], &v6].concat();
        assert_eq!(payload_of(Link::Cooked, &tagged), b"six");
        let cooked2 = [&[0x86, 0xdd][..], &[0; 18], &v6].concat();
        assert_eq!(payload_of(Link::Cooked2, &cooked2), b"six");
        assert_eq!(payload_of(Link::Raw, &v6), b"six");
        for family in [[2, 0, 0, 0], [0, 0, 0, 2], [30, 0, 0, 0], [0, 0, 0, 24]] {
            assert_eq!(payload_of(Link::Loopback, &[&family[..], &v4].concat()), b"four");
        }
    }

    #[test]
    fn options_and_extensions_are_stepped_over() {
        assert_eq!(payload_of(Link::Raw, &ipv4(b"payload", &[1; 8], 0)), b"payload");
        // "Don't fragment" is not a fragment.
        assert_eq!(payload_of(Link::Raw, &ipv4(b"payload", &[1; 40], 0x4000)), b"payload");
        let hop_by_hop = [60, 0, 1, 4, 0, 0, 0, 0];
        let destination = [17, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let both = [&hop_by_hop[..], &destination].concat();
        assert_eq!(payload_of(Link::Raw, &ipv6(0, &both, b"payload")), b"payload");
        // An atomic fragment (RFC 6946) is whole.
        let atomic = [17, 0, 0, 0, 0, 0, 0, 9];
        assert_eq!(payload_of(Link::Raw, &ipv6(44, &atomic, b"payload")), b"payload");
        assert_eq!(payload_of(Link::Raw, &ipv4(&[], &[], 0)), b"", "an empty one is one");
    }

    #[test]
    fn what_is_no_whole_datagram_is_passed_over() {
        let skip = |packet: &[u8], is_cut| find(Link::Raw, packet, is_cut).unwrap_err();
        let v4 = ipv4(b"payload", &[], 0);
        assert_eq!(skip(&ipv4(b"payload", &[], 0x2000), false), Skip::Fragment);
        assert_eq!(skip(&ipv4(b"payload", &[], 0x0010), false), Skip::Fragment);
        let first = [17, 0, 0, 1, 0, 0, 0, 9];
        assert_eq!(skip(&ipv6(44, &first, b"payload"), false), Skip::Fragment);
        for len in 0..v4.len() {
            assert_eq!(skip(&v4[..len], true), Skip::Truncated, "{len}");
            assert_eq!(skip(&v4[..len], false), Skip::Malformed, "{len}");
        }
        let mut tcp = v4.clone();
        tcp[9] = 6;
        assert_eq!(skip(&tcp, false), Skip::NotUdp);
        assert_eq!(skip(&tcp[..24], true), Skip::NotUdp, "cut, but known not to be UDP");
        let mut long = v4.clone();
        long[25] = 200;
        assert_eq!(skip(&long, false), Skip::Malformed, "the UDP length is beyond the packet");
        let mut longer_ip = v4;
        longer_ip[2] = 200;
        assert_eq!(skip(&longer_ip, false), Skip::Malformed);
        let arp = ethernet(&[], 0x0806, &[0; 28]);
        assert_eq!(find(Link::Ethernet, &arp, false), Err(Skip::NotIp));
        assert_eq!(find(Link::Loopback, &[7, 0, 0, 0, 0x45], false), Err(Skip::NotIp));
        let big = ipv6(17, &[], &vec![0; 65_520]);
        assert_eq!(find(Link::Raw, &big, false), Err(Skip::Oversize));
    }

    proptest! {
        #[test]
        fn any_bytes_may_come(
            number in 0u32..300,
            packet in proptest::collection::vec(any::<u8>(), 0..200),
            is_cut in any::<bool>(),
        ) {
            if let Some(link) = Link::of(number)
                && let Ok(found) = find(link, &packet, is_cut) {
                prop_assert!(found.payload.len() < packet.len());
            }
        }

        #[test]
        fn a_changed_packet_breaks_nothing(
            at in 0usize..60, to in any::<u8>(), len in 0usize..80, six in any::<bool>(),
        ) {
            let hop_by_hop = [17, 0, 1, 4, 0, 0, 0, 0];
            let (kind, inside) = match six {
                true => (0x86dd, ipv6(0, &hop_by_hop, b"payload")),
                false => (0x0800, ipv4(b"payload", &[1; 4], 0)),
            };
            let mut packet = ethernet(&[0x8100], kind, &inside);
            packet[at] = to;
            packet.truncate(len);
            let _ = find(Link::Ethernet, &packet, false);
        }
    }
}
