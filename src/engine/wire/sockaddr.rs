//! Socket addresses as the kernel writes them, byte by byte.
//!
//! `sockaddr_in` (ip(7)) and `sockaddr_in6` (ipv6(7)) are decoded from and encoded into plain bytes,
//! so that no pointer cast stands between the network and the engine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};

/// Room for a name in a slot and in a send: `sockaddr_in6` is 28 bytes, rounded up to 8.
pub const NAME_ROOM_BYTES: usize = 32;

/// The same, as msghdr wants it.
pub const NAME_ROOM: libc::socklen_t = 32;

const FAMILY_V4: [u8; 2] = family(libc::AF_INET);
const FAMILY_V6: [u8; 2] = family(libc::AF_INET6);

/// An address family as `sa_family_t`; all of them are below 256.
const fn family(family: i32) -> [u8; 2] {
    let low = family.to_le_bytes()[0];
    (low as u16).to_ne_bytes()
}

/// A name the kernel wrote, or `None` if it is not an internet address. IPv4 peers of a dual-stack
/// socket come as mapped IPv6 addresses and are shown as IPv4.
#[must_use]
pub fn decode(name: &[u8]) -> Option<SocketAddr> {
    let family: [u8; 2] = name.get(..2)?.try_into().ok()?;
    let port = u16::from_be_bytes(name.get(2..4)?.try_into().ok()?);
    if family == FAMILY_V4 {
        let ip: [u8; 4] = name.get(4..8)?.try_into().ok()?;
        return Some(SocketAddr::new(IpAddr::from(ip), port));
    }
    if family != FAMILY_V6 {
        return None;
    }
    let ip = Ipv6Addr::from(<[u8; 16]>::try_from(name.get(8..24)?).ok()?);
    if let Some(v4) = ip.to_ipv4_mapped() {
        return Some(SocketAddr::new(IpAddr::V4(v4), port));
    }
    let scope_id = u32::from_ne_bytes(name.get(24..28)?.try_into().ok()?);
    Some(SocketAddr::V6(SocketAddrV6::new(ip, port, 0, scope_id)))
}

/// Writes `address` for a socket of the given family and returns the length in bytes. An IPv4
/// address on an IPv6 socket is written as its mapped form.
pub fn encode(address: SocketAddr, socket_is_v6: bool, out: &mut [u8; NAME_ROOM_BYTES]) -> u32 {
    *out = [0; NAME_ROOM_BYTES];
    out[2..4].copy_from_slice(&address.port().to_be_bytes());
    match address {
        SocketAddr::V4(v4) if !socket_is_v6 => {
            out[..2].copy_from_slice(&FAMILY_V4);
            out[4..8].copy_from_slice(&v4.ip().octets());
            16
        }
        SocketAddr::V4(v4) => encode_v6(v4.ip().to_ipv6_mapped(), 0, out),
        SocketAddr::V6(v6) => encode_v6(*v6.ip(), v6.scope_id(), out),
    }
}

fn encode_v6(ip: Ipv6Addr, scope_id: u32, out: &mut [u8; NAME_ROOM_BYTES]) -> u32 {
    out[..2].copy_from_slice(&FAMILY_V6);
    out[8..24].copy_from_slice(&ip.octets());
    out[24..28].copy_from_slice(&scope_id.to_ne_bytes());
    28
}

/// The address a frame is given when the kernel wrote no name (it always does for UDP).
#[must_use]
pub fn unspecified() -> SocketAddr {
    SocketAddr::V4(SocketAddrV4::new(Ipv4Addr::UNSPECIFIED, 0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn encodes_what_it_decodes() {
        for (text, socket_is_v6) in [
            ("192.0.2.7:514", false),
            ("192.0.2.7:514", true),
            ("[2001:db8::7]:514", true),
            ("[fe80::1%3]:9", true),
        ] {
            let address: SocketAddr = text.parse().unwrap();
            let mut name = [0; NAME_ROOM_BYTES];
            let len = encode(address, socket_is_v6, &mut name) as usize;
            assert_eq!(decode(&name[..len]), Some(address), "{text}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_decode_without_panic(name in proptest::collection::vec(any::<u8>(), 0..64)) {
            let _ = decode(&name);
        }
    }
}
