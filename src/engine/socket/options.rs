//! Socket options, set and read back. The kernel clamps some values silently, and refuses others for want of a capability
//! that it does not name; the errors here name it.

use std::io;
use std::os::fd::{AsFd, BorrowedFd};

use crate::socket::error::OptionError;
use crate::socket::interface::Interface;
use crate::socket::read_back::ReadBack;
use ringest_base::sys::sockopt;
use ringest_base::sys::sockopt::Name;

/// Options of a socket; what is not set keeps the kernel's default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SocketOptions {
    /// Send buffer to ask for, bytes as SO_SNDBUF counts them (the kernel doubles it).
    pub sndbuf_bytes: Option<usize>,
    /// TTL (IP_TTL) and hop limit (IPV6_UNICAST_HOPS) of datagrams sent, from 1 up.
    pub hop_limit: Option<u8>,
    /// TOS byte (IP_TOS) and traffic class (IPV6_TCLASS) of datagrams sent: DSCP in the upper six
    /// bits, ECN in the lower two (RFC 2474, RFC 3168).
    pub traffic_class: Option<u8>,
    /// Take datagrams for addresses this host does not have, where the routing table or TPROXY
    /// hands them over, and send from such addresses (IP_TRANSPARENT, IPV6_TRANSPARENT).
    pub transparent: bool,
    /// Bind to an address the host does not have yet (IP_FREEBIND, IPV6_FREEBIND).
    pub freebind: bool,
    /// Receives from and sends to this interface only (SO_BINDTODEVICE).
    pub device: Option<String>,
    /// Mark of datagrams sent, for routing rules and firewalls (SO_MARK).
    pub mark: Option<u32>,
    /// Priority of datagrams sent, which a queueing discipline may sort by (SO_PRIORITY).
    pub priority: Option<u32>,
    /// How long to poll the device before sleeping, µs (SO_BUSY_POLL; on a ring
    /// IORING_REGISTER_NAPI, Linux 6.9).
    pub busy_poll_us: Option<u32>,
    /// The treatment of the path MTU (IP_MTU_DISCOVER, IPV6_MTU_DISCOVER).
    pub path_mtu: Option<PathMtu>,
    /// Options of datagrams sent to multicast groups.
    pub multicast: MulticastSending,
}

/// How multicast datagrams are sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MulticastSending {
    /// IP_MULTICAST_TTL, IPV6_MULTICAST_HOPS: 0 keeps them on this host; the kernel's default is 1,
    /// the local network.
    pub hop_limit: Option<u8>,
    /// Whether members on this host get them too (IP_MULTICAST_LOOP, IPV6_MULTICAST_LOOP).
    pub loops: Option<bool>,
    /// Where they leave (IP_MULTICAST_IF, IPV6_MULTICAST_IF); else by the routing table.
    pub interface: Option<Interface>,
}

/// The treatment of the path MTU, ip(7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PathMtu {
    /// Fragment where the path is known to need it, else forbid it on the way (the usual default).
    Want,
    /// Never fragment: a datagram over the known path MTU is refused (EMSGSIZE).
    Do,
    /// Let it be fragmented anywhere.
    Dont,
    /// As `Do`, but ignoring what is known of the path.
    Probe,
    /// As `Dont`, and only the interface's MTU counts: what ICMP says of the path is not believed.
    Interface,
    /// As `Interface`, but fragmented here where it is larger.
    Omit,
}

ringest_base::names!(PathMtu {
    "want" => Want, "Fragment here what the path does not take, and let nobody else (the usual default)";
    "do" => Do, "Never fragment: refuse what the path does not take";
    "dont" => Dont, "Let it be fragmented anywhere";
    "probe" => Probe, "Never fragment, and ignore what is known of the path";
    "interface" => Interface, "Believe the interface's MTU, not what ICMP says of the path";
    "omit" => Omit, "The same, and fragment here what is larger"
});

