//! Flags of a sending socket, and the client that they make.

use std::net::IpAddr;

use clap::Args;
use ringest_client::{Builder, Client};
use ringest_engine::socket::interface::Interface;
use ringest_engine::socket::options::{MulticastSending, PathMtu, SocketOptions};

use crate::cli::args::socket::CommonArgs;
use crate::cli::failure::Failure;
use crate::cli::send::peers;

/// Flags of a sending socket.
#[derive(Args, Debug)]
pub(crate) struct SendSocketArgs {
    /// Address of this host to send from [default: by the route]
    #[arg(long, value_name = "IP", value_parser = peers::local_ip,
        help_heading = "Sockets")]
    bind: Option<IpAddr>,
    /// Port to send every datagram from [default: a free one]
    #[arg(long, value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..),
        help_heading = "Sockets")]
    source_port: Option<u16>,
    /// Send from --bind although this host does not have that address (IP_TRANSPARENT; needs
    /// CAP_NET_ADMIN or CAP_NET_RAW)
    #[arg(long, help_heading = "Sockets")]
    transparent: bool,
    /// Refuse datagrams that would be fragmented (the same as --mtu-discover do)
    #[arg(long, conflicts_with = "mtu_discover", help_heading = "Sockets")]
    dont_fragment: bool,
    #[command(flatten)]
    common: CommonArgs,

    /// Allow broadcast addresses
    #[arg(long, help_heading = "Multicast and broadcast")]
    broadcast: bool,
    /// Interface to send multicast datagrams from [default: by the route]
    #[arg(long, value_name = "NAME|INDEX", help_heading = "Multicast and broadcast")]
    multicast_interface: Option<Interface>,
    /// TTL of multicast datagrams [default: 1, the local network; 0: this host]
    #[arg(long, value_name = "N", help_heading = "Multicast and broadcast")]
    multicast_ttl: Option<u8>,
    /// Do not deliver multicast datagrams to members on this host
    #[arg(long, help_heading = "Multicast and broadcast")]
    no_multicast_loop: bool,
}

impl SendSocketArgs {
    /// Returns the builder of the client, without peers yet.
    pub(crate) fn builder(&self) -> Result<Builder, Failure> {
        let builder = Client::builder()
            .options(self.options()?)
            .broadcast(self.broadcast)
            .source_port(self.source_port.unwrap_or(0));
        Ok(match self.bind {
            Some(ip) => builder.bind(ip),
            None => builder,
        })
    }

    fn options(&self) -> Result<SocketOptions, Failure> {
        let common = self.common.options()?;
        Ok(SocketOptions {
            transparent: self.transparent,
            path_mtu: self.dont_fragment.then_some(PathMtu::Do).or(common.path_mtu),
            multicast: MulticastSending {
                hop_limit: self.multicast_ttl,
                loops: self.no_multicast_loop.then_some(false),
                interface: self.multicast_interface.clone(),
            },
            ..common
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        socket: SendSocketArgs,
    }

    fn options(args: &str) -> Result<SocketOptions, clap::Error> {
        let words = ["x"].into_iter().chain(args.split_whitespace());
        Line::try_parse_from(words).map(|line| line.socket.options().unwrap())
    }

    #[test]
    fn flags_become_options() {
        assert_eq!(options("").unwrap(), SocketOptions::default());
        let class = |args| options(args).unwrap().traffic_class;
        assert_eq!(class("--dscp ef"), Some(0xb8));
        assert_eq!(class("--dscp af11 --ecn 1"), Some(0x29));
        assert_eq!(class("--ecn 2"), Some(2));
        assert_eq!(class("--tos 0xb8"), Some(0xb8));
        assert_eq!(options("--dont-fragment").unwrap().path_mtu, Some(PathMtu::Do));
        assert_eq!(options("--mtu-discover omit").unwrap().path_mtu, Some(PathMtu::Omit));
        assert_eq!(options("--mark 0x10").unwrap().mark, Some(16));
        let sending = options("--multicast-interface lo --multicast-ttl 0 --no-multicast-loop");
        assert_eq!(
            sending.unwrap().multicast,
            MulticastSending {
                hop_limit: Some(0),
                loops: Some(false),
                interface: Some(Interface::Name("lo".to_owned())),
            }
        );
    }

    #[test]
    fn what_cannot_be_is_wrong_usage() {
        for args in [
            "--ttl 0",
            "--ttl 256",
            "--dscp 64",
            "--ecn 4",
            "--tos 256",
            "--tos 1 --dscp ef",
            "--source-port 0",
            "--dont-fragment --mtu-discover do",
            "--bind localhost",
            "--mark -1",
            "--multicast-interface 0",
        ] {
            assert!(options(args).is_err(), "{args}");
        }
    }
}
