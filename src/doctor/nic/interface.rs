//! The interfaces that datagrams come in by.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

use crate::check::{Check, Status};
use crate::files::Files;
use crate::nic::ethtool::Driver;
use crate::wanted::Wanted;

/// Most interfaces examined: a host of containers has hundreds, all alike.
const MOST: usize = 16;
/// Bits of /sys/class/net/*/flags (netdevice(7)).
const IFF_UP: u64 = 1;
const IFF_LOOPBACK: u64 = 8;

/// A network interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// Whether a device on a bus is behind it.
    pub(crate) physical: bool,
    pub(crate) up: bool,
    /// Whether the address asked for is this interface's.
    pub(crate) asked: bool,
    pub(crate) driver: Driver,
}

impl Interface {
    /// Returns the interfaces that the datagrams can come in by. For one address these are the interfaces that have it.
    pub(crate) fn all(files: &Files, wanted: &Wanted) -> Vec<Self> {
        let asked: Vec<IpAddr> = wanted.addresses.iter().map(std::net::SocketAddr::ip).collect();
        let specific = !asked.is_empty() && asked.iter().all(|ip| !ip.is_unspecified());
        if specific && asked.iter().all(|ip| ip.is_loopback()) {
            return Vec::new();
        }
        let holders = addresses();
        let has = |name: &str, wanted: &dyn Fn(&IpAddr) -> bool| {
            holders.iter().any(|(holder, ip)| holder == name && wanted(ip))
        };
        let all = files.names("/sys/class/net").into_iter().filter_map(|name| {
            let flags = hex(&files.read(&sys(&name, "flags")).unwrap_or_default()).unwrap_or(0);
            let physical = files.exists(&sys(&name, "device"));
            let (up, loopback) = (flags & IFF_UP != 0, flags & IFF_LOOPBACK != 0);
            // A port of a bridge or bond hands on what it receives; the master is looked at.
            let port = files.exists(&sys(&name, "master")) && !physical;
            let idle = !up && !physical && !has(&name, &|_| true);
            let asked = specific && has(&name, &|ip| asked.contains(ip));
            let driver = Driver::default();
            (!loopback && !port && !idle).then_some(Self { name, physical, up, asked, driver })
        });
        let mut all: Vec<Self> = all.collect();
        if all.iter().any(|interface| interface.asked) {
            all.retain(|interface| interface.asked);
        }
        all.truncate(MOST);
        all.iter_mut().for_each(|interface| interface.driver = Driver::of(&interface.name));
        all
    }

    /// Starts the check of that name for this interface.
    pub(crate) fn check(&self, what: &str, source: impl Into<String>) -> Check {
        Check::of(format!("nic.{}.{what}", self.name), source)
    }

    /// Returns the status of a finding that a card could fix: a virtual interface cannot, so there it is an info.
    pub(crate) fn severity(&self) -> Status {
        if self.physical { Status::Warning } else { Status::Info }
    }
}

/// Returns the path of an interface's file in /sys.
pub(crate) fn sys(interface: &str, file: &str) -> String {
    format!("/sys/class/net/{interface}/{file}")
}

fn hex(text: &str) -> Option<u64> {
    u64::from_str_radix(text.trim().trim_start_matches("0x"), 16).ok()
}

fn addresses() -> Vec<(String, IpAddr)> {
    let of = |interface: nix::ifaddrs::InterfaceAddress| {
        let address = interface.address?;
        let four = address.as_sockaddr_in().map(|four| IpAddr::from(four.ip()));
        let six = address.as_sockaddr_in6().map(|six| IpAddr::from(six.ip()));
        Some((interface.interface_name, four.or(six)?))
    };
    getifaddrs().into_iter().flatten().filter_map(of).collect()
}
