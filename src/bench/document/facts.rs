//! Facts about a host that a reader needs to compare two reports.

use std::fs::{self, read_to_string};

use serde::{Deserialize, Serialize};

use ringest_base::host::resources::allowed_cores;

/// The facts about one host.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HostFacts {
    /// The host name.
    pub hostname: String,
    /// Kernel release.
    pub kernel: String,
    /// CPU model.
    pub cpu: String,
    /// Cores this process may use.
    pub cores: Vec<usize>,
    /// The kernel's mitigations for the CPU vulnerabilities that affect this host.
    pub mitigations: Vec<String>,
    /// Frequency governor of the first core; `none` in a virtual machine.
    pub governor: String,
    /// Whether the host is a virtual machine (the `hypervisor` flag of /proc/cpuinfo).
    pub virtual_machine: bool,
    /// Network interfaces: name, driver, speed and queues.
    pub interfaces: Vec<Interface>,
    /// Kernel settings that affect the figures: (name, value).
    pub sysctls: Vec<(String, String)>,
    /// The id of the running kernel. Processes with the same id share its clocks.
    pub boot_id: String,
}

/// One network interface.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Interface {
    /// The name, such as `eth0`.
    pub name: String,
    /// Kernel driver; `virtual` if there is none.
    pub driver: String,
    /// Speed in Mbit/s, or `None` if the interface has none.
    pub speed_mbps: Option<u64>,
    /// MTU in bytes.
    pub mtu: u64,
    /// Receive and transmit queues.
    pub queues: (usize, usize),
}

/// The sysctls that affect a receiver's figures.
const SYSCTLS: [&str; 8] = [
    "net.core.rmem_max",
    "net.core.rmem_default",
    "net.core.wmem_max",
    "net.core.netdev_max_backlog",
    "net.core.netdev_budget",
    "net.core.busy_poll",
    "net.ipv4.udp_mem",
    "kernel.io_uring_disabled",
];

impl HostFacts {
    /// Reads the facts about this host; those that cannot be read are `unknown`.
    #[must_use]
    pub fn read() -> Self {
        let cpuinfo = read_to_string("/proc/cpuinfo").unwrap_or_default();
        let field =
            |name: &str| cpuinfo.lines().find_map(|line| line.strip_prefix(name)?.split_once(':'));
        Self {
            hostname: line("/proc/sys/kernel/hostname"),
            kernel: line("/proc/sys/kernel/osrelease"),
            cpu: field("model name").map_or_else(unknown, |(_, model)| model.trim().to_owned()),
            cores: allowed_cores(),
            mitigations: mitigations(),
            governor: read_to_string("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")
                .map_or_else(|_| "none".to_owned(), |text| text.trim().to_owned()),
            virtual_machine: field("flags")
                .is_some_and(|(_, flags)| flags.split_whitespace().any(|f| f == "hypervisor")),
            interfaces: interfaces(),
            sysctls: SYSCTLS.iter().map(|name| ((*name).to_owned(), sysctl(name))).collect(),
            boot_id: Self::boot_id_here(),
        }
    }

    /// Returns the boot id of the running kernel.
    #[must_use]
    pub fn boot_id_here() -> String {
        line("/proc/sys/kernel/random/boot_id")
    }
}

fn unknown() -> String {
    "unknown".to_owned()
}

fn line(path: &str) -> String {
    read_to_string(path).map_or_else(|_| unknown(), |text| text.trim().to_owned())
}

fn sysctl(name: &str) -> String {
    line(&format!("/proc/sys/{}", name.replace('.', "/"))).replace('\t', " ")
}

/// Returns one short clause for each vulnerability that affects the CPU.
fn mitigations() -> Vec<String> {
    let Ok(files) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else {
        return vec![unknown()];
    };
    let mut named: Vec<String> = files
        .filter_map(|file| {
            let file = file.ok()?;
            let status = read_to_string(file.path()).ok()?;
            let clause = status.trim().split([';', ',']).next()?.to_owned();
            let clause = clause.strip_prefix("Mitigation: ").unwrap_or(&clause);
            let name = file.file_name().to_string_lossy().into_owned();
            (clause != "Not affected").then(|| format!("{name}: {clause}"))
        })
        .collect();
    named.sort();
    named
}

fn interfaces() -> Vec<Interface> {
    let Ok(entries) = fs::read_dir("/sys/class/net") else { return Vec::new() };
    let mut found: Vec<Interface> = entries
        .flatten()
        .map(|entry| {
            let path = entry.path();
            let number = |name: &str| -> Option<u64> {
                read_to_string(path.join(name)).ok()?.trim().parse().ok()
            };
            let driver = fs::read_link(path.join("device/driver")).ok();
            let driver = driver.as_deref().and_then(|link| link.file_name());
            let queues = |kind: &str| {
                fs::read_dir(path.join("queues")).map_or(0, |queues| {
                    queues
                        .flatten()
                        .filter(|q| q.file_name().to_string_lossy().starts_with(kind))
                        .count()
                })
            };
            Interface {
                name: entry.file_name().to_string_lossy().into_owned(),
                driver: driver
                    .map_or_else(|| "virtual".to_owned(), |d| d.to_string_lossy().into_owned()),
                speed_mbps: number("speed"),
                mtu: number("mtu").unwrap_or(0),
                queues: (queues("rx-"), queues("tx-")),
            }
        })
        .collect();
    found.sort_by(|one, other| one.name.cmp(&other.name));
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_says_who_it_is() {
        let facts = HostFacts::read();
        assert!(!facts.kernel.is_empty() && facts.kernel != "unknown");
        assert!(!facts.cores.is_empty());
        assert!(facts.interfaces.iter().any(|interface| interface.name == "lo"), "{facts:?}");
        assert_eq!(facts.sysctls.len(), SYSCTLS.len());
        let text = serde_json::to_string(&facts).unwrap();
        assert_eq!(serde_json::from_str::<HostFacts>(&text).unwrap(), facts);
    }
}
