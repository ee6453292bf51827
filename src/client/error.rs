//! Errors of a client, and the reports about its datagrams. Every message says what happened and what to do next.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};

use ringest_engine::socket::error::OptionError;
pub use ringest_engine::wire::limits::PAYLOAD_BYTES_MAX;

/// IP and UDP headers before the payload, bytes (RFC 791 without options, RFC 8200, RFC 768).
#[must_use]
pub fn header_bytes(peer: SocketAddr) -> usize {
    if peer.is_ipv4() { 20 + 8 } else { 40 + 8 }
}

/// The reported fate of datagrams to a peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum PeerErrorKind {
    /// The peer's host answered that no program listens on the port.
    ConnectionRefused,
    /// The peer's host cannot be reached, or the datagram's TTL ran out on the way.
    HostUnreachable,
    /// There is no route to the peer's network.
    NetworkUnreachable,
    /// A firewall or a route prohibits it, on this host or on the way.
    Prohibited,
    /// The datagram is longer than any can be, or than the path carries without fragments.
    MessageTooLong,
    /// The send buffer, or the queue of the interface, stayed full until the send timeout.
    SendTimedOut,
    /// Another error of this host, by its number.
    Other,
}

impl PeerErrorKind {
    /// Returns the name in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ConnectionRefused => "connection_refused",
            Self::HostUnreachable => "host_unreachable",
            Self::NetworkUnreachable => "network_unreachable",
            Self::Prohibited => "prohibited",
            Self::MessageTooLong => "message_too_long",
            Self::SendTimedOut => "send_timed_out",
            Self::Other => "other",
        }
    }

    /// Returns the meaning of an error number of send(2).
    pub(crate) fn of_errno(errno: i32) -> Self {
        match errno {
            libc::ECONNREFUSED | libc::ENOPROTOOPT => Self::ConnectionRefused,
            libc::EHOSTUNREACH | libc::EHOSTDOWN | libc::ENONET | libc::EOPNOTSUPP => {
                Self::HostUnreachable
            }
            // EINVAL: a blackhole route. EADDRNOTAVAIL: no address to send from, as where IPv6 is off.
            libc::ENETUNREACH | libc::ENETDOWN | libc::EADDRNOTAVAIL | libc::EINVAL => {
                Self::NetworkUnreachable
            }
            libc::EPERM | libc::EACCES => Self::Prohibited,
            libc::EMSGSIZE => Self::MessageTooLong,
            _ => Self::Other,
        }
    }
}

/// The origin of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Origin {
    /// This host: send(2) failed, so the datagram never left.
    Local {
        /// As errno.
        errno: i32,
    },
    /// An ICMP or ICMPv6 message about a datagram that had left.
    Icmp {
        /// Host that sent the message.
        reporter: Option<IpAddr>,
        /// Type of the message, in the numbers of the peer's family (RFC 792, RFC 4443).
        kind: u8,
        /// Code of the message.
        code: u8,
    },
    /// An ICMP message for which the socket had no room: only its error number is known.
    Forgotten {
        /// As errno.
        errno: i32,
    },
}

/// A report about datagrams to a peer: this host refused them, or a host on the way sent an ICMP message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PeerError {
    /// Peer that the datagrams were sent to.
    pub peer: SocketAddr,
    /// Reported fate.
    pub kind: PeerErrorKind,
    /// Number of such reports; the other fields are those of the last one.
    pub count: u64,
    /// Reported MTU in bytes, IP and UDP headers included; only with [`PeerErrorKind::MessageTooLong`]. One from ICMP is
    /// a claim that any host on the network can make.
    pub path_mtu: Option<u32>,
    /// Origin of the last report.
    pub origin: Origin,
}

impl PeerError {
    /// Returns the largest payload that fits, bytes; `None` if it is not known.
    #[must_use]
    pub fn limit_bytes(&self) -> Option<usize> {
        let mtu = usize::try_from(self.path_mtu?).ok()?;
        Some(mtu.saturating_sub(header_bytes(self.peer)).min(PAYLOAD_BYTES_MAX))
    }

    fn reporter(&self) -> String {
        match self.origin {
            Origin::Icmp { reporter: Some(ip), .. } => format!("{ip} answered"),
            Origin::Icmp { .. } | Origin::Forgotten { .. } => "an answer came".to_owned(),
            Origin::Local { .. } => "this host's kernel says".to_owned(),
        }
    }

    /// Returns whether the TTL ran out on the way: type 11 of ICMP, 3 of ICMPv6.
    fn has_expired(&self) -> bool {
        let expired = if self.peer.is_ipv4() { 11 } else { 3 };
        matches!(self.origin, Origin::Icmp { kind, .. } if kind == expired)
    }

