//! Control messages (cmsg(3)), read and written as bytes.
//!
//! ```text
//!  ┌──────────── cmsghdr: 16 bytes ────────────┬──────┬─────────┐
//!  │ len: usize (header + data) │ level │ type │ data │ pad to 8│ next …
//!  └────────────────────────────┴───────┴──────┴──────┴─────────┘
//! ```

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::wire::headers::Headers;
use crate::wire::sockaddr;

const HEADER_BYTES: usize = 16;
/// `UDP_GRO` in linux/udp.h (since Linux 5.0): an `int`, the size of each segment of a train.
const UDP_GRO: i32 = 104;
/// `UDP_SEGMENT` in linux/udp.h (since Linux 4.18): a `u16`, the size to cut a send into.
const UDP_SEGMENT: i32 = 103;

/// `SO_TIMESTAMPNS` as a control message, asm-generic/socket.h: a `struct timespec`.
const SCM_TIMESTAMPNS: i32 = libc::SO_TIMESTAMPNS;

/// The control messages a socket asks for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Asked {
    /// The segment size of trains (UDP_GRO, Linux 5.0): with it, trains come whole.
    pub gro: bool,
    /// The address each datagram was sent to (IP_PKTINFO, IPV6_RECVPKTINFO).
    pub pktinfo: bool,
    /// When the kernel received each (SO_TIMESTAMPNS, Linux 2.6.22).
    pub timestamps: bool,
    /// Where each was sent, with which TTL and TOS (IP_RECVORIGDSTADDR, IP_RECVTTL, IP_RECVTOS, and
    /// their like in IPv6).
    pub headers: bool,
}

impl Asked {
    /// Returns the control messages that either asks for.
    #[must_use]
    pub fn or(self, other: Self) -> Self {
        Self {
            gro: self.gro || other.gro,
            pktinfo: self.pktinfo || other.pktinfo,
            timestamps: self.timestamps || other.timestamps,
            headers: self.headers || other.headers,
        }
    }
}

/// Room for the control messages a listener asked for. Too low and MSG_CTRUNC would hide a GRO
/// message, so a train would pass for one datagram; too high only spreads a slot over more cache
/// lines.
#[must_use]
pub const fn receive_room_bytes(asked: Asked) -> usize {
    let gro_bytes = if asked.gro { padded(4) } else { 0 };
    // An IPv4 datagram on an IPv6 socket brings both IPV6_PKTINFO and IP_PKTINFO.
    let pktinfo_bytes = if asked.pktinfo { padded(20) + padded(12) } else { 0 };
    let timestamp_bytes = if asked.timestamps { padded(16) } else { 0 };
    let headers_bytes = if asked.headers { padded(28) + padded(4) + padded(4) } else { 0 };
    gro_bytes + pktinfo_bytes + timestamp_bytes + headers_bytes
}

/// Room for what a send may carry: a segment size and a source address.
pub const SEND_ROOM_BYTES: usize = padded(2) + padded(20);

const fn padded(data_bytes: usize) -> usize {
    HEADER_BYTES + data_bytes.next_multiple_of(8)
}

/// The content of the control messages of one frame.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Received {
    /// Size of each datagram in the train, bytes; 0 if the frame is a single datagram.
    pub segment_bytes: u16,
    /// Destination, TTL and TOS.
    pub headers: Headers,
    /// When the kernel received the frame, ns since 1970-01-01T00:00:00Z; 0: not known.
    pub kernel_unix_ns: u64,
}

