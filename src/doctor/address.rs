//! Checks whether the address can be listened on: this host has it, it is free, and this user may bind it.

use std::io::ErrorKind;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use socket2::{Domain, SockAddr, Socket, Type};

use crate::check::{Check, Status, word};
use crate::files::Files;
use crate::networks;
use crate::networks::Network;
use crate::owners;
use crate::owners::Owner;
use crate::parse;
use crate::parse::UdpSocket as Line;
use crate::wanted::Wanted;
use ringest_base::host::resources::ipv6_usable;

const ALL: &str = "/proc/sys/net/ipv6/conf/all/disable_ipv6";
const LO: &str = "/proc/sys/net/ipv6/conf/lo/disable_ipv6";

pub(crate) fn checks(files: &Files, wanted: &Wanted) -> Vec<Check> {
    let mut checks = vec![ipv6(files, wanted)];
    for address in &wanted.addresses {
        let is_new = |check: &Check| {
            !checks
                .iter()
                .any(|other: &Check| other.id == check.id && (other.status >= check.status))
        };
        let more: Vec<Check> = [
            local(files, *address),
            taken(files, *address, wanted.any),
            privileged(files, *address),
        ]
        .into_iter()
        .filter(is_new)
        .collect();
        checks.retain(|check| !more.iter().any(|other| other.id == check.id));
        checks.extend(more);
    }
    checks
}

/// Returns whether an interface has IPv6, as an engine sees it (`Host`). A bind does not show it: `[::]` can be bound
/// where IPv6 is switched off.
pub(crate) fn has_ipv6(files: &Files) -> bool {
    let addresses = files.read("/proc/net/if_inet6").unwrap_or_default();
    ipv6_usable(&addresses, files.number(ALL).ok())
}

/// Returns whether the address is IPv6 and IPv6 is off on its interface.
fn is_off(files: &Files, ip: IpAddr) -> bool {
    ip.is_ipv6() && (!has_ipv6(files) || ip.is_loopback() && files.number(LO) == Ok(1))
}

/// Checks whether IPv6 is there or switched off, and whether that matters.
fn ipv6(files: &Files, wanted: &Wanted) -> Check {
    let loopback = wanted.addresses.iter().any(|address| address.ip().is_loopback());
    let explicit = !wanted.any && wanted.addresses.iter().any(SocketAddr::is_ipv6);
    let status = if explicit { Status::Failure } else { Status::Info };
    let check = Check::of("ipv6", ALL);
    let here = has_ipv6(files);
    match files.number(ALL) {
        Ok(_) if here && explicit && loopback && files.number(LO) == Ok(1) => Check::of("ipv6", LO)
            .says(Status::Failure, "disabled on lo", "The address ::1 cannot be listened on.")
            .mended_by_sysctl("net.ipv6.conf.lo.disable_ipv6", "0"),
        Ok(0) => check.says(Status::Ok, "enabled", "Both address families can be listened on."),
        Ok(value) if here => check.says(
            Status::Info,
            &format!("disabled ({value}), but an interface has it"),
            "The IPv6 addresses that interfaces have can be listened on; others get none.",
        ),
        Ok(value) => check
            .says(
                status,
                &format!("disabled ({value})"),
                "No IPv6 address can be listened on; `*:PORT` takes IPv4 alone.",
            )
            .mended_by_sysctl("net.ipv6.conf.all.disable_ipv6", "0"),
        Err(why) if why == "not there" && files.exists("/proc/sys/net/ipv4") => check
            .says(
                status,
                "not there",
                "This kernel has no IPv6, or was started with ipv6.disable=1; `*:PORT` takes IPv4 \
                 alone.",
            )
            .mended_by("modprobe ipv6"),
        Err(why) => check.unknown(&why),
    }
}

