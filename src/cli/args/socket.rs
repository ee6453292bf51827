//! The flags of listening sockets: addresses and names, what is set on the sockets, which receiver
//! gets a datagram. For `listen`, `echo` and `bench server`.

use std::net::SocketAddr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use ringest::{Builder, Group, ListenAddr, PathMtu, Resolve, SocketOptions, Steer};
use ringest_base::host::resources::Host;
use ringest_engine::control::names;

use crate::cli::args::dscp::dscp;
use crate::cli::args::values;
use crate::cli::args::values::ListenArg;
use crate::cli::failure::Failure;

/// How names become addresses.
#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// Which addresses of a name to listen on: one family alone, one if there is any of it, or all
    #[arg(long, value_enum, default_value = "all", help_heading = "Addresses")]
    resolve: ResolveArg,
    /// Take IPv6 alone on [::], which otherwise takes IPv4 too
    #[arg(long, help_heading = "Addresses")]
    v6only: bool,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum ResolveArg {
    V4,
    V6,
    PreferV4,
    PreferV6,
    All,
}

impl From<ResolveArg> for Resolve {
    fn from(arg: ResolveArg) -> Self {
        match arg {
            ResolveArg::V4 => Self::V4,
            ResolveArg::V6 => Self::V6,
            ResolveArg::PreferV4 => Self::PreferV4,
            ResolveArg::PreferV6 => Self::PreferV6,
            ResolveArg::All => Self::All,
        }
    }
}

impl NameArgs {
    /// Every address meant, names looked up, none twice; each with the place of what it was typed as.
    pub(crate) fn addresses(
        &self,
        given: &[ListenArg],
    ) -> Result<Vec<(usize, ListenAddr)>, Failure> {
        let mut addresses: Vec<(usize, ListenAddr)> = Vec::new();
        for (place, arg) in given.iter().enumerate() {
            match arg {
                ListenArg::Address(address) => {
                    // What a name brought before is not given twice by being written out.
                    let named = |known: &(usize, ListenAddr)| {
                        known.1 == *address && matches!(given[known.0], ListenArg::Name(..))
                    };
                    addresses.retain(|known| !named(known));
                    addresses.push((place, *address));
                }
                ListenArg::Name(name, port) => {
                    let mut found = names::resolve(name, *port, self.resolve.into())
                        .map_err(|error| Failure::Failed(format!("cannot listen: {error}")))?;
                    // As with `*`: a name is not an explicit IPv6 address.
                    if found.iter().any(SocketAddr::is_ipv4) && !Host::read().ipv6 {
                        found.retain(SocketAddr::is_ipv4);
                    }
                    for address in found.into_iter().map(ListenAddr::At) {
                        if !addresses.iter().any(|(_, known)| *known == address) {
                            addresses.push((place, address));
                        }
                    }
                }
            }
        }
        Ok(addresses)
    }

    pub(crate) fn apply(&self, builder: Builder) -> Builder {
        builder.only_v6(self.v6only)
    }
}

/// What is set on every socket.
#[derive(Args, Debug)]
pub(crate) struct SocketArgs {
    /// Which receiver gets a datagram: hash of its addresses (a peer stays with one receiver); cpu:
    /// the receiver pinned to the CPU that took it from the NIC; incoming-cpu: the same as a hint;
    /// round-robin: in turn, giving up the order of a peer's datagrams
    #[arg(long, value_enum, default_value = "hash", help_heading = "Threads")]
    steer: SteerArg,
    /// Poll the NIC for so long before sleeping, such as 50us
    #[arg(long, value_name = "DURATION", value_parser = busy_poll, help_heading = "Receiving")]
    busy_poll: Option<Duration>,

    /// Ask the kernel when it received each datagram; --output json shows it as kernel_time
    #[arg(long, help_heading = "Receiving")]
    timestamps: bool,
    /// Ask what the IP header of each datagram said; --output json shows destination, ttl, dscp, ecn
    #[arg(long, help_heading = "Receiving")]
    ip_headers: bool,

    /// Take datagrams for any address that TPROXY or the routing table hands over, and answer from it
    /// (the address; the port is the listener's, so have TPROXY keep it)
    #[arg(long, help_heading = "Sockets")]
    transparent: bool,
    #[command(flatten)]
    common: CommonArgs,
}

/// What a listening socket and a sending one can both be told; what a listening one sends are replies.
#[derive(Args, Debug)]
pub(crate) struct CommonArgs {
    /// Only through this interface, in and out
    #[arg(long, value_name = "NAME", value_parser = values::device, help_heading = "Sockets")]
    device: Option<String>,
    /// Bind to an address this host does not have yet
    #[arg(long, help_heading = "Sockets")]
    freebind: bool,
    /// Send buffer per socket; the kernel may grant less, which is said
    #[arg(long, value_name = "BYTES", value_parser = values::size, help_heading = "Sockets")]
    sndbuf: Option<usize>,
    /// TTL or hop limit of what is sent
    #[arg(
        long, value_name = "1-255", value_parser = clap::value_parser!(u8).range(1..),
        help_heading = "Sockets"
    )]
    ttl: Option<u8>,
    #[command(flatten)]
    class: ClassArgs,
    /// Mark of what is sent, for routing rules and firewalls (takes CAP_NET_ADMIN or CAP_NET_RAW)
    #[arg(long, value_name = "N", value_parser = values::number, help_heading = "Sockets")]
    mark: Option<u32>,
    /// Priority of what is sent, for queueing disciplines: 0 to 6 (above with CAP_NET_ADMIN or
    /// CAP_NET_RAW)
    #[arg(long, value_name = "N", help_heading = "Sockets")]
    priority: Option<u32>,
    /// What to do about the path MTU of what is sent
    #[arg(long, value_enum, value_name = "POLICY", help_heading = "Sockets")]
    mtu_discover: Option<MtuArg>,
}

