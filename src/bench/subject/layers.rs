//! Kernel counters outside of our sockets: interfaces, backlog, UDP, CPU time. They are read before and
//! after a trial. The difference includes the activity of all other programs on the host.

use std::fs::read_to_string;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;

use crate::document::trial::Losses;

/// The counters at one moment. A counter that cannot be read is 0, and so is its difference.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layers {
    losses: Losses,
    softirq_ticks: u64,
    busy_ticks: u64,
}

/// Nanoseconds of a tick of /proc/stat. USER_HZ is 100 on all architectures that Linux supports.
const TICK_NS: u64 = 10_000_000;

impl Layers {
    /// Reads all counters; those of an interface only for the one that datagrams pass.
    #[must_use]
    pub fn read(interface: Option<&str>) -> Self {
        let softnet = read_to_string("/proc/net/softnet_stat").unwrap_or_default();
        let snmp = read_to_string("/proc/thread-self/net/snmp").unwrap_or_default();
        let snmp6 = read_to_string("/proc/thread-self/net/snmp6").unwrap_or_default();
        let stat = read_to_string("/proc/stat").unwrap_or_default();
        let udp = |name: &str| snmp_field(&snmp, "Udp:", name) + snmp6_field(&snmp6, name);
        let (softirq_ticks, busy_ticks) = cpu_ticks(&stat);
        Self {
            losses: Losses {
                nic: statistics(interface, &["rx_dropped", "rx_missed_errors", "rx_fifo_errors"]),
                backlog: softnet_column(&softnet, 1) + softnet_column(&softnet, 10),
                checksum: udp("InCsumErrors"),
                rcvbuf: udp("RcvbufErrors"),
                no_port: udp("NoPorts"),
                sndbuf: udp("SndbufErrors"),
                nic_tx: statistics(interface, &["tx_dropped"]),
            },
            softirq_ticks,
            busy_ticks,
        }
    }

    /// Returns the drops since `before`.
    #[must_use]
    pub fn losses_since(&self, before: &Self) -> Losses {
        let (now, then) = (&self.losses, &before.losses);
        Losses {
            nic: now.nic.saturating_sub(then.nic),
            backlog: now.backlog.saturating_sub(then.backlog),
            checksum: now.checksum.saturating_sub(then.checksum),
            rcvbuf: now.rcvbuf.saturating_sub(then.rcvbuf),
            no_port: now.no_port.saturating_sub(then.no_port),
            sndbuf: now.sndbuf.saturating_sub(then.sndbuf),
            nic_tx: now.nic_tx.saturating_sub(then.nic_tx),
        }
    }

    /// Returns the CPU time of interrupts and softirqs, all cores, since `before`, ns, to 10 ms.
    #[must_use]
    pub fn softirq_ns_since(&self, before: &Self) -> u64 {
        self.softirq_ticks.saturating_sub(before.softirq_ticks) * TICK_NS
    }

    /// Returns the CPU time of everything but idling, all cores, since `before`, ns, to 10 ms.
    #[must_use]
    pub fn busy_ns_since(&self, before: &Self) -> u64 {
        self.busy_ticks.saturating_sub(before.busy_ticks) * TICK_NS
    }
}

/// Returns the number of packets in the backlogs of all CPUs (softnet_stat, column 12; Linux 5.10).
#[must_use]
pub fn backlog_waiting() -> u64 {
    softnet_column(&read_to_string("/proc/net/softnet_stat").unwrap_or_default(), 11)
}

/// The kernel's counters for the sockets bound to one address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sockets {
    /// Memory of unread datagrams, bytes.
    pub unread_bytes: u64,
    /// Drops since the sockets were opened, in buffers; the counter that SO_MEMINFO shows their owner.
    pub drops: u64,
}

impl Sockets {
    /// Reads the counters of all sockets bound to exactly this address (/proc/net/udp, proc(5); `drops`
    /// since Linux 2.6.27).
    #[must_use]
    pub fn at(address: SocketAddr) -> Self {
        let table = if address.is_ipv4() { "udp" } else { "udp6" };
        let text = read_to_string(format!("/proc/thread-self/net/{table}")).unwrap_or_default();
        Self::in_table(&text, address)
    }

    fn in_table(text: &str, address: SocketAddr) -> Self {
        // The file has addresses as host-order words of the bytes in network order.
        let ip = match address.ip() {
            IpAddr::V4(ip) => format!("{:08X}", u32::from_ne_bytes(ip.octets())),
            IpAddr::V6(ip) => ip.octets().chunks(4).fold(String::new(), |text, word| {
                let word = word.try_into().map_or(0, u32::from_ne_bytes);
                format!("{text}{word:08X}")
            }),
        };
        let bound = format!("{ip}:{:04X}", address.port());
        // sl local rem st tx:rx tr:when retrnsmt uid timeout inode ref pointer drops
        let socket = |line: &str| {
            let cells: Vec<&str> = line.split_whitespace().collect();
            if *cells.get(1)? != bound {
                return None;
            }
            let (_, unread) = cells.get(4)?.split_once(':')?;
            let unread_bytes = u64::from_str_radix(unread, 16).ok()?;
            Some(Self { unread_bytes, drops: cells.get(12)?.parse().ok()? })
        };
        text.lines().filter_map(socket).fold(Self::default(), |sum, one| Self {
            unread_bytes: sum.unread_bytes + one.unread_bytes,
            drops: sum.drops + one.drops,
        })
    }
}