/// Checks whether the host has the address, by binding it with port 0.
fn local(files: &Files, address: SocketAddr) -> Check {
    let check = Check::of("address_local", format!("bind(2) to {}", address.ip()));
    let ip = address.ip();
    if ip.is_multicast() {
        let meaning = "A group to be joined, not an address of a host; a switch or router must be \
                       sending it here.";
        return check.says(Status::Info, &format!("{ip} is multicast"), meaning);
    }
    if is_off(files, ip) {
        let meaning = if ip.is_unspecified() {
            "No datagram of IPv6 arrives until IPv6 is there; see the check ipv6."
        } else {
            "The address cannot be listened on until IPv6 is there; see the check ipv6."
        };
        return check.says(Status::Failure, &format!("{ip} is IPv6, which is off here"), meaning);
    }
    match UdpSocket::bind(SocketAddr::new(ip, 0)) {
        Ok(_) if ip.is_unspecified() => check.says(
            Status::Ok,
            "every address of this host",
            "Datagrams to each of them are received.",
        ),
        Ok(_) => check.says(Status::Ok, &format!("{ip} is of this host"), "It can be listened on."),
        Err(error) if error.kind() == ErrorKind::AddrNotAvailable => {
            absent(check, ip, &networks::all())
        }
        Err(error) => check.says(
            Status::Failure,
            &format!("{ip}: {error}"),
            "The address cannot be listened on.",
        ),
    }
}

/// Reports an address that no interface has, with the addresses there are. The fix adds it to the interface in whose
/// network it is: on any other interface no sender would reach it.
fn absent(check: Check, ip: IpAddr, networks: &[Network]) -> Check {
    let of_kind = networks.iter().map(|network| network.ip).filter(|n| n.is_ipv4() == ip.is_ipv4());
    let known: Vec<String> = of_kind.take(16).map(|known| known.to_string()).collect();
    let known = if known.is_empty() { "none of this kind".to_owned() } else { known.join(", ") };
    let found = format!("{ip} is not of this host, which has {known}");
    let bits = if ip.is_ipv4() { 32 } else { 128 };
    match networks::device_for(ip, networks) {
        Some(device) => check
            .says(
                Status::Failure,
                &found,
                "No interface of this host has the address, so it cannot be listened on: choose \
                 one it has, or give it this one.",
            )
            .mended_by(&format!("ip address add {ip}/{bits} dev {}", word(device))),
        None => check.says(
            Status::Failure,
            &found,
            "No interface of this host has the address, and none of the networks here holds it, so \
             it cannot be listened on: choose an address this host has.",
        ),
    }
}

/// Checks whether another socket holds the port, and which process has it.
fn taken(files: &Files, address: SocketAddr, only_v6: bool) -> Check {
    let file = if address.is_ipv4() { "/proc/net/udp" } else { "/proc/net/udp6" };
    let check = Check::of("address_taken", format!("bind(2), {file}, /proc/*/fd"));
    if address.port() == 0 {
        return check.says(Status::Ok, "any port", "The kernel chooses one that is free.");
    }
    if is_off(files, address.ip()) {
        return check.says(
            Status::Info,
            "IPv6 is off here",
            "Whether another socket holds the port can be tried once IPv6 is there; see the check \
             ipv6.",
        );
    }
    let bound = bind(address, only_v6);
    let Err(error) = bound else {
        return check.says(Status::Ok, &format!("{address} is free"), "No other socket holds it.");
    };
    match error.kind() {
        ErrorKind::AddrInUse => {
            let (found, fix) = holder(files, address);
            let check = check.says(
                Status::Failure,
                &found,
                "Two programs cannot receive on one port: stop that one, or listen on another \
                 port.",
            );
            check.mended_by(&fix)
        }
        // Another check reports these.
        ErrorKind::PermissionDenied | ErrorKind::AddrNotAvailable => {
            let lines = lines(files, address);
            match lines.first() {
                Some(_) => {
                    let (found, fix) = holder(files, address);
                    check
                        .says(Status::Failure, &found, "Two programs cannot receive on one port.")
                        .mended_by(&fix)
                }
                None => check.says(
                    Status::Ok,
                    &format!("{address} is free"),
                    "No other socket holds it.",
                ),
            }
        }
        _ => check.unknown(&format!("bind(2): {error}")),
    }
}

