//! One look at a host: what will lose datagrams here, and the command that mends it.
//!
//! `examine` asks every room below in turn. Each reads through `files::Files` and hands the text
//! to a pure parser of `parse`, so that a tree of fixtures can stand in for a host; what no file
//! tells is tried (a ring, a bind) or asked (ethtool, nft). Nothing is changed.
//!
//! A **failure** surely breaks receiving. A **warning** loses datagrams under load, or shows that some
//! were lost. **Info** is a fact to know. What cannot be read is **unknown**, with the reason.

mod check;
mod files;
mod parse;
// One room per area, in the order they are printed.
mod kernel;
mod limits;
mod buffers;
mod counters;
mod address;
mod networks;
mod owners;
mod firewall;
mod nft;
mod iptables;
mod conntrack;
mod nic;
mod nic_load;
mod nic_lost;
mod ethtool;
mod interrupts;
mod cpu;
mod memory;
#[cfg(test)]
mod tests;

use std::net::SocketAddr;

pub use check::{Area, Check, Status, Sysctl};

use crate::control::config::Config;
use crate::control::host::Host;
use crate::control::plan;
use crate::error::Result;
use files::Files;

/// What the host is examined for.
#[derive(Clone, Debug, PartialEq)]
pub struct Wanted {
    /// Addresses to listen on; none: the host is looked at as it is.
    pub addresses: Vec<SocketAddr>,
    /// They are `*:PORT`: IPv6 is taken if it is there.
    pub any: bool,
    /// The core of each receiver.
    pub receiver_cores: Vec<usize>,
    /// The core of each worker.
    pub worker_cores: Vec<usize>,
    /// Receive buffer per socket, bytes.
    pub rcvbuf_bytes: usize,
}

impl Wanted {
    /// For the threads an engine would have here: the numbers given, or as many as it would choose.
    ///
    /// # Errors
    /// A number of threads, a core or a size that cannot be, as an engine would say it.
    pub fn plan(config: &Config) -> Result<Self> {
        // The plan is about threads here; whether an address can be had is what is examined.
        let config =
            Config { listen: vec![SocketAddr::from(([127, 0, 0, 1], 0)).into()], ..config.clone() };
        let plan = plan::plan(&config, &Host::read())?;
        Ok(Self {
            addresses: Vec::new(),
            any: false,
            receiver_cores: plan.receiver_cores,
            worker_cores: plan.worker_cores,
            rcvbuf_bytes: config.rcvbuf_bytes,
        })
    }

    /// How to listen as asked, for a command to be completed.
    fn listen_command(&self) -> String {
        match (self.addresses.first(), self.any) {
            (Some(address), false) if address.is_ipv4() => format!("ringest listen {address}"),
            (Some(address), false) => format!("ringest listen '{address}'"),
            (first, _) => {
                let port = first.map_or(9000, SocketAddr::port);
                format!("ringest listen '*:{port}'")
            }
        }
    }

    /// What is asked for on a host that has IPv6 or not: `*:PORT` is a wish for both families, one of
    /// which may be missing, whereas an address is asked for as it stands.
    fn here(&self, ipv6: bool) -> Self {
        let mut here = self.clone();
        here.addresses.retain(|address| ipv6 || !self.any || address.is_ipv4());
        here
    }

    /// The port asked for; `None`: none, or any.
    fn port(&self) -> Option<u16> {
        self.addresses.first().map(SocketAddr::port).filter(|port| *port > 0)
    }
}

/// Looks at this host. Nothing is changed; a socket is bound and closed again to see whether it can be.
#[must_use]
pub fn examine(wanted: &Wanted) -> Vec<Check> {
    let files = Files::host();
    let wanted = &wanted.here(address::has_ipv6(&files));
    let mut checks = Vec::new();
    let mut room = |area, found: Vec<Check>| {
        checks.extend(found.into_iter().map(|check| check.in_area(area)));
    };
    room(Area::Address, address::checks(&files, wanted));
    room(Area::Firewall, firewall::checks(&files, wanted));
    room(Area::Firewall, conntrack::checks(&files, wanted));
    room(Area::Kernel, kernel::checks(&files));
    room(Area::Limits, limits::checks(&files, wanted));
    room(Area::Buffers, buffers::checks(&files, wanted));
    room(Area::Lost, counters::checks(&files, wanted));
    let interfaces = nic::Interface::all(&files, wanted);
    room(Area::Interfaces, nic::checks(&files, &interfaces, wanted));
    room(Area::Cpu, cpu::checks(&files, &interfaces, wanted));
    room(Area::Cpu, memory::checks(&files));
    checks
}
