//! The error queue of a socket (IP_RECVERR in ip(7), IPV6_RECVERR in ipv6(7)): reports of this host and of hosts on
//! the way about datagrams, each with the datagram's destination.
//!
//! ```text
//!  ICMP ──► kernel ──► error queue ──recvmsg(MSG_ERRQUEUE)──► Report {destination, errno, origin, info}
//!               └────► SO_ERROR: the next call fails, whichever peer it is for
//! ```
//! So a call may fail because of an earlier datagram. The queue shows which one; reading it to its end also clears
//! SO_ERROR (net/core/skbuff.c, `sock_dequeue_err_skb`).

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6};
use std::os::fd::{AsRawFd, BorrowedFd};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, RecvMsg, SockaddrStorage, recvmsg};

use crate::error::{Origin, PeerErrorKind};

/// An entry of the error queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Report {
    /// Destination of the datagram. The port of a local error is not always right.
    pub(crate) destination: Option<SocketAddr>,
    /// Error number that the kernel made of it.
    pub(crate) errno: i32,
    pub(crate) origin: Origin,
    /// MTU in bytes, if the report is about one.
    pub(crate) path_mtu: Option<u32>,
}

impl Report {
    /// Returns whether this host reported it, about the send that was just tried.
    pub(crate) fn is_local(&self) -> bool {
        matches!(self.origin, Origin::Local { .. })
    }

    /// Returns the meaning of the report, by type and code: the kernel's errno is the same for a prohibition and for a
    /// host that is down (IPv4: net/ipv4/icmp.c, `icmp_err_convert`).
    pub(crate) fn kind(&self, is_v6: bool) -> PeerErrorKind {
        match (self.origin, is_v6) {
            // Destination unreachable: network, host or communication administratively prohibited
            // (RFC 1122, RFC 1812 section 5.2.7.1), with precedence in mind or not.
            (Origin::Icmp { kind: 3, code: 9 | 10 | 13..=15, .. }, false) => {
                PeerErrorKind::Prohibited
            }
            // Destination unreachable: prohibited, source address policy, rejecting route (RFC 4443).
            (Origin::Icmp { kind: 1, code: 1 | 5 | 6, .. }, true) => PeerErrorKind::Prohibited,
            _ => PeerErrorKind::of_errno(self.errno),
        }
    }
}

/// Takes the first entry off the queue. Returns `None` if it is empty.
pub(crate) fn read(socket: BorrowedFd<'_>) -> io::Result<Option<Report>> {
    let mut room = cmsg_space!(libc::sock_extended_err, libc::sockaddr_in6);
    let flags = MsgFlags::MSG_ERRQUEUE | MsgFlags::MSG_DONTWAIT;
    loop {
        match recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut [], Some(&mut room), flags) {
            // An entry of another kind, such as a time stamp that nobody asked for.
            Ok(message) => match report(&message) {
                Some(report) => return Ok(Some(report)),
                None => continue,
            },
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

fn report(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Report> {
    let destination = message.address.as_ref().and_then(address);
    message.cmsgs().ok()?.find_map(|control| {
        let (error, offender) = match control {
            ControlMessageOwned::Ipv4RecvErr(error, from) => (error, from.map(|from| ip4(&from))),
            ControlMessageOwned::Ipv6RecvErr(error, from) => (error, from.map(|from| ip6(&from))),
            _ => return None,
        };
        let errno = i32::try_from(error.ee_errno).unwrap_or(0);
        let origin = match error.ee_origin {
            libc::SO_EE_ORIGIN_LOCAL => Origin::Local { errno },
            libc::SO_EE_ORIGIN_ICMP | libc::SO_EE_ORIGIN_ICMP6 => Origin::Icmp {
                reporter: offender.filter(|ip| !ip.is_unspecified()),
                kind: error.ee_type,
                code: error.ee_code,
            },
            _ => return None,
        };
        let is_size = errno == libc::EMSGSIZE && error.ee_info > 0;
        Some(Report { destination, errno, origin, path_mtu: is_size.then_some(error.ee_info) })
    })
}

fn address(name: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = name.as_sockaddr_in() {
        return Some(SocketAddr::V4(SocketAddrV4::from(*v4)));
    }
    name.as_sockaddr_in6().map(|v6| canonical(SocketAddr::V6(SocketAddrV6::from(*v6))))
}

fn ip4(name: &libc::sockaddr_in) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(name.sin_addr.s_addr.to_ne_bytes()))
}

fn ip6(name: &libc::sockaddr_in6) -> IpAddr {
    Ipv6Addr::from(name.sin6_addr.s6_addr).to_canonical()
}

/// Returns an address in the form in which peers are compared: IPv4 instead of IPv4-mapped IPv6, a scope only where it
/// has a meaning, no flow label.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    let SocketAddr::V6(v6) = address else { return address };
    match v6.ip().to_canonical() {
        IpAddr::V4(v4) => SocketAddr::new(v4.into(), v6.port()),
        IpAddr::V6(ip) => {
            let scope_id = if needs_scope(ip) { v6.scope_id() } else { 0 };
            SocketAddr::V6(SocketAddrV6::new(ip, v6.port(), 0, scope_id))
        }
    }
}

