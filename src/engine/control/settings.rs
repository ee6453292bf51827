//! Settings of an engine, as flags and settings files give them: every one optional, every one with its name.
//!
//! ```text
//!  flags ──┐
//!  file  ──┼─ Settings::over ─► Settings ─ Settings::config ─► Config ─► Builder ─► Plan
//!  (none) ─┘                                (defaults: Config::default)
//! ```
//!
//! A layer that sets a value wins over the layers below it. To add a setting: a row in the table below, its use in
//! `Settings::config` or `Settings::socket_options`, its field and default in `config.rs`, its setter in
//! `builder.rs`, and the flag in the program (`cli/args`).

use ringest_base::text::dscp::Dscp;
use ringest_base::text::values::{Byte, ByteSize, Coalesce, Cores, Number, Span, Threads};
use serde::{Deserialize, Serialize};

use crate::control::config::{ArrivalsChoice, BackendChoice, Config, ListenAddr};
use crate::control::listen;
use crate::control::listen::ListenTarget;
use crate::control::names::{NameError, Resolve};
use crate::error::Error;
use crate::receive::dispatch::{Dispatch, Overload};
use crate::socket::interface::Interface;
use crate::socket::multicast::Group;
use crate::socket::options::{PathMtu, SocketOptions};
use crate::socket::steer::Steer;

ringest_base::as_text!(Group, Interface);