impl PathMtu {
    /// IP_PMTUDISC_*; IPV6_PMTUDISC_* have the same numbers (linux/in.h, linux/in6.h).
    fn number(self) -> i32 {
        match self {
            Self::Dont => libc::IP_PMTUDISC_DONT,
            Self::Want => libc::IP_PMTUDISC_WANT,
            Self::Do => libc::IP_PMTUDISC_DO,
            Self::Probe => libc::IP_PMTUDISC_PROBE,
            Self::Interface => libc::IP_PMTUDISC_INTERFACE,
            Self::Omit => libc::IP_PMTUDISC_OMIT,
        }
    }
}

/// Sets options one after the other and reads each back.
struct Setter<'a> {
    socket: BorrowedFd<'a>,
    done: Vec<ReadBack>,
}

type Set = Result<(), OptionError>;

impl Setter<'_> {
    /// An `int` option; `wants` is the capability it may take.
    fn int(&mut self, option: &'static str, name: Name, value: i32, wants: &'static str) -> Set {
        let fail = |source| OptionError::new(option, &value, wants, source);
        sockopt::set_int(self.socket, name, value).map_err(fail)?;
        let granted = sockopt::get_int(self.socket, name).map_err(fail)?;
        self.done.push(ReadBack { option, asked: value.to_string(), granted: granted.to_string() });
        Ok(())
    }

    /// An option whose 32 bits are a number without a sign.
    fn word(&mut self, option: &'static str, name: Name, value: u32, wants: &'static str) -> Set {
        let fail = |source| OptionError::new(option, &value, wants, source);
        sockopt::set_int(self.socket, name, value.cast_signed()).map_err(fail)?;
        let granted = sockopt::get_int(self.socket, name).map_err(fail)?.cast_unsigned();
        self.done.push(ReadBack { option, asked: value.to_string(), granted: granted.to_string() });
        Ok(())
    }

    /// The same thing in both families: on an IPv6 socket, which may take IPv4 too, both are set.
    fn both(
        &mut self,
        is_v6: bool,
        [v4, v6]: [(&'static str, Name); 2],
        value: i32,
        wants: &'static str,
    ) -> Set {
        if is_v6 {
            self.int(v6.0, v6.1, value, wants)?;
        }
        self.int(v4.0, v4.1, value, wants)
    }

    fn device(&mut self, device: &str) -> Set {
        const OPTION: &str = "SO_BINDTODEVICE";
        let name = (libc::SOL_SOCKET, libc::SO_BINDTODEVICE);
        let fail = |source| OptionError::new(OPTION, &device, "CAP_NET_RAW", source);
        sockopt::set(self.socket, name, device.as_bytes()).map_err(fail)?;
        // IFNAMSIZ bytes, the rest 0.
        let granted: [u8; 16] = sockopt::get(self.socket, name).map_err(fail)?;
        let granted = String::from_utf8_lossy(&granted).trim_end_matches('\0').to_owned();
        self.done.push(ReadBack { option: OPTION, asked: device.to_owned(), granted });
        Ok(())
    }

    /// The send buffer: past `net.core.wmem_max` with CAP_NET_ADMIN, else as far as it goes.
    fn send_buffer(&mut self, bytes: usize) -> Set {
        const OPTION: &str = "SO_SNDBUF";
        let fail = |source| OptionError::new(OPTION, &bytes, "", source);
        let value = i32::try_from(bytes).map_err(|error| fail(io::Error::other(error)))?;
        let name = (libc::SOL_SOCKET, libc::SO_SNDBUF);
        if sockopt::set_int(self.socket, (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE), value).is_err() {
            sockopt::set_int(self.socket, name, value).map_err(fail)?;
        }
        // The kernel doubles it for its own overhead, socket(7).
        let granted = sockopt::get_int(self.socket, name).map_err(fail)? / 2;
        let (asked, granted) = (bytes.to_string(), granted.to_string());
        self.done.push(ReadBack { option: OPTION, asked, granted });
        Ok(())
    }

    fn multicast(&mut self, is_v6: bool, sending: &MulticastSending) -> Set {
        if let Some(hop_limit) = sending.hop_limit {
            self.both(is_v6, MULTICAST_TTL, hop_limit.into(), "")?;
        }
        if let Some(loops) = sending.loops {
            self.both(is_v6, MULTICAST_LOOP, loops.into(), "")?;
        }
        let Some(interface) = &sending.interface else { return Ok(()) };
        let fail = |source| OptionError::new("IP_MULTICAST_IF", interface, "", source);
        let index = interface.index().map_err(fail)?;
        let number = index.cast_signed();
        if is_v6 {
            let name = (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_IF);
            self.int("IPV6_MULTICAST_IF", name, number, "")?;
        }
        // struct ip_mreqn { struct in_addr group, address; int ifindex; }, ip(7)
        let mut request = [0; 12];
        request[8..].copy_from_slice(&number.to_ne_bytes());
        let name = (libc::IPPROTO_IP, libc::IP_MULTICAST_IF);
        sockopt::set(self.socket, name, &request).map_err(fail)?;
        if !is_v6 {
            // getsockopt(2) would give an address, not the index: taken, then.
            let text = interface.to_string();
            let (asked, granted) = (text.clone(), text);
            self.done.push(ReadBack { option: "IP_MULTICAST_IF", asked, granted });
        }
        Ok(())
    }
}

type Pair = [(&'static str, Name); 2];

const TTL: Pair = [
    ("IP_TTL", (libc::IPPROTO_IP, libc::IP_TTL)),
    ("IPV6_UNICAST_HOPS", (libc::IPPROTO_IPV6, libc::IPV6_UNICAST_HOPS)),
];
const TOS: Pair = [
    ("IP_TOS", (libc::IPPROTO_IP, libc::IP_TOS)),
    ("IPV6_TCLASS", (libc::IPPROTO_IPV6, libc::IPV6_TCLASS)),
];
const MTU_DISCOVER: Pair = [
    ("IP_MTU_DISCOVER", (libc::IPPROTO_IP, libc::IP_MTU_DISCOVER)),
    ("IPV6_MTU_DISCOVER", (libc::IPPROTO_IPV6, libc::IPV6_MTU_DISCOVER)),
];
const MULTICAST_TTL: Pair = [
    ("IP_MULTICAST_TTL", (libc::IPPROTO_IP, libc::IP_MULTICAST_TTL)),
    ("IPV6_MULTICAST_HOPS", (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_HOPS)),
];
const MULTICAST_LOOP: Pair = [
    ("IP_MULTICAST_LOOP", (libc::IPPROTO_IP, libc::IP_MULTICAST_LOOP)),
    ("IPV6_MULTICAST_LOOP", (libc::IPPROTO_IPV6, libc::IPV6_MULTICAST_LOOP)),
];

impl SocketOptions {
    /// Sets the options on a socket that is not bound yet, and reads them back. On an IPv6 socket
    /// the options of both families are set: it may take IPv4 too.
    ///
    /// # Errors
    /// The first option that was refused, and the capability it needs.
    pub fn apply(&self, socket: &impl AsFd, is_v6: bool) -> Result<Vec<ReadBack>, OptionError> {
        const ADMIN: &str = "CAP_NET_ADMIN";
        const ADMIN_OR_RAW: &str = "CAP_NET_ADMIN or CAP_NET_RAW";
        let general = |name| (libc::SOL_SOCKET, name);
        let mut to = Setter { socket: socket.as_fd(), done: Vec::new() };
        if let Some(bytes) = self.sndbuf_bytes {
            to.send_buffer(bytes)?;
        }
        if let Some(device) = &self.device {
            to.device(device)?;
        }
        if self.transparent {
            let (option, name) = if is_v6 {
                ("IPV6_TRANSPARENT", (libc::IPPROTO_IPV6, libc::IPV6_TRANSPARENT))
            } else {
                ("IP_TRANSPARENT", (libc::IPPROTO_IP, libc::IP_TRANSPARENT))
            };
            to.int(option, name, 1, ADMIN_OR_RAW)?;
        }
        if self.freebind {
            let (option, name) = if is_v6 {
                ("IPV6_FREEBIND", (libc::IPPROTO_IPV6, libc::IPV6_FREEBIND))
            } else {
                ("IP_FREEBIND", (libc::IPPROTO_IP, libc::IP_FREEBIND))
            };
            to.int(option, name, 1, "")?;
        }
        if let Some(hop_limit) = self.hop_limit {
            to.both(is_v6, TTL, hop_limit.into(), "")?;
        }
        if let Some(class) = self.traffic_class {
            to.both(is_v6, TOS, class.into(), "")?;
        }
        if let Some(policy) = self.path_mtu {
            to.both(is_v6, MTU_DISCOVER, policy.number(), "")?;
        }
        if let Some(mark) = self.mark {
            to.word("SO_MARK", general(libc::SO_MARK), mark, ADMIN_OR_RAW)?;
        }
        // After IP_TOS, which sets a priority of its own.
        if let Some(priority) = self.priority {
            let name = general(libc::SO_PRIORITY);
            to.word("SO_PRIORITY", name, priority, ADMIN_OR_RAW)?;
        }
        if let Some(us) = self.busy_poll_us {
            to.int("SO_BUSY_POLL", general(libc::SO_BUSY_POLL), us.cast_signed(), ADMIN)?;
        }
        to.multicast(is_v6, &self.multicast)?;
        Ok(to.done)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use socket2::{Domain, Protocol, Socket, Type};

    fn socket(domain: Domain) -> Socket {
        Socket::new(domain, Type::DGRAM, Some(Protocol::UDP)).unwrap()
    }

    fn all() -> SocketOptions {
        SocketOptions {
            sndbuf_bytes: Some(65_536),
            hop_limit: Some(7),
            traffic_class: Some(0xb8),
            freebind: true,
            device: Some("lo".to_owned()),
            priority: Some(5),
            path_mtu: Some(PathMtu::Do),
            multicast: MulticastSending {
                hop_limit: Some(3),
                loops: Some(false),
                interface: Some(Interface::Name("lo".to_owned())),
            },
            ..SocketOptions::default()
        }
    }

    #[test]
    fn what_is_asked_is_what_is_read_back() {
        for (domain, is_v6, count) in [(Domain::IPV4, false, 10), (Domain::IPV6, true, 15)] {
            let done = all().apply(&socket(domain), is_v6).unwrap();
            let odd: Vec<_> = done.iter().filter(|one| !one.is_as_asked()).collect();
            assert!(odd.is_empty() && done.len() == count, "{} {odd:?} {done:?}", done.len());
        }
        let none = SocketOptions::default().apply(&socket(Domain::IPV4), false).unwrap();
        assert!(none.is_empty());
    }

    #[test]
    fn what_is_clamped_is_told() {
        let done = SocketOptions { sndbuf_bytes: Some(1), ..SocketOptions::default() }
            .apply(&socket(Domain::IPV4), false)
            .unwrap();
        assert!(!done[0].is_as_asked() && done[0].to_string().contains("asked for 1"), "{done:?}");
    }

    #[test]
    fn what_is_refused_names_option_and_next_move() {
        let device = Some("no-such-card".to_owned());
        let error = SocketOptions { device, ..SocketOptions::default() }
            .apply(&socket(Domain::IPV4), false)
            .unwrap_err();
        let text = error.to_string();
        assert!(
            text.contains("SO_BINDTODEVICE = no-such-card") && text.contains("ip link"),
            "{text}"
        );
        let refused = io::Error::from_raw_os_error(libc::EPERM);
        let text = OptionError::new("SO_MARK", &7, "CAP_NET_ADMIN", refused).to_string();
        assert!(text.contains("it takes CAP_NET_ADMIN"), "{text}");
    }
}