/// Returns the sum of one hexadecimal column over all CPUs.
fn softnet_column(text: &str, column: usize) -> u64 {
    let cell = |line: &str| u64::from_str_radix(line.split_whitespace().nth(column)?, 16).ok();
    text.lines().filter_map(cell).sum()
}

/// Reads a field of /proc/net/snmp, which has a line of names and a line of values for each protocol.
fn snmp_field(text: &str, protocol: &str, name: &str) -> u64 {
    let mut lines = text.lines().filter(|line| line.starts_with(protocol));
    let (Some(names), Some(values)) = (lines.next(), lines.next()) else { return 0 };
    let index = names.split_whitespace().position(|word| word == name);
    index.and_then(|index| values.split_whitespace().nth(index)?.parse().ok()).unwrap_or(0)
}

/// Reads a field of /proc/net/snmp6, which has a name and a value a line.
fn snmp6_field(text: &str, name: &str) -> u64 {
    let value = |line: &str| {
        let (key, value) = line.split_once(char::is_whitespace)?;
        (key.strip_prefix("Udp6") == Some(name)).then(|| value.trim().parse().ok())?
    };
    text.lines().find_map(value).unwrap_or(0)
}

/// Returns the ticks of irq and softirq, and of all that is not idle (proc(5), stat: user nice system idle
/// iowait irq softirq steal).
fn cpu_ticks(text: &str) -> (u64, u64) {
    let Some(line) = text.lines().find(|line| line.starts_with("cpu ")) else { return (0, 0) };
    let ticks: Vec<u64> =
        line.split_whitespace().skip(1).map(|word| word.parse().unwrap_or(0)).collect();
    let at = |index: usize| ticks.get(index).copied().unwrap_or(0);
    let softirq = at(5) + at(6);
    (softirq, at(0) + at(1) + at(2) + softirq)
}

/// Returns the sum of these statistics of an interface.
fn statistics(interface: Option<&str>, names: &[&str]) -> u64 {
    let Some(interface) = interface else { return 0 };
    let directory = Path::new("/sys/class/net").join(interface).join("statistics");
    let read = |name: &&str| -> u64 {
        let text = read_to_string(directory.join(name)).ok();
        text.and_then(|text| text.trim().parse().ok()).unwrap_or(0)
    };
    names.iter().map(read).sum()
}

/// Returns the interface that has this address.
#[must_use]
pub fn interface_of(ip: IpAddr) -> Option<String> {
    let has = |found: &nix::ifaddrs::InterfaceAddress| {
        let address = found.address.as_ref()?;
        let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
        v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
    };
    nix::ifaddrs::getifaddrs()
        .ok()?
        .find(|found| has(found) == Some(ip))
        .map(|found| found.interface_name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_tables_are_read_by_name() {
        let snmp = "Udp: InDatagrams NoPorts InErrors RcvbufErrors\nUdp: 10 2 3 4\nUdpLite: a\n";
        assert_eq!(snmp_field(snmp, "Udp:", "RcvbufErrors"), 4);
        assert_eq!(snmp_field(snmp, "Udp:", "Nothing"), 0);
        assert_eq!(snmp_field("", "Udp:", "NoPorts"), 0);
        let snmp6 = "Udp6InDatagrams   \t7\nUdp6NoPorts \t 9\nUdpLite6NoPorts 1\n";
        assert_eq!(snmp6_field(snmp6, "NoPorts"), 9);
        assert_eq!(softnet_column("00000001 0000000a\n00000002 00000010\n", 1), 26);
        assert_eq!(cpu_ticks("cpu  1 2 4 800 16 32 64 128 0 0\ncpu0 1\n"), (96, 103));
        assert_eq!(cpu_ticks("nonsense"), (0, 0));
    }

    #[test]
    fn what_waits_in_a_socket_shows_until_it_is_read() {
        for ip in ["127.0.0.1", "::1"] {
            let Ok(socket) = std::net::UdpSocket::bind((ip, 0)) else { continue };
            let address = socket.local_addr().unwrap();
            assert_eq!(Sockets::at(address).unread_bytes, 0);
            std::net::UdpSocket::bind((ip, 0)).unwrap().send_to(b"x", address).unwrap();
            assert!(Sockets::at(address).unread_bytes > 0, "{address}");
            socket.recv(&mut [0; 8]).unwrap();
            assert_eq!(Sockets::at(address).unread_bytes, 0, "{address}");
        }
    }

    #[test]
    fn a_datagram_to_nobody_shows() {
        let before = Layers::read(None);
        let nobody = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let sender = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
        for _ in 0..3 {
            sender.send_to(b"x", nobody).unwrap();
        }
        assert!(Layers::read(None).losses_since(&before).no_port >= 3);
    }
}