/// Returns whether the address needs an interface to be unique: link-local (fe80::/10), or a group of the
/// interface or the link (ff01::/16, ff02::/16; RFC 4007).
pub(crate) fn needs_scope(ip: Ipv6Addr) -> bool {
    ip.is_unicast_link_local() || matches!(ip.segments()[0] & 0xff0f, 0xff01 | 0xff02)
}

/// Returns whether an error number can stem from an ICMP message about an earlier datagram (net/ipv4/icmp.c,
/// `icmp_err_convert`; net/ipv6/icmp.c, `icmpv6_err_convert`; `__udp4_lib_err`).
pub(crate) fn may_be_earlier(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EACCES
            | libc::EMSGSIZE
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EHOSTDOWN
            | libc::ENONET
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn icmp(kind: u8, code: u8, errno: i32) -> Report {
        let origin = Origin::Icmp { reporter: None, kind, code };
        Report { destination: None, errno, origin, path_mtu: None }
    }

    #[test]
    fn codes_tell_what_errno_does_not() {
        use PeerErrorKind::{
            ConnectionRefused, HostUnreachable, MessageTooLong, NetworkUnreachable, Other,
            Prohibited,
        };
        // net/ipv4/icmp.c, icmp_err_convert; net/ipv6/icmp.c, icmpv6_err_convert.
        for (kind, code, errno, is_v6, meaning) in [
            (3, 0, libc::ENETUNREACH, false, NetworkUnreachable),
            (3, 1, libc::EHOSTUNREACH, false, HostUnreachable),
            (3, 2, libc::ENOPROTOOPT, false, ConnectionRefused),
            (3, 3, libc::ECONNREFUSED, false, ConnectionRefused),
            (3, 4, libc::EMSGSIZE, false, MessageTooLong),
            (3, 7, libc::EHOSTDOWN, false, HostUnreachable),
            (3, 9, libc::ENETUNREACH, false, Prohibited),
            (3, 10, libc::EHOSTUNREACH, false, Prohibited),
            (3, 13, libc::EHOSTUNREACH, false, Prohibited),
            (11, 0, libc::EHOSTUNREACH, false, HostUnreachable),
            (12, 0, libc::EPROTO, false, Other),
            (1, 0, libc::ENETUNREACH, true, NetworkUnreachable),
            (1, 1, libc::EACCES, true, Prohibited),
            (1, 3, libc::EHOSTUNREACH, true, HostUnreachable),
            (1, 4, libc::ECONNREFUSED, true, ConnectionRefused),
            (1, 6, libc::EACCES, true, Prohibited),
            (2, 0, libc::EMSGSIZE, true, MessageTooLong),
            (3, 0, libc::EHOSTUNREACH, true, HostUnreachable),
        ] {
            assert_eq!(icmp(kind, code, errno).kind(is_v6), meaning, "{kind} {code} {is_v6}");
        }
    }

    #[test]
    fn one_peer_has_one_address() {
        for (text, wanted) in [
            ("192.0.2.1:9", "192.0.2.1:9"),
            ("[::ffff:192.0.2.1]:9", "192.0.2.1:9"),
            ("[2001:db8::1%3]:9", "[2001:db8::1]:9"),
            ("[fe80::1%3]:9", "[fe80::1%3]:9"),
            ("[ff02::1%3]:9", "[ff02::1%3]:9"),
            ("[ff12::1%3]:9", "[ff12::1%3]:9"),
            ("[ff05::1%3]:9", "[ff05::1]:9"),
        ] {
            assert_eq!(canonical(text.parse().unwrap()), wanted.parse().unwrap(), "{text}");
        }
    }
}
