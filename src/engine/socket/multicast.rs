//! Multicast groups: joined by interface, from any source (IGMPv2, MLDv1) or from those named
//! (IGMPv3, MLDv2; RFC 3678's protocol-independent calls).
//!
//! With SO_REUSEPORT every socket that has joined gets a copy of each datagram, so one receiver joins
//! for all: it owns the group. Every datagram comes once. (IPv4's early demux, net.ipv4.udp_early_demux,
//! may hand it to another socket of the group, seen on Linux 6.18: once, but not always to the owner.)

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::BorrowedFd;
use std::str::FromStr;

use crate::socket::error::OptionError;
use crate::socket::interface::Interface;
use crate::wire::sockaddr;
use ringest_base::sys::sockopt;
use ringest_base::sys::sockopt::Name;

/// A group to be a member of. Written `GROUP[@SOURCE[,SOURCE…]][%INTERFACE]`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Group {
    /// The group's address.
    pub address: IpAddr,
    /// The senders to receive from; empty: any sender.
    pub sources: Vec<IpAddr>,
    /// The interface to join on; `None`: where the routing table sends the group.
    pub interface: Option<Interface>,
}

impl Group {
    /// Returns the group from any source, on the interface that the routing table gives.
    #[must_use]
    pub fn any_source(address: IpAddr) -> Self {
        Self { address, sources: Vec::new(), interface: None }
    }

    /// Joins the group. A group with several sources is joined once for each.
    ///
    /// # Errors
    /// No such interface, no route to the group, too many groups.
    pub(crate) fn join(&self, socket: BorrowedFd<'_>) -> Result<(), OptionError> {
        self.ask(socket, ("MCAST_JOIN_GROUP", libc::MCAST_JOIN_GROUP), JOIN_SOURCE)
    }

    /// Leaves the group.
    ///
    /// # Errors
    /// The socket was no member (EADDRNOTAVAIL).
    pub(crate) fn leave(&self, socket: BorrowedFd<'_>) -> Result<(), OptionError> {
        self.ask(socket, ("MCAST_LEAVE_GROUP", libc::MCAST_LEAVE_GROUP), LEAVE_SOURCE)
    }

    fn ask(&self, socket: BorrowedFd<'_>, any: Call, from_source: Call) -> Result<(), OptionError> {
        let (option, number) = if self.sources.is_empty() { any } else { from_source };
        let fail = |source: io::Error| {
            let wants = match source.raw_os_error() {
                Some(libc::EADDRINUSE) => "it is a member already",
                Some(libc::ENODEV) if self.interface.is_none() => {
                    "no route to the group: name the interface, as in GROUP%eth0"
                }
                Some(libc::ENOBUFS) => {
                    "more than net.ipv4.igmp_max_memberships or igmp_max_msf allow"
                }
                Some(libc::ENOMEM) => "more than net.core.optmem_max allows",
                _ => return OptionError::new(option, &self, "", source),
            };
            OptionError::new(option, &self, "", io::Error::other(format!("{source}: {wants}")))
        };
        let index = self.interface.as_ref().map_or(Ok(0), Interface::index).map_err(fail)?;
        let level = if self.address.is_ipv6() { libc::IPPROTO_IPV6 } else { libc::IPPROTO_IP };
        let name: Name = (level, number);
        if self.sources.is_empty() {
            return sockopt::set(socket, name, &request(index, self.address, None)).map_err(fail);
        }
        for (number, source) in self.sources.iter().enumerate() {
            let request = |source| request(index, self.address, Some(source));
            if let Err(error) = sockopt::set(socket, name, &request(*source)) {
                // Joins all sources or none. An undo that fails had nothing to undo.
                let joined = if from_source.1 == JOIN_SOURCE.1 { number } else { 0 };
                for source in &self.sources[..joined] {
                    let _ = sockopt::set(socket, (level, LEAVE_SOURCE.1), &request(*source));
                }
                return Err(fail(error));
            }
        }
        Ok(())
    }
}