    fn is_local(&self) -> bool {
        matches!(self.origin, Origin::Local { .. })
    }
}

impl fmt::Display for PeerError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (peer, ip, who) = (self.peer, self.peer.ip(), self.reporter());
        match self.kind {
            PeerErrorKind::ConnectionRefused => write!(
                f,
                "{peer}: connection refused: {who} 'port unreachable', so nothing is bound to UDP \
                 port {} there; `ss -uln` on that host shows what is",
                peer.port()
            ),
            PeerErrorKind::HostUnreachable if self.has_expired() => write!(
                f,
                "{peer}: host unreachable: {who} that the TTL ran out there; the path is longer, or \
                 a loop"
            ),
            PeerErrorKind::HostUnreachable => write!(
                f,
                "{peer}: host unreachable: {who} that it cannot be reached; is it up? \
                 `ip route get {ip}` shows the way there, `ip neigh` who answers"
            ),
            PeerErrorKind::NetworkUnreachable => write!(
                f,
                "{peer}: network unreachable: {who} that no route goes there; `ip route get {ip}` \
                 on that host shows it"
            ),
            PeerErrorKind::Prohibited => match self.origin {
                Origin::Local { errno: libc::EPERM } => write!(
                    f,
                    "{peer}: prohibited: a firewall on this host refuses it; `nft list ruleset` or \
                     `iptables-save` shows the rule"
                ),
                Origin::Local { .. } => write!(
                    f,
                    "{peer}: prohibited: a route on this host forbids it; `ip route get {ip}` \
                     shows it"
                ),
                _ => write!(
                    f,
                    "{peer}: prohibited: {who} 'administratively prohibited', so a firewall or a \
                     route there forbids it"
                ),
            },
            PeerErrorKind::MessageTooLong => self.write_too_long(f),
            PeerErrorKind::SendTimedOut => write!(
                f,
                "{peer}: send timed out: the send buffer of the socket, or the queue of the \
                 interface, stayed full; send more slowly, wait longer, or see \
                 `tc -s qdisc show`"
            ),
            PeerErrorKind::Other => match self.origin {
                Origin::Local { errno } | Origin::Forgotten { errno } => {
                    write!(f, "{peer}: {}", io::Error::from_raw_os_error(errno))
                }
                Origin::Icmp { kind, code, .. } => {
                    write!(f, "{peer}: {who} with ICMP type {kind}, code {code}")
                }
            },
        }
    }
}

impl PeerError {
    fn write_too_long(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let peer = self.peer;
        let Some((limit, mtu)) = self.limit_bytes().zip(self.path_mtu) else {
            return write!(
                f,
                "{peer}: message too long: one datagram carries at most {PAYLOAD_BYTES_MAX} bytes"
            );
        };
        let headers = header_bytes(peer);
        let who = if self.is_local() { "the path there" } else { "the path behind it" };
        let said = if self.is_local() { String::new() } else { format!("{}: ", self.reporter()) };
        write!(
            f,
            "{peer}: message too long: {said}{who} takes {limit} bytes of payload in one piece \
             (its MTU of {mtu} less {headers} of headers)"
        )
    }
}

impl std::error::Error for PeerError {}

/// An error of a client.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// This host refused the datagram: it was not sent.
    #[error(transparent)]
    Peer(#[from] PeerError),
    /// The client has no peer.
    #[error("there is no peer to send to")]
    NoPeer,
    /// No datagram can be sent to the peer.
    #[error("cannot send to {peer}: {reason}")]
    BadPeer {
        /// The peer.
        peer: SocketAddr,
        /// Reason, and what to give instead.
        reason: &'static str,
    },
    /// The peer is a broadcast address, which the builder does not allow.
    #[error(
        "{peer} is a broadcast address: every host of that network would get it, so it must be allowed"
    )]
    Broadcast {
        /// The peer.
        peer: SocketAddr,
    },
    /// `send` was called on a client of several peers.
    #[error("there are {count} peers; name the one to send to")]
    SeveralPeers {
        /// Number of peers.
        count: usize,
    },
    /// The address is none of the client's peers.
    #[error("{peer} is none of this client's peers")]
    NotAPeer {
        /// Address that was given.
        peer: SocketAddr,
    },
    /// The local address and a peer are of different address families.
    #[error("cannot send from {bind} to {peer}: one is IPv4, the other IPv6")]
    OtherFamily {
        /// The local address.
        bind: IpAddr,
        /// First peer of the other family.
        peer: SocketAddr,
    },
    /// The local address cannot be bound.
    #[error("cannot send from {address}: {source}{}", bind_hint(*address, source))]
    Bind {
        /// Address that was given.
        address: SocketAddr,
        /// The kernel's answer.
        source: io::Error,
    },
    /// A socket option was refused.
    #[error(transparent)]
    Option(#[from] OptionError),
    /// Another call failed.
    #[error("{step} failed: {source}{}", step_hint(source))]
    Socket {
        /// The call or option.
        step: &'static str,
        /// The kernel's answer.
        source: io::Error,
    },
    /// The interrupt descriptor became readable during a wait.
    #[error("interrupted")]
    Interrupted,
}

