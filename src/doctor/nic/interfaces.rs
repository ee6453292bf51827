//! Checks of each interface: state, driver, MTU, offloads, and those of its load and losses.

use crate::check::{Check, Status, counted, word};
use crate::files::Files;
use crate::nic::interface::{Interface, sys};
use crate::nic::{load, lost};
use crate::wanted::Wanted;

/// Largest payload of an Ethernet frame, bytes. A card drops a larger frame, and UDP does not count it.
const ETHERNET_BYTES: u64 = 1500;
/// Smallest MTU for IPv6, bytes. Below it the kernel switches IPv6 off on the interface (RFC 8200, section 5).
const IPV6_BYTES: u64 = 1280;

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