/// Reads the control bytes of one frame; unknown messages are skipped, broken ones end the walk.
#[must_use]
pub fn parse(mut control: &[u8]) -> Received {
    let mut received = Received::default();
    let (mut local, mut destination) = (None, None);
    let (mut hop_limit, mut traffic_class) = (0, 0);
    while let Some((level, kind, data, rest)) = next(control) {
        match (level, kind) {
            (libc::SOL_UDP, UDP_GRO) => {
                let size = data.first_chunk().map_or(0, |raw| i32::from_ne_bytes(*raw));
                received.segment_bytes = u16::try_from(size).unwrap_or(0);
            }
            // struct timespec { s64 seconds, nanoseconds; }
            (libc::SOL_SOCKET, SCM_TIMESTAMPNS) => {
                let word =
                    |at: usize| data.get(at..)?.first_chunk().map(|w| u64::from_ne_bytes(*w));
                let ns = |(s, ns): (u64, u64)| s.checked_mul(1_000_000_000)?.checked_add(ns);
                received.kernel_unix_ns = word(0).zip(word(8)).and_then(ns).unwrap_or(0);
            }
            // struct in_pktinfo { int ifindex; struct in_addr spec_dst, addr; }
            (libc::IPPROTO_IP, libc::IP_PKTINFO) => {
                // spec_dst, not addr: for a broadcast the latter is no address to answer from.
                local = data
                    .get(4..8)
                    .and_then(<[u8]>::first_chunk::<4>)
                    .map(|octets| IpAddr::V4(Ipv4Addr::from(*octets)));
            }
            // struct in6_pktinfo { struct in6_addr addr; int ifindex; }
            (libc::IPPROTO_IPV6, libc::IPV6_PKTINFO) => {
                local = data
                    .first_chunk::<16>()
                    .map(|octets| IpAddr::V6(Ipv6Addr::from(*octets)).to_canonical())
                    .filter(|ip| !ip.is_multicast() && *ip != Ipv4Addr::BROADCAST);
            }
            (libc::IPPROTO_IP, libc::IP_ORIGDSTADDR)
            | (libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR) => destination = sockaddr::decode(data),
            // An int; IP_TOS is a single byte.
            (libc::IPPROTO_IP, libc::IP_TTL) | (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT) => {
                hop_limit = low_byte(data);
            }
            (libc::IPPROTO_IP, libc::IP_TOS) | (libc::IPPROTO_IPV6, libc::IPV6_TCLASS) => {
                traffic_class = low_byte(data);
            }
            _ => {}
        }
        control = rest;
    }
    received.headers = Headers::new(destination, local, hop_limit, traffic_class);
    received
}

/// Returns the low byte of an `int`, or the single byte there is.
fn low_byte(data: &[u8]) -> u8 {
    match data.first_chunk() {
        Some(raw) => u8::try_from(i32::from_ne_bytes(*raw)).unwrap_or(0),
        None => data.first().copied().unwrap_or(0),
    }
}

/// Returns the first message of `control`: level, type, data, and the bytes after it.
fn next(control: &[u8]) -> Option<(i32, i32, &[u8], &[u8])> {
    let len = usize::from_ne_bytes(*control.first_chunk()?);
    let level = i32::from_ne_bytes(*control.get(8..)?.first_chunk()?);
    let kind = i32::from_ne_bytes(*control.get(12..)?.first_chunk()?);
    let data = control.get(HEADER_BYTES..len)?;
    let rest = control.get(len.checked_next_multiple_of(8)?..).unwrap_or_default();
    Some((level, kind, data, rest))
}

/// Writes the control messages of one send and returns their length in bytes (0: none).
/// `segment_bytes` 0 sends one datagram; `local` is the address to send from.
pub fn write(
    out: &mut [u8; SEND_ROOM_BYTES],
    segment_bytes: u16,
    local: Option<IpAddr>,
    socket_is_v6: bool,
) -> usize {
    let mut used = 0;
    if segment_bytes > 0 {
        used += put(&mut out[used..], libc::SOL_UDP, UDP_SEGMENT, &segment_bytes.to_ne_bytes());
    }
    match local {
        Some(IpAddr::V4(v4)) if !socket_is_v6 => {
            let mut pktinfo = [0; 12];
            pktinfo[4..8].copy_from_slice(&v4.octets());
            used += put(&mut out[used..], libc::IPPROTO_IP, libc::IP_PKTINFO, &pktinfo);
        }
        Some(ip) => {
            let v6 = match ip {
                IpAddr::V4(v4) => v4.to_ipv6_mapped(),
                IpAddr::V6(v6) => v6,
            };
            let mut pktinfo = [0; 20];
            pktinfo[..16].copy_from_slice(&v6.octets());
            used += put(&mut out[used..], libc::IPPROTO_IPV6, libc::IPV6_PKTINFO, &pktinfo);
        }
        None => {}
    }
    used
}