impl ClientError {
    /// Returns whether the caller asked for something impossible. Otherwise the host refused it.
    #[must_use]
    pub fn is_usage(&self) -> bool {
        matches!(
            self,
            Self::NoPeer
                | Self::BadPeer { .. }
                | Self::Broadcast { .. }
                | Self::SeveralPeers { .. }
                | Self::NotAPeer { .. }
                | Self::OtherFamily { .. }
        )
    }
}

fn bind_hint(address: SocketAddr, source: &io::Error) -> String {
    match source.raw_os_error() {
        Some(libc::EADDRINUSE) => {
            format!("; `ss -uanp 'sport = :{}'` shows who has that port", address.port())
        }
        Some(libc::EADDRNOTAVAIL) => {
            "; this host does not have that address, `ip addr` lists those it has (IP_FREEBIND would \
             take it all the same)"
                .to_owned()
        }
        Some(libc::EACCES) => "; ports below 1024 take CAP_NET_BIND_SERVICE, or root".to_owned(),
        _ => String::new(),
    }
}

fn step_hint(source: &io::Error) -> &'static str {
    match source.raw_os_error() {
        Some(libc::EAFNOSUPPORT) => {
            "; IPv6 is not available here (see /proc/sys/net/ipv6/conf/all/disable_ipv6)"
        }
        Some(libc::EMFILE | libc::ENFILE) => "; raise `ulimit -n`",
        _ => "",
    }
}

/// Returns what turns an error of the system call `step` into a [`ClientError::Socket`].
pub(crate) fn failed(step: &'static str) -> impl Fn(io::Error) -> ClientError {
    move |source| ClientError::Socket { step, source }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(kind: PeerErrorKind, path_mtu: Option<u32>, origin: Origin) -> PeerError {
        PeerError { peer: "192.0.2.7:514".parse().unwrap(), kind, count: 1, path_mtu, origin }
    }

    #[test]
    fn every_text_says_what_it_means_and_what_is_next() {
        let icmp = Origin::Icmp { reporter: Some([10, 0, 0, 1].into()), kind: 3, code: 3 };
        let text = error(PeerErrorKind::ConnectionRefused, None, icmp).to_string();
        assert!(text.contains("connection refused") && text.contains("ss -uln"), "{text}");
        assert!(text.contains("10.0.0.1 answered") && text.contains("port 514"), "{text}");
        let expired = Origin::Icmp { reporter: None, kind: 11, code: 0 };
        let text = error(PeerErrorKind::HostUnreachable, None, expired).to_string();
        assert!(text.contains("TTL ran out"), "{text}");
        for (errno, word) in [(libc::EPERM, "nft"), (libc::EACCES, "ip route")] {
            let text = error(PeerErrorKind::Prohibited, None, Origin::Local { errno }).to_string();
            assert!(text.contains(word), "{text}");
        }
    }

    #[test]
    fn a_limit_is_the_mtu_less_the_headers_of_the_family() {
        let local = Origin::Local { errno: libc::EMSGSIZE };
        let v4 = error(PeerErrorKind::MessageTooLong, Some(1280), local);
        assert_eq!(v4.limit_bytes(), Some(1252));
        assert!(v4.to_string().contains("1252 bytes"), "{v4}");
        let v6 = PeerError { peer: "[2001:db8::1]:514".parse().unwrap(), ..v4.clone() };
        assert_eq!(v6.limit_bytes(), Some(1232));
        let tiny = PeerError { path_mtu: Some(0), ..v4.clone() };
        assert_eq!(tiny.limit_bytes(), Some(0));
        let loopback = PeerError { path_mtu: Some(65_536), ..v4.clone() };
        assert_eq!(loopback.limit_bytes(), Some(PAYLOAD_BYTES_MAX));
        let none = PeerError { path_mtu: None, ..v4 };
        assert!(none.to_string().contains("65507 bytes"), "{none}");
    }
}
