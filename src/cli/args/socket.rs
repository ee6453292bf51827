//! Flags of listening sockets: addresses and names, socket options, steering. For `listen`, `echo` and
//! `bench server`; the options in [`CommonArgs`] also for `send`.

use std::time::Duration;

use clap::Args;
use ringest::{Group, Interface, PathMtu, Resolve, SocketOptions, Steer};
use ringest_base::text::dscp::Dscp;
use ringest_base::text::values::{Byte, ByteSize, Number, Span};
use ringest_engine::control::settings::Settings;

use crate::cli::args::named::named;
use crate::cli::failure::Failure;

/// How names become addresses.
#[derive(Args, Debug)]
pub(crate) struct NameArgs {
    /// Which addresses of a name to listen on: one family only, one family if the name has any of it,
    /// or all [default: all]
    #[arg(long, value_parser = named::<Resolve>(), help_heading = "Addresses")]
    resolve: Option<Resolve>,
    /// Receive only IPv6 on [::], which otherwise receives IPv4 too
    #[arg(long, help_heading = "Addresses")]
    v6only: bool,
}

impl NameArgs {
    /// Writes the flags that were given into `settings`.
    pub(crate) fn fill(&self, settings: &mut Settings) {
        settings.resolve = self.resolve;
        settings.v6only = self.v6only.then_some(true);
    }
}

/// Options of every listening socket.
#[derive(Args, Debug)]
pub(crate) struct SocketArgs {
    /// Which receiver gets a datagram: hash of its addresses (a peer stays with one receiver); cpu:
    /// the receiver pinned to the CPU that took it from the NIC; incoming-cpu: the same as a hint;
    /// round-robin: in turn, giving up the order of a peer's datagrams [default: hash]
    #[arg(long, value_parser = named::<Steer>(), help_heading = "Threads")]
    steer: Option<Steer>,
    /// Poll the NIC for this long before sleeping, such as 50us
    #[arg(long, value_name = "DURATION", value_parser = busy_poll, help_heading = "Receiving")]
    busy_poll: Option<Span>,

    /// Ask the kernel when it received each datagram; --output json shows it as kernel_time
    #[arg(long, help_heading = "Receiving")]
    timestamps: bool,
    /// Ask for fields of each datagram's IP header; --output json shows destination, ttl, dscp, ecn
    #[arg(long, help_heading = "Receiving")]
    ip_headers: bool,

    /// Receive datagrams for any address that TPROXY or the routing table hands over, and reply from it
    /// (the address; the port is the listener's, so have TPROXY keep it)
    #[arg(long, help_heading = "Sockets")]
    transparent: bool,
    #[command(flatten)]
    common: CommonArgs,
}

impl SocketArgs {
    /// Writes the flags that were given into `settings`.
    pub(crate) fn fill(&self, settings: &mut Settings) {
        settings.steer = self.steer;
        settings.busy_poll = self.busy_poll;
        settings.timestamps = self.timestamps.then_some(true);
        settings.ip_headers = self.ip_headers.then_some(true);
        settings.transparent = self.transparent.then_some(true);
        self.common.fill(settings);
    }
}

/// Options that listening and sending sockets have in common. A listening socket sends replies.
#[derive(Args, Debug)]
pub(crate) struct CommonArgs {
    /// Use only this interface, in and out
    #[arg(long, value_name = "NAME", value_parser = device, help_heading = "Sockets")]
    device: Option<Interface>,
    /// Bind to an address that this host does not have yet
    #[arg(long, help_heading = "Sockets")]
    freebind: bool,
    /// Send buffer per socket; a warning follows if the kernel grants less
    #[arg(long, value_name = "BYTES", help_heading = "Sockets")]
    sndbuf: Option<ByteSize>,
    /// TTL or hop limit of sent datagrams
    #[arg(
        long, value_name = "1-255", value_parser = clap::value_parser!(u8).range(1..),
        help_heading = "Sockets"
    )]
    ttl: Option<u8>,
    #[command(flatten)]
    class: ClassArgs,
    /// Mark of sent datagrams, for routing rules and firewalls (needs CAP_NET_ADMIN or CAP_NET_RAW)
    #[arg(long, value_name = "N", help_heading = "Sockets")]
    mark: Option<Number>,
    /// Priority of sent datagrams, for queueing disciplines: 0 to 6 (above 6 needs CAP_NET_ADMIN or
    /// CAP_NET_RAW)
    #[arg(long, value_name = "N", help_heading = "Sockets")]
    priority: Option<u32>,
    /// How to treat the path MTU of sent datagrams
    #[arg(long, value_parser = named::<PathMtu>(), value_name = "POLICY", help_heading = "Sockets")]
    mtu_discover: Option<PathMtu>,
}

impl CommonArgs {
    fn fill(&self, settings: &mut Settings) {
        settings.device = self.device.clone();
        settings.freebind = self.freebind.then_some(true);
        settings.sndbuf = self.sndbuf;
        settings.ttl = self.ttl;
        settings.dscp = self.class.dscp;
        settings.ecn = self.class.ecn;
        settings.tos = self.class.tos;
        settings.mark = self.mark;
        settings.priority = self.priority;
        settings.mtu_discover = self.mtu_discover;
    }

    /// Returns the options of a sending socket.
    pub(crate) fn options(&self) -> Result<SocketOptions, Failure> {
        let mut settings = Settings::default();
        self.fill(&mut settings);
        Ok(settings.socket_options()?)
    }
}

/// DSCP and ECN, or the whole byte.
#[derive(Args, Debug)]
struct ClassArgs {
    /// DSCP of sent datagrams: a class (ef, af41, cs6, …) or 0 to 63
    #[arg(long, value_name = "CLASS", help_heading = "Sockets")]
    dscp: Option<Dscp>,
    /// ECN bits of sent datagrams, 0 to 3
    #[arg(
        long, value_name = "0-3", value_parser = clap::value_parser!(u8).range(..=3),
        help_heading = "Sockets"
    )]
    ecn: Option<u8>,
    /// The whole TOS byte or traffic class of sent datagrams, such as 0xb8
    #[arg(
        long, value_name = "BYTE", conflicts_with_all = ["dscp", "ecn"], help_heading = "Sockets"
    )]
    tos: Option<Byte>,
}

/// Reads the name of an interface. The kernel would take an empty name for any interface, and cut a long one.
fn device(text: &str) -> Result<Interface, String> {
    match text.parse()? {
        Interface::Index(_) => Err("expected the interface's name, such as eth0".to_owned()),
        name @ Interface::Name(_) => Ok(name),
    }
}

/// Reads a time of at least 1 µs, the unit that the kernel counts in.
fn busy_poll(text: &str) -> Result<Span, String> {
    let range = Duration::from_micros(1)..=Duration::from_secs(1);
    let time: Span = text.parse()?;
    range
        .contains(&time.0)
        .then_some(time)
        .ok_or_else(|| "expected 1us to 1s, such as 50us".to_owned())
}

/// Multicast groups.
#[derive(Args, Debug)]
pub(crate) struct GroupArgs {
    /// Join a multicast group on every ADDR that can take it, and receive no other: any source, or
    /// only those given; on the interface given, or by the routing table. Repeat it for more groups
    #[arg(long = "join", value_name = "GROUP[@SOURCE,…][%IFACE]", help_heading = "Addresses")]
    groups: Vec<Group>,
}

impl GroupArgs {
    /// Writes the flags that were given into `settings`.
    pub(crate) fn fill(&self, settings: &mut Settings) {
        settings.join = (!self.groups.is_empty()).then(|| self.groups.clone());
    }
}
