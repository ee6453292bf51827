//! The configuration of an engine, with its defaults. Nothing here depends on the host; see
//! [`crate::control::plan`].

use std::net::{AddrParseError, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::str::FromStr;
use std::time::Duration;

use crate::receive::dispatch::{Dispatch, Overload};
use crate::socket::multicast::Group;
use crate::socket::options::SocketOptions;
use crate::socket::steer::Steer;

/// A listen address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ListenAddr {
    /// One address. `[::]` receives IPv4 too, and its IPv4 peers are shown as IPv4.
    At(SocketAddr),
    /// `*:PORT`: every address of this host, of both families; only IPv4 where IPv6 is off.
    Any {
        /// The port; 0 lets the kernel choose.
        port: u16,
    },
}

impl ListenAddr {
    /// Returns the address to bind. `ipv6`: this host has IPv6.
    #[must_use]
    pub fn resolve(self, ipv6: bool) -> SocketAddr {
        match self {
            Self::At(address) => address,
            Self::Any { port } if ipv6 => SocketAddr::from((Ipv6Addr::UNSPECIFIED, port)),
            Self::Any { port } => SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)),
        }
    }
}

impl ListenAddr {
    /// Returns the port; 0 lets the kernel choose one.
    #[must_use]
    pub fn port(self) -> u16 {
        match self {
            Self::At(address) => address.port(),
            Self::Any { port } => port,
        }
    }
}

impl From<SocketAddr> for ListenAddr {
    fn from(address: SocketAddr) -> Self {
        Self::At(address)
    }
}

impl FromStr for ListenAddr {
    type Err = AddrParseError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text.strip_prefix("*:").map(str::parse) {
            Some(Ok(port)) => Ok(Self::Any { port }),
            _ => text.parse().map(Self::At),
        }
    }
}

impl std::fmt::Display for ListenAddr {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::At(address) => write!(f, "{address}"),
            Self::Any { port } => write!(f, "*:{port}"),
        }
    }
}

/// How to receive datagrams from the sockets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum BackendChoice {
    /// io_uring if the kernel has what it takes, else recvmmsg.
    #[default]
    Auto,
    /// io_uring, or an error that says why it cannot be used.
    IoUring,
    /// recvmmsg(2) with epoll(7).
    Recvmmsg,
}

ringest_base::names!(BackendChoice {
    "auto" => Auto;
    "io_uring" => IoUring;
    "recvmmsg" => Recvmmsg
});

/// Whether to count arrivals with an eBPF socket filter.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum ArrivalsChoice {
    /// Where CAP_BPF allows it.
    #[default]
    Auto,
    /// Always, or an error that says why it cannot be done.
    Bpf,
    /// Never.
    Off,
}

ringest_base::names!(ArrivalsChoice {
    "auto" => Auto;
    "bpf" => Bpf;
    "off" => Off
});

/// The configuration of an engine. [`Builder`](crate::control::builder::Builder) and
/// [`Settings`](crate::control::settings::Settings) fill it.
#[derive(Clone, Debug)]
pub struct Config {
    /// Listen addresses, at least one.
    pub listen: Vec<ListenAddr>,
    /// Whether `[::]` receives only IPv6, and not IPv4 too.
    pub only_v6: bool,
    /// Multicast groups to join, on every listen address that can receive them. A listen address that is a group is
    /// joined without being listed here.
    pub groups: Vec<Group>,
    /// Which receiver's socket gets a datagram.
    pub steer: Steer,
    /// Further options of every socket.
    pub socket: SocketOptions,
    /// Receiver threads; `None`: half of the cores.
    pub receivers: Option<usize>,
    /// Worker threads; 0: handlers run on the receivers; `None`: the other half of the cores.
    pub workers: Option<usize>,
    /// Cores to pin to, receivers first; `None`: those this process may use.
    pub cores: Option<Vec<usize>>,
    /// How to receive datagrams from the sockets.
    pub backend: BackendChoice,
    /// Which worker gets a datagram.
    pub dispatch: Dispatch,
    /// The reaction to workers that fall behind.
    pub overload: Overload,
    /// Provided buffers per receiver; rounded up to a power of two.
    pub slots: usize,
    /// Size of a batch in bytes.
    pub batch_bytes: usize,
    /// Size of all batches of all receivers together, in bytes.
    pub pool_bytes: usize,
    /// Batches that a worker's queue holds.
    pub queue_batches: usize,
    /// Size of the reply batches of all workers together, in bytes; 0: handlers do not reply.
    pub reply_bytes: usize,
    /// Receive buffer to ask the kernel for, per socket, in bytes.
    pub rcvbuf_bytes: usize,
    /// The most latency that gathering datagrams may add; zero: none.
    pub coalesce: Duration,
    /// Whether the kernel may hand over trains (UDP_GRO).
    pub gro: bool,
    /// Whether the kernel's receive time comes with each datagram (SO_TIMESTAMPNS).
    pub timestamps: bool,
    /// Whether fields of its IP header come with each datagram.
    pub ip_headers: bool,
    /// Whether datagrams that reach the sockets are counted.
    pub arrivals: ArrivalsChoice,
    /// Stop after this many datagrams; a train that crosses the mark is received whole. `None`: no limit.
    pub limit: Option<u64>,
    /// Time without a datagram after which a handler is called, and between such calls. `None`: never.
    pub idle_tick: Option<Duration>,
    /// How long a reply may wait for room in the send buffer.
    pub send_timeout: Duration,
    /// How long a stop may take to hand over the datagrams that the sockets hold.
    pub drain: Duration,
    /// Entries of the completion queue, for tests of its overflow; 0: enough that it cannot overflow.
    pub cq_entries: u32,
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            only_v6: false,
            groups: Vec::new(),
            steer: Steer::default(),
            socket: SocketOptions::default(),
            receivers: None,
            workers: None,
            cores: None,
            backend: BackendChoice::default(),
            dispatch: Dispatch::default(),
            overload: Overload::default(),
            slots: 256,
            batch_bytes: 128 << 10,
            pool_bytes: 16 << 20,
            queue_batches: 32,
            reply_bytes: 4 << 20,
            rcvbuf_bytes: 4 << 20,
            coalesce: Duration::from_millis(1),
            gro: true,
            timestamps: false,
            ip_headers: false,
            arrivals: ArrivalsChoice::default(),
            limit: None,
            idle_tick: None,
            send_timeout: Duration::from_secs(1),
            drain: Duration::from_secs(5),
            cq_entries: 0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listen_addresses_read_as_written() {
        for text in ["127.0.0.1:514", "[::1]:514", "*:514", "[::]:0"] {
            assert_eq!(text.parse::<ListenAddr>().unwrap().to_string(), text);
        }
        for text in ["", "*", "*:", "*:70000", "localhost:1", "1.2.3.4", "::1:5"] {
            assert!(text.parse::<ListenAddr>().is_err(), "{text}");
        }
        let any: ListenAddr = "*:514".parse().unwrap();
        assert_eq!(any.resolve(true).to_string(), "[::]:514");
        assert_eq!(any.resolve(false).to_string(), "0.0.0.0:514");
    }
}