impl CommonArgs {
    pub(crate) fn options(&self) -> SocketOptions {
        SocketOptions {
            sndbuf_bytes: self.sndbuf,
            hop_limit: self.ttl,
            traffic_class: self.class.byte(),
            freebind: self.freebind,
            device: self.device.clone(),
            mark: self.mark,
            priority: self.priority,
            path_mtu: self.mtu_discover.map(Into::into),
            ..SocketOptions::default()
        }
    }
}

/// DSCP and ECN, or the whole byte.
#[derive(Args, Debug)]
struct ClassArgs {
    /// DSCP of what is sent: a class (ef, af41, cs6, …) or 0 to 63
    #[arg(long, value_name = "CLASS", value_parser = dscp, help_heading = "Sockets")]
    dscp: Option<u8>,
    /// ECN bits of what is sent, 0 to 3
    #[arg(
        long, value_name = "0-3", value_parser = clap::value_parser!(u8).range(..=3),
        help_heading = "Sockets"
    )]
    ecn: Option<u8>,
    /// The whole TOS byte or traffic class of what is sent, such as 0xb8
    #[arg(
        long, value_name = "BYTE", value_parser = values::byte, conflicts_with_all = ["dscp", "ecn"],
        help_heading = "Sockets"
    )]
    tos: Option<u8>,
}

/// The kernel counts microseconds.
fn busy_poll(text: &str) -> Result<Duration, String> {
    let time = values::duration(text)?;
    if time < Duration::from_micros(1) || time > Duration::from_secs(1) {
        return Err("expected 1us to 1s, such as 50us".to_owned());
    }
    Ok(time)
}

impl ClassArgs {
    fn byte(&self) -> Option<u8> {
        match (self.tos, self.dscp, self.ecn) {
            (None, None, None) => None,
            (Some(byte), ..) => Some(byte),
            (None, dscp, ecn) => Some(dscp.unwrap_or(0) << 2 | ecn.unwrap_or(0)),
        }
    }
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum SteerArg {
    Hash,
    Cpu,
    IncomingCpu,
    RoundRobin,
}

/// Policies of IP_MTU_DISCOVER, ip(7).
#[derive(Clone, Copy, Debug, ValueEnum)]
enum MtuArg {
    /// Fragment here what the path does not take, and let nobody else (the usual default)
    Want,
    /// Never fragment: refuse what the path does not take
    Do,
    /// Let it be fragmented anywhere
    Dont,
    /// Never fragment, and ignore what is known of the path
    Probe,
    /// Believe the interface's MTU, not what ICMP says of the path
    Interface,
    /// The same, and fragment here what is larger
    Omit,
}

impl From<MtuArg> for PathMtu {
    fn from(arg: MtuArg) -> Self {
        match arg {
            MtuArg::Want => Self::Want,
            MtuArg::Do => Self::Do,
            MtuArg::Dont => Self::Dont,
            MtuArg::Probe => Self::Probe,
            MtuArg::Interface => Self::Interface,
            MtuArg::Omit => Self::Omit,
        }
    }
}

impl SocketArgs {
    pub(crate) fn apply(&self, builder: Builder) -> Builder {
        let busy_poll_us =
            self.busy_poll.map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        let options =
            SocketOptions { transparent: self.transparent, busy_poll_us, ..self.common.options() };
        let builder = builder.timestamps(self.timestamps).ip_headers(self.ip_headers);
        builder.socket_options(options).steer(match self.steer {
            SteerArg::Hash => Steer::Hash,
            SteerArg::Cpu => Steer::Cpu,
            SteerArg::IncomingCpu => Steer::IncomingCpu,
            SteerArg::RoundRobin => Steer::RoundRobin,
        })
    }
}

/// Multicast groups.
#[derive(Args, Debug)]
pub(crate) struct GroupArgs {
    /// Join a multicast group on every ADDR that can take it, and receive no other: any source, or
    /// only those given; on the interface given, or by the routing table. Give it once for each
    #[arg(long = "join", value_name = "GROUP[@SOURCE,…][%IFACE]", help_heading = "Addresses")]
    groups: Vec<Group>,
}

impl GroupArgs {
    pub(crate) fn apply(&self, builder: Builder) -> Builder {
        self.groups.iter().cloned().fold(builder, Builder::join)
    }
}