/// Defines [`Settings`]: each row is a field with its type.
macro_rules! settings {
    ($($(#[$meta:meta])* $name:ident: $type:ty,)*) => {
        /// Settings of an engine. `None` leaves a setting to the layer below, and in the end to its default.
        ///
        /// As JSON or in another format of serde, a key is the name of the field (`for` for `run_for`), and a
        /// value is written as its flag is typed. An unknown key is an error.
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(default, deny_unknown_fields)]
        pub struct Settings {
            $($(#[$meta])* #[serde(skip_serializing_if = "Option::is_none")] pub $name: Option<$type>,)*
        }

        impl Settings {
            /// Returns the values of `self`, and those of `below` where `self` has none.
            fn or_below(self, below: Self) -> Self {
                Self { $($name: self.$name.or(below.$name),)* }
            }
        }
    };
}

settings! {
    /// Where to listen.
    listen: Vec<ListenTarget>,
    /// Which addresses of a name to listen on. Default: all.
    resolve: Resolve,
    /// Whether `[::]` takes IPv6 alone. Default: IPv4 too.
    v6only: bool,
    /// Multicast groups to join on every address that can take them.
    join: Vec<Group>,

    /// Receiver threads. Default: `auto`, half of the cores.
    receivers: Threads,
    /// Worker threads; 0 runs handlers on the receivers. Default: `auto`, the other half.
    workers: Threads,
    /// Cores to pin threads to, receivers first. Default: those this process may use.
    cores: Cores,
    /// Which worker gets a datagram. Default: `flow`.
    dispatch: Dispatch,
    /// Policy when workers fall behind. Default: `wait`.
    overload: Overload,
    /// Which receiver gets a datagram. Default: `hash`.
    steer: Steer,

    /// How datagrams are taken from the sockets. Default: `auto`.
    backend: BackendChoice,
    /// The most latency that gathering datagrams may add. Default: `auto`, 1 ms.
    coalesce: Coalesce,
    /// Whether the kernel may hand over trains (UDP_GRO). Default: yes.
    gro: bool,
    /// Whether arrivals are counted by an eBPF filter. Default: `auto`.
    arrivals: ArrivalsChoice,
    /// How long to poll the NIC before sleeping, 1 µs to 1 s. Default: not at all.
    busy_poll: Span,
    /// Whether the kernel's receive time comes with each datagram. Default: no.
    timestamps: bool,
    /// Whether facts of its IP header come with each datagram. Default: no.
    ip_headers: bool,

    /// Whether datagrams for any address are taken that TPROXY or the routing table hands over. Default: no.
    transparent: bool,
    /// The only interface to use, in and out, by name.
    device: Interface,
    /// Whether to bind to an address that this host does not have yet. Default: no.
    freebind: bool,
    /// Send buffer per socket. Default: the kernel's.
    sndbuf: ByteSize,
    /// TTL or hop limit of sent datagrams, from 1 up. Default: the kernel's.
    ttl: u8,
    /// DSCP of sent datagrams; excludes `tos`.
    dscp: Dscp,
    /// ECN bits of sent datagrams, 0 to 3; excludes `tos`.
    ecn: u8,
    /// TOS byte or traffic class of sent datagrams; excludes `dscp` and `ecn`.
    tos: Byte,
    /// Mark of sent datagrams, for routing rules and firewalls.
    mark: Number,
    /// Priority of sent datagrams, for queueing disciplines.
    priority: u32,
    /// Policy for the path MTU of sent datagrams. Default: the kernel's.
    mtu_discover: PathMtu,

    /// Provided buffers per receiver. Default: 256.
    slots: usize,
    /// Size of a batch. Default: 128K.
    batch_bytes: ByteSize,
    /// Size of all batches together. Default: 16M.
    pool_bytes: ByteSize,
    /// Receive buffer per socket. Default: 4M.
    rcvbuf: ByteSize,

    /// Stop when no datagram came for this long. Default: never.
    idle_timeout: Span,
    /// Stop after this long. Default: never.
    #[serde(rename = "for")]
    run_for: Span,
    /// Stop after this many datagrams. Default: never.
    count: u64,
}

impl Settings {
    /// Returns the values of `self`, and those of `below` where `self` has none. `tos` and its parts, `dscp` and
    /// `ecn`, are one value: a layer that sets one of them hides them all in the layers below.
    #[must_use]
    pub fn over(self, mut below: Self) -> Self {
        if self.tos.is_some() || self.dscp.is_some() || self.ecn.is_some() {
            (below.tos, below.dscp, below.ecn) = (None, None, None);
        }
        self.or_below(below)
    }

    /// Returns the addresses of `listen`, names looked up, each with the index of its entry in `listen`.
    ///
    /// # Errors
    /// A name is unknown, or has no address of the family wanted.
    pub fn addresses(&self, ipv6: bool) -> Result<Vec<(usize, ListenAddr)>, NameError> {
        let targets = self.listen.as_deref().unwrap_or_default();
        listen::addresses(targets, self.resolve.unwrap_or(Resolve::All), ipv6)
    }

    /// Returns the configuration of an engine that listens on `addresses`, with defaults for what is not set.
    /// Names in `listen` are not looked up here; see [`Settings::addresses`].
    ///
    /// # Errors
    /// [`Error::Setting`]: a value is out of its range, or two exclude each other.
    pub fn config(&self, addresses: impl IntoIterator<Item = ListenAddr>) -> Result<Config, Error> {
        let default = Config::default();
        let bytes = |size: Option<ByteSize>, default| size.map_or(default, ByteSize::as_usize);
        Ok(Config {
            listen: addresses.into_iter().collect(),
            only_v6: self.v6only.unwrap_or(default.only_v6),
            groups: self.join.clone().unwrap_or_default(),
            steer: self.steer.unwrap_or_default(),
            socket: self.socket_options()?,
            receivers: self.receivers.and_then(|Threads(number)| number),
            workers: self.workers.and_then(|Threads(number)| number),
            cores: self.cores.clone().map(|Cores(cores)| cores),
            backend: self.backend.unwrap_or_default(),
            dispatch: self.dispatch.unwrap_or_default(),
            overload: self.overload.unwrap_or_default(),
            slots: self.slots.unwrap_or(default.slots),
            batch_bytes: bytes(self.batch_bytes, default.batch_bytes),
            pool_bytes: bytes(self.pool_bytes, default.pool_bytes),
            rcvbuf_bytes: bytes(self.rcvbuf, default.rcvbuf_bytes),
            coalesce: self.coalesce.and_then(|Coalesce(bound)| bound).unwrap_or(default.coalesce),
            gro: self.gro.unwrap_or(default.gro),
            timestamps: self.timestamps.unwrap_or(default.timestamps),
            ip_headers: self.ip_headers.unwrap_or(default.ip_headers),
            arrivals: self.arrivals.unwrap_or_default(),
            limit: self.count,
            ..default
        })
    }

    /// Returns the options of the sockets.
    ///
    /// # Errors
    /// [`Error::Setting`]: a value is out of its range, or two exclude each other.
    pub fn socket_options(&self) -> Result<SocketOptions, Error> {
        let device = match &self.device {
            Some(Interface::Index(index)) => {
                return Err(Error::setting(
                    "device",
                    index,
                    "expected the interface's name, such as eth0",
                ));
            }
            Some(Interface::Name(name)) => Some(name.clone()),
            None => None,
        };
        if self.ttl == Some(0) {
            return Err(Error::setting("ttl", 0, "expected 1 to 255"));
        }
        Ok(SocketOptions {
            sndbuf_bytes: self.sndbuf.map(ByteSize::as_usize),
            hop_limit: self.ttl,
            traffic_class: self.traffic_class()?,
            transparent: self.transparent.unwrap_or(false),
            freebind: self.freebind.unwrap_or(false),
            device,
            mark: self.mark.map(|Number(mark)| mark),
            priority: self.priority,
            busy_poll_us: self.busy_poll.map(busy_poll_us).transpose()?,
            path_mtu: self.mtu_discover,
            ..SocketOptions::default()
        })
    }

    /// Returns the TOS byte, whole or made of its parts; `None` if no part is set.
    fn traffic_class(&self) -> Result<Option<u8>, Error> {
        if let Some(ecn) = self.ecn.filter(|ecn| *ecn > 3) {
            return Err(Error::setting("ecn", ecn, "expected 0 to 3"));
        }
        match (self.tos, self.dscp, self.ecn) {
            (None, None, None) => Ok(None),
            (Some(Byte(byte)), None, None) => Ok(Some(byte)),
            (None, dscp, ecn) => {
                Ok(Some(dscp.unwrap_or_default().bits() << 2 | ecn.unwrap_or_default()))
            }
            (Some(byte), ..) => Err(Error::setting(
                "tos",
                byte,
                "it holds dscp and ecn already; set either it or those",
            )),
        }
    }
}

/// The kernel counts microseconds, up to a time that the option is made for.
fn busy_poll_us(Span(time): Span) -> Result<u32, Error> {
    let us = u32::try_from(time.as_micros()).ok().filter(|us| (1..=1_000_000).contains(us));
    us.ok_or_else(|| Error::setting("busy_poll", Span(time), "expected 1us to 1s, such as 50us"))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn read(json: &str) -> serde_json::Result<Settings> {
        serde_json::from_str(json)
    }

    const FILE: &str = r#"{
        "listen": ["*:514", "localhost:9000"], "resolve": "v4", "join": ["239.1.1.1%lo"],
        "receivers": 2, "workers": "auto", "cores": "0,2-3", "dispatch": "spread", "overload": "drop",
        "steer": "round-robin", "backend": "io_uring", "coalesce": "200us", "gro": false, "arrivals": "off",
        "device": "eth0", "sndbuf": "1MB", "dscp": "ef", "mark": "0x10", "mtu_discover": "do",
        "batch_bytes": 65536, "rcvbuf": "1.5M", "for": "10s", "count": 7
    }"#;

    #[test]
    fn a_file_becomes_a_configuration() {
        let settings = read(FILE).unwrap();
        let addresses = settings.addresses(true).unwrap();
        assert_eq!(addresses[1], (1, "127.0.0.1:9000".parse().unwrap()));
        let config = settings.config(addresses.into_iter().map(|(_, address)| address)).unwrap();
        assert_eq!((config.listen.len(), config.groups.len()), (2, 1));
        assert_eq!(
            (config.receivers, config.workers, config.cores),
            (Some(2), None, Some(vec![0, 2, 3]))
        );
        assert_eq!((config.dispatch, config.overload), (Dispatch::Spread, Overload::Drop));
        assert_eq!((config.steer, config.backend), (Steer::RoundRobin, BackendChoice::IoUring));
        assert_eq!((config.coalesce, config.gro), (Duration::from_micros(200), false));
        assert_eq!((config.batch_bytes, config.rcvbuf_bytes), (65_536, 3 << 19));
        assert_eq!((config.arrivals, config.limit), (ArrivalsChoice::Off, Some(7)));
        let socket = config.socket;
        assert_eq!((socket.sndbuf_bytes, socket.traffic_class), (Some(1_000_000), Some(0xb8)));
        assert_eq!((socket.mark, socket.device.as_deref()), (Some(16), Some("eth0")));
        assert_eq!(settings.run_for, Some(Span(Duration::from_secs(10))));
    }

    #[test]
    fn a_flag_wins_over_the_file_and_the_file_over_defaults() {
        let flags =
            Settings { rcvbuf: Some(ByteSize(1 << 20)), tos: Some(Byte(4)), ..Settings::default() };
        let merged = flags.over(read(FILE).unwrap());
        let config = merged.config([]).unwrap();
        assert_eq!((config.rcvbuf_bytes, config.batch_bytes), (1 << 20, 65_536));
        assert_eq!(config.pool_bytes, Config::default().pool_bytes);
        assert_eq!(
            config.socket.traffic_class,
            Some(4),
            "the DSCP of the file is hidden by the flag"
        );
    }

    #[test]
    fn nothing_set_is_the_default_and_is_written_as_nothing() {
        let nothing = read("{}").unwrap();
        assert_eq!(
            format!("{:?}", nothing.config([]).unwrap()),
            format!("{:?}", Config::default())
        );
        assert_eq!(serde_json::to_string(&nothing).unwrap(), "{}");
    }

    #[test]
    fn every_setting_that_is_written_reads_back() {
        let settings = read(FILE).unwrap();
        let text = serde_json::to_string(&settings).unwrap();
        assert_eq!(read(&text).unwrap(), settings, "{text}");
    }

    #[test]
    fn mistakes_in_a_file_are_named() {
        for (json, named) in [
            (r#"{"recievers": 2}"#, "unknown field `recievers`"),
            (r#"{"run_for": "1s"}"#, "unknown field `run_for`"),
            (r#"{"rcvbuf": "lots"}"#, "expected bytes"),
            (r#"{"for": 5}"#, "with its unit"),
            (r#"{"steer": "left"}"#, "expected hash, cpu, incoming-cpu or round-robin"),
            (r#"{"listen": ["nowhere"]}"#, "expected IP:PORT"),
            (r#"{"dscp": 64}"#, "0 to 63"),
        ] {
            let error = read(json).unwrap_err().to_string();
            assert!(error.contains(named), "{json}: {error}");
        }
        for json in [
            r#"{"ttl": 0}"#,
            r#"{"ecn": 4}"#,
            r#"{"tos": 1, "dscp": "ef"}"#,
            r#"{"device": 3}"#,
            r#"{"busy_poll": "2s"}"#,
            r#"{"busy_poll": "1ns"}"#,
        ] {
            assert!(read(json).unwrap().config([]).unwrap_err().is_usage(), "{json}");
        }
    }
}