/// An option's name and number.
type Call = (&'static str, libc::c_int);
const JOIN_SOURCE: Call = ("MCAST_JOIN_SOURCE_GROUP", libc::MCAST_JOIN_SOURCE_GROUP);
const LEAVE_SOURCE: Call = ("MCAST_LEAVE_SOURCE_GROUP", libc::MCAST_LEAVE_SOURCE_GROUP);

/// `struct sockaddr_storage`, linux/socket.h.
const STORAGE_BYTES: usize = 128;
/// The index is a u32; a sockaddr_storage is aligned as a long.
const INDEX_BYTES: usize = size_of::<usize>();

/// `struct group_req { u32 interface; sockaddr_storage group; }`, or with a source
/// `struct group_source_req { u32 interface; sockaddr_storage group, source; }` (linux/in.h).
fn request(index: u32, group: IpAddr, source: Option<IpAddr>) -> Vec<u8> {
    let mut request = vec![0; INDEX_BYTES];
    request[..4].copy_from_slice(&index.to_ne_bytes());
    for ip in [Some(group), source].into_iter().flatten() {
        let mut name = [0; sockaddr::NAME_ROOM_BYTES];
        sockaddr::encode(SocketAddr::new(ip, 0), ip.is_ipv6(), &mut name);
        request.extend_from_slice(&name);
        request.resize(request.len() + STORAGE_BYTES - name.len(), 0);
    }
    request
}

/// Limits a socket to the groups that it joined itself: by default Linux gives a wildcard socket every group that any
/// program on the host has joined (IP_MULTICAST_ALL, ip(7); IPV6_MULTICAST_ALL, Linux
/// 4.20).
///
/// # Errors
/// The option that was refused.
pub(crate) fn only_groups_joined(socket: BorrowedFd<'_>, is_v6: bool) -> Result<(), OptionError> {
    /// linux/in6.h; not in every libc's headers.
    const IPV6_MULTICAST_ALL: libc::c_int = 29;
    let fail = |option| move |source| OptionError::new(option, &0, "", source);
    sockopt::set_int(socket, (libc::IPPROTO_IP, libc::IP_MULTICAST_ALL), 0)
        .map_err(fail("IP_MULTICAST_ALL"))?;
    if !is_v6 {
        return Ok(());
    }
    match sockopt::set_int(socket, (libc::IPPROTO_IPV6, IPV6_MULTICAST_ALL), 0) {
        Err(error) if error.raw_os_error() == Some(libc::ENOPROTOOPT) => Ok(()),
        set => set.map_err(fail("IPV6_MULTICAST_ALL")),
    }
}

impl FromStr for Group {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (rest, interface) = match text.rsplit_once('%') {
            Some((rest, interface)) => (rest, Some(interface.parse()?)),
            None => (text, None),
        };
        let (group, sources) = match rest.split_once('@') {
            Some((group, sources)) => (group, Some(sources)),
            None => (rest, None),
        };
        let ip = |text: &str| text.parse::<IpAddr>().map_err(|_| format!("{text:?} is no address"));
        let address = ip(group)?;
        if !address.is_multicast() {
            return Err(format!(
                "{address} is no multicast group: those are 224.0.0.0/4 and ff00::/8"
            ));
        }
        let sources = sources.map_or_else(
            || Ok(Vec::new()),
            |sources| sources.split(',').map(ip).collect::<Result<Vec<_>, _>>(),
        )?;
        let fits = |source: &IpAddr| {
            source.is_ipv4() == address.is_ipv4()
                && !source.is_multicast()
                && !source.is_unspecified()
        };
        if let Some(twice) = (1..sources.len()).find(|at| sources[..*at].contains(&sources[*at])) {
            return Err(format!("{} is given twice", sources[twice]));
        }
        match sources.iter().find(|source| !fits(source)) {
            Some(source) => {
                Err(format!("{source} cannot send to {address}: give a sender's address"))
            }
            None => Ok(Self { address, sources, interface }),
        }
    }
}

impl fmt::Display for Group {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.address)?;
        for (index, source) in self.sources.iter().enumerate() {
            write!(f, "{}{source}", if index == 0 { '@' } else { ',' })?;
        }
        match &self.interface {
            Some(interface) => write!(f, "%{interface}"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn groups_read_as_written() {
        for text in [
            "239.1.2.3",
            "239.1.2.3%eth0",
            "232.1.1.1@192.0.2.7%2",
            "232.1.1.1@192.0.2.7,192.0.2.8",
            "ff35::1@2001:db8::7%eth0.100",
            "ff02::fb",
        ] {
            assert_eq!(text.parse::<Group>().unwrap().to_string(), text);
        }
        for text in [
            "",
            "192.0.2.1",
            "239.1.2.3%",
            "239.1.2.3%0",
            "239.1.2.3@",
            "239.1.2.3@::1",
            "ff02::fb@192.0.2.1",
            "239.1.2.3@239.1.2.4",
            "239.1.2.3%a-name-that-is-too-long",
            "::1",
        ] {
            assert!(text.parse::<Group>().is_err(), "{text}");
        }
    }

    #[test]
    fn requests_are_laid_out_as_the_kernel_reads_them() {
        let any = request(3, "239.1.2.3".parse().unwrap(), None);
        assert_eq!(any.len(), size_of::<libc::group_req>());
        assert_eq!(any[..4], 3u32.to_ne_bytes());
        let from = request(3, "ff35::1".parse().unwrap(), Some("2001:db8::7".parse().unwrap()));
        assert_eq!(from.len(), size_of::<libc::group_source_req>());
    }

    proptest! {
        #[test]
        fn no_text_makes_the_reader_panic(text in any::<String>()) {
            let _ = (text.parse::<Group>(), text.parse::<Interface>());
        }
    }
}