fn put(out: &mut [u8], level: i32, kind: i32, data: &[u8]) -> usize {
    let total = padded(data.len());
    out[..total].fill(0);
    out[..8].copy_from_slice(&(HEADER_BYTES + data.len()).to_ne_bytes());
    out[8..12].copy_from_slice(&level.to_ne_bytes());
    out[12..16].copy_from_slice(&kind.to_ne_bytes());
    out[16..16 + data.len()].copy_from_slice(data);
    total
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::net::SocketAddr;

    #[test]
    fn reads_a_train_and_its_destination() {
        let mut control = [0; 128];
        let mut used = put(&mut control, libc::SOL_UDP, UDP_GRO, &500i32.to_ne_bytes());
        used += put(&mut control[used..], libc::SOL_SOCKET, 0x7777, &[1, 2, 3]);
        let pktinfo = [0, 0, 0, 0, 127, 0, 0, 1, 127, 255, 255, 255];
        used += put(&mut control[used..], libc::IPPROTO_IP, libc::IP_PKTINFO, &pktinfo);
        let time = [3u64.to_ne_bytes(), 7u64.to_ne_bytes()].concat();
        used += put(&mut control[used..], libc::SOL_SOCKET, SCM_TIMESTAMPNS, &time);
        let received = parse(&control[..used]);
        assert_eq!(received.segment_bytes, 500);
        assert_eq!(received.headers.local(), Some(IpAddr::from([127, 0, 0, 1])));
        assert_eq!(received.kernel_unix_ns, 3_000_000_007);
    }

    #[test]
    fn reads_the_headers_of_either_family() {
        let mut control = [0; 256];
        let mut name = [0; sockaddr::NAME_ROOM_BYTES];
        let to: SocketAddr = "239.1.2.3:514".parse().unwrap();
        let len = sockaddr::encode(to, false, &mut name) as usize;
        let mut used = put(&mut control, libc::IPPROTO_IP, libc::IP_ORIGDSTADDR, &name[..len]);
        used += put(&mut control[used..], libc::IPPROTO_IP, libc::IP_TTL, &9i32.to_ne_bytes());
        used += put(&mut control[used..], libc::IPPROTO_IP, libc::IP_TOS, &[0xb9]);
        let headers = parse(&control[..used]).headers;
        assert_eq!((headers.destination(), headers.local()), (Some(to), None));
        assert_eq!((headers.hop_limit(), headers.traffic_class()), (Some(9), Some(0xb9)));

        let to: SocketAddr = "[2001:db8::1]:514".parse().unwrap();
        let len = sockaddr::encode(to, true, &mut name) as usize;
        let mut used = put(&mut control, libc::IPPROTO_IPV6, libc::IPV6_ORIGDSTADDR, &name[..len]);
        let class = (libc::IPPROTO_IPV6, libc::IPV6_TCLASS);
        used += put(&mut control[used..], class.0, class.1, &0x20i32.to_ne_bytes());
        let hops = (libc::IPPROTO_IPV6, libc::IPV6_HOPLIMIT);
        used += put(&mut control[used..], hops.0, hops.1, &255i32.to_ne_bytes());
        let headers = parse(&control[..used]).headers;
        assert_eq!((headers.destination(), headers.local()), (Some(to), Some(to.ip())));
        assert_eq!((headers.hop_limit(), headers.traffic_class()), (Some(255), Some(0x20)));
        let asked = Asked { headers: true, ..Asked::default() };
        assert!(receive_room_bytes(asked) >= used);
    }

    #[test]
    fn a_message_longer_than_the_room_ends_the_walk() {
        let mut control = [0; 24];
        put(&mut control, libc::SOL_UDP, UDP_GRO, &500i32.to_ne_bytes());
        control[..8].copy_from_slice(&usize::MAX.to_ne_bytes());
        assert_eq!(parse(&control), Received::default());
    }

    #[test]
    fn a_send_fits_its_room_in_both_families() {
        let mut out = [0; SEND_ROOM_BYTES];
        let v4 = Some(IpAddr::from([192, 0, 2, 1]));
        assert_eq!(write(&mut out, 0, None, false), 0);
        assert_eq!(write(&mut out, 1200, v4, false), 24 + 32);
        assert_eq!(write(&mut out, 1200, v4, true), SEND_ROOM_BYTES);
        assert_eq!(parse(&out).headers.local(), v4, "a mapped source comes back as IPv4");
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(control in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = parse(&control);
        }
    }
}
