//! The interfaces datagrams come in by, each by itself.

use std::net::IpAddr;

use nix::ifaddrs::getifaddrs;

use crate::check::{Check, Status, counted, word};
use crate::files::Files;
use crate::nic::ethtool::Driver;
use crate::nic::{load, lost};
use crate::wanted::Wanted;

/// Interfaces looked at: a host of containers has hundreds, all alike.
const MOST: usize = 16;
/// What Ethernet carries; a sender's larger frame is dropped by the card, uncounted by UDP.
const ETHERNET_BYTES: u64 = 1500;
/// Below it the kernel switches IPv6 off on the interface (RFC 8200, section 5).
const IPV6_BYTES: u64 = 1280;
/// Bits of /sys/class/net/*/flags (netdevice(7)).
const IFF_UP: u64 = 1;
const IFF_LOOPBACK: u64 = 8;

/// One interface.
#[derive(Clone, Debug)]
pub(crate) struct Interface {
    pub(crate) name: String,
    /// There is a device behind it, on a bus.
    pub(crate) physical: bool,
    pub(crate) up: bool,
    /// The address asked for is this interface's.
    pub(crate) asked: bool,
    pub(crate) driver: Driver,
}

impl Interface {
    /// Those the datagrams asked for can come in by: of one address, those that have it.
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

    /// The check of that name for this interface.
    pub(crate) fn check(&self, what: &str, source: impl Into<String>) -> Check {
        Check::of(format!("nic.{}.{what}", self.name), source)
    }

    /// For what is a card's to do: of a virtual one it is only a fact.
    pub(crate) fn severity(&self) -> Status {
        if self.physical { Status::Warning } else { Status::Info }
    }
}

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

pub(crate) fn checks(files: &Files, interfaces: &[Interface], wanted: &Wanted) -> Vec<Check> {
    let mut checks = Vec::new();
    if interfaces.is_empty() {
        let loopback = wanted.addresses.iter().any(|address| address.ip().is_loopback());
        let found = if loopback { "loopback" } else { "no interface but lo" };
        checks.push(Check::of("nic", "/sys/class/net").says(
            Status::Info,
            found,
            "Only programs on this host can send here.",
        ));
    }
    for interface in interfaces {
        checks.push(state(files, interface));
        if interface.up {
            checks.extend([driver(files, interface), mtu(files, interface), gro(interface)]);
            checks.extend(load::checks(files, interface, wanted));
            checks.extend(lost::checks(files, interface));
        }
    }
    checks.extend(load::host_checks(files, interfaces, wanted));
    checks.extend(lost::host_checks(files));
    checks
}

fn state(files: &Files, interface: &Interface) -> Check {
    let name = &interface.name;
    let check = interface.check("state", sys(name, "flags, carrier"));
    let bad = if interface.asked { Status::Failure } else { Status::Info };
    if !interface.up {
        return check
            .says(bad, "down", "No datagram comes in by it.")
            .mended_by(&format!("ip link set dev {} up", word(name)));
    }
    match files.number(&sys(name, "carrier")) {
        Ok(0) => check
            .says(
                bad,
                "up, no carrier",
                "No cable, no light, or the other end is down: no datagram comes in by it. The \
                 command shows what the driver sees.",
            )
            .mended_by(&format!("ip -s -d link show dev {}", word(name))),
        _ => check.says(Status::Ok, "up", "Datagrams can come in by it."),
    }
}

fn driver(files: &Files, interface: &Interface) -> Check {
    let name = &interface.name;
    let check = interface.check("driver", format!("SIOCETHTOOL, {}", sys(name, "speed, queues")));
    let linked = files.link_name(&sys(name, "device/driver"));
    let driver = interface.driver.name.clone().or(linked).unwrap_or_else(|| "unknown".to_owned());
    let speed = match files.number(&sys(name, "speed")) {
        Ok(mbps) if mbps > 0 && mbps < 10_000_000 => format!(", {mbps} Mbit/s"),
        _ => String::new(),
    };
    let kind = if interface.physical { "" } else { ", virtual" };
    let queues = files.names(&sys(name, "queues"));
    let count = |kind: &str| queues.iter().filter(|queue| queue.starts_with(kind)).count();
    let found = format!(
        "{driver}{kind}{speed}, {} and {}",
        counted(count("rx-"), "receive queue"),
        counted(count("tx-"), "transmit queue")
    );
    check.says(Status::Ok, &found, "What the interface is.")
}

fn mtu(files: &Files, interface: &Interface) -> Check {
    let path = sys(&interface.name, "mtu");
    let check = interface.check("mtu", path.clone());
    match files.number(&path) {
        Err(why) => check.unknown(&why),
        Ok(mtu) if mtu < ETHERNET_BYTES => {
            let (status, meaning) = if mtu < IPV6_BYTES {
                (
                    Status::Warning,
                    "Below the 1280 that IPv6 takes, so there is none here; and larger frames of \
                     senders that do not know it never arrive.",
                )
            } else {
                (
                    Status::Info,
                    "Below Ethernet's 1500: larger frames of senders that do not know it never \
                     arrive. Raise it only where the network carries more, as tunnels and some \
                     clouds do not.",
                )
            };
            check.says(status, &format!("{mtu} bytes"), meaning).mended_by(&format!(
                "ip link set dev {} mtu {ETHERNET_BYTES}",
                word(&interface.name)
            ))
        }
        Ok(mtu) => check.says(
            Status::Ok,
            &format!("{mtu} bytes"),
            "Datagrams of up to 28 bytes less (48 over IPv6) come in one frame.",
        ),
    }
}

fn gro(interface: &Interface) -> Check {
    let check = interface.check("gro", "SIOCETHTOOL (ethtool -k)");
    match interface.driver.gro {
        None => check.unknown("the driver does not say"),
        Some(true) => {
            check.says(Status::Ok, "on", "Frames of one flow go through the stack together.")
        }
        Some(false) => check
            .says(
                interface.severity(),
                "off",
                "Every frame goes through the stack alone, at many times the cost of a train.",
            )
            .mended_by(&format!("ethtool -K {} gro on", word(&interface.name))),
    }
}