fn bind(address: SocketAddr, only_v6: bool) -> std::io::Result<()> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM, None)?;
    if address.is_ipv6() {
        // `*:PORT` is checked in each family by itself; `[::]` takes both, as in the engine.
        socket.set_only_v6(only_v6)?;
    }
    socket.bind(&SockAddr::from(address))
}

/// Returns the sockets that hold the port on this address or on all.
fn lines(files: &Files, address: SocketAddr) -> Vec<Line> {
    let mut lines = Vec::new();
    // A dual-stack socket of IPv6 holds the port of IPv4 as well.
    for file in ["/proc/net/udp", "/proc/net/udp6"] {
        lines.extend(parse::udp_sockets(&files.read(file).unwrap_or_default()));
    }
    lines.retain(|line| line.holds(address));
    lines
}

/// Returns a description of the process that holds the port, and the command that ends it.
fn holder(files: &Files, address: SocketAddr) -> (String, String) {
    let look = format!("ss -ulnp 'sport = :{}'", address.port());
    let lines = lines(files, address);
    let Some(line) = lines.first() else {
        return (format!("{address} is taken by a socket that /proc/net/udp does not show"), look);
    };
    match lines.iter().find_map(|line| owners::owner(files, line.inode)) {
        None => {
            let found = format!(
                "{} is held by a process this user may not look at (socket inode {})",
                line.local, line.inode
            );
            (found, look)
        }
        Some(Owner { pid, name, unit }) => {
            let of = unit.as_ref().map_or_else(String::new, |unit| format!(", {unit}"));
            let stop = unit.map_or_else(
                || format!("kill {pid}"),
                |unit| format!("systemctl stop {}", word(&unit)),
            );
            (format!("{} is held by {name} (pid {pid}{of})", line.local), stop)
        }
    }
}

/// Checks the right to the port: ports below net.ipv4.ip_unprivileged_port_start (Linux 4.11) need CAP_NET_BIND_SERVICE.
fn privileged(files: &Files, address: SocketAddr) -> Check {
    let path = "/proc/sys/net/ipv4/ip_unprivileged_port_start";
    let check = Check::of("port_privileged", format!("{path}, /proc/self/status"));
    let port = address.port();
    let first = match files.number(path) {
        Ok(first) => first,
        Err(why) => return check.unknown(&why),
    };
    if port == 0 || u64::from(port) >= first {
        return check.says(
            Status::Ok,
            &format!("free from {first} on"),
            "This port takes no right.",
        );
    }
    let status = files.read("/proc/self/status").unwrap_or_default();
    match parse::capabilities(&status).map(|held| held & NET_BIND_SERVICE != 0) {
        Some(true) => check.says(
            Status::Ok,
            &format!("{port} is below {first}"),
            "This process may bind such ports (CAP_NET_BIND_SERVICE); a service needs that right \
             too.",
        ),
        Some(false) => check
            .says(
                Status::Failure,
                &format!("{port} is below {first}"),
                "Binding such a port takes CAP_NET_BIND_SERVICE, which this process has not.",
            )
            .mended_by_sysctl("net.ipv4.ip_unprivileged_port_start", &port.to_string()),
        None => check.unknown("no line CapEff in /proc/self/status"),
    }
}

const NET_BIND_SERVICE: u64 = 1 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_given_to_no_interface_of_another_network() {
        let network = |device: &str, ip: &str| Network {
            device: device.into(),
            ip: ip.parse().unwrap(),
            prefix: 24,
            reached: true,
        };
        let networks = [network("wlan0", "192.168.1.5"), network("eth1", "10.99.0.1")];
        let judged =
            |ip: &str| absent(Check::of("address_local", "x"), ip.parse().unwrap(), &networks);
        let near = judged("10.99.0.77");
        assert_eq!(near.fix, "ip address add 10.99.0.77/32 dev eth1");
        assert_eq!(near.found, "10.99.0.77 is not of this host, which has 192.168.1.5, 10.99.0.1");
        let far = judged("203.0.113.1");
        assert_eq!((far.status, far.fix.as_str()), (Status::Failure, ""));
        assert!(far.meaning.contains("none of the networks here holds it"), "{far:?}");
    }
}
