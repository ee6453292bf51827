//! Cores, CPU quota, memory, IPv6 and limits that this process may use. They are read once at start, so that the plan
//! made from them is a pure function.

use std::fs;
use std::path::{Path, PathBuf};

use nix::sched::{CpuSet, sched_getaffinity};
use nix::unistd::Pid;

/// The facts a plan is made from.
#[derive(Clone, Debug, PartialEq)]
pub struct Host {
    /// Cores this process may run on, ascending.
    pub cores: Vec<usize>,
    /// CPU quota of the cgroup, in cores; `None`: no limit.
    pub quota_cores: Option<f64>,
    /// Memory that this process may use, bytes; `None`: unknown.
    pub memory_bytes: Option<u64>,
    /// Whether IPv6 sockets can be bound.
    pub ipv6: bool,
    /// `net.core.rmem_max`, bytes.
    pub rmem_max_bytes: Option<u64>,
}

impl Host {
    /// Reads the affinity mask, the cgroup and /proc.
    #[must_use]
    pub fn read() -> Self {
        let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
        Self {
            cores: allowed_cores(),
            quota_cores: quota_cores(Path::new("/sys/fs/cgroup"), &groups),
            memory_bytes: memory_bytes(),
            ipv6: ipv6(),
            rmem_max_bytes: read_number(Path::new("/proc/sys/net/core/rmem_max")),
        }
    }
}

/// Returns the cores that this process may run on, ascending; core 0 if the kernel does not tell.
pub fn allowed_cores() -> Vec<usize> {
    let Ok(mask) = sched_getaffinity(Pid::from_raw(0)) else { return vec![0] };
    (0..CpuSet::count()).filter(|&core| mask.is_set(core).unwrap_or(false)).collect()
}

fn read_number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Returns the tightest quota on the way from this process's cgroup to the root: `cpu.max` of cgroup v2,
/// `cpu.cfs_quota_us` over `cpu.cfs_period_us` of v1. `groups` is /proc/self/cgroup.
fn quota_cores(mount: &Path, groups: &str) -> Option<f64> {
    let mut quotas = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':');
        let (Some(id), Some(controllers), Some(path)) =
            (fields.next(), fields.next(), fields.next())
        else {
            continue;
        };
        let relative = Path::new(path.trim_start_matches('/'));
        if id == "0" && controllers.is_empty() {
            quotas.extend(relative.ancestors().filter_map(|p| quota_v2(&mount.join(p))));
        } else if controllers.split(',').any(|controller| controller == "cpu") {
            let base = mount.join(controllers);
            let base = if base.is_dir() { base } else { mount.join("cpu") };
            quotas.extend(relative.ancestors().filter_map(|p| quota_v1(&base.join(p))));
        }
    }
    quotas.into_iter().reduce(f64::min)
}

fn quota_v2(group: &Path) -> Option<f64> {
    let text = fs::read_to_string(group.join("cpu.max")).ok()?;
    let mut fields = text.split_whitespace();
    let (quota, period): (f64, f64) = (fields.next()?.parse().ok()?, fields.next()?.parse().ok()?);
    (period > 0.0).then(|| quota / period)
}

fn quota_v1(group: &Path) -> Option<f64> {
    let read = |file: &str| -> Option<f64> {
        fs::read_to_string(group.join(file)).ok()?.trim().parse().ok()
    };
    let (quota, period) = (read("cpu.cfs_quota_us")?, read("cpu.cfs_period_us")?);
    (quota > 0.0 && period > 0.0).then(|| quota / period)
}

/// Returns the smaller of physical memory and the cgroup's limit, bytes.
fn memory_bytes() -> Option<u64> {
    let meminfo = fs::read_to_string("/proc/meminfo").ok()?;
    let total = meminfo.lines().find_map(|line| {
        line.strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()
    })? * 1024;
    let limits = ["/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes"];
    let limit = limits.iter().filter_map(|path| read_number(&PathBuf::from(path))).min();
    Some(limit.map_or(total, |limit| limit.min(total)))
}

fn ipv6() -> bool {
    let addresses = fs::read_to_string("/proc/net/if_inet6").unwrap_or_default();
    ipv6_usable(&addresses, read_number(Path::new("/proc/sys/net/ipv6/conf/all/disable_ipv6")))
}

/// Returns whether IPv6 sockets can be bound, from /proc/net/if_inet6 and net.ipv6.conf.all.disable_ipv6. An
/// interface may have IPv6 while it is off for all others, and a namespace whose interfaces are down
/// has no address yet.
pub fn ipv6_usable(addresses: &str, disabled_for_all: Option<u64>) -> bool {
    !addresses.trim().is_empty() || disabled_for_all == Some(0)
}

/// Raises this process's soft limit of open descriptors to at least `wanted` + 64, as far as the hard limit allows.
/// Opening more descriptors than that fails with EMFILE.
pub fn allow_descriptors(wanted: u64) {
    use nix::sys::resource::{Resource, getrlimit, setrlimit};
    if let Ok((soft, hard)) = getrlimit(Resource::RLIMIT_NOFILE)
        && soft < wanted + 64
    {
        // If it is refused the limit stays, and opening fails with EMFILE.
        let _ = setrlimit(Resource::RLIMIT_NOFILE, hard.min(wanted + 64).max(soft), hard);
    }
}

/// Returns the resident memory of this process, bytes; 0 if /proc is not mounted.
#[must_use]
pub fn resident_bytes() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| {
            line.strip_prefix("VmRSS:")?.trim().strip_suffix("kB")?.trim().parse().ok()
        })
        .map_or(0, |kib: u64| kib * 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_tightest_quota_on_the_way_up_counts() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        let leaf = root.join("slice/unit");
        fs::create_dir_all(&leaf).unwrap();
        fs::write(root.join("slice/cpu.max"), "150000 100000\n").unwrap();
        fs::write(leaf.join("cpu.max"), "max 100000\n").unwrap();
        assert_eq!(quota_cores(root, "0::/slice/unit\n"), Some(1.5));
        assert_eq!(quota_cores(root, "0::/\n"), None);
        let v1 = root.join("cpu,cpuacct/box");
        fs::create_dir_all(&v1).unwrap();
        fs::write(v1.join("cpu.cfs_quota_us"), "50000\n").unwrap();
        fs::write(v1.join("cpu.cfs_period_us"), "100000\n").unwrap();
        assert_eq!(quota_cores(root, "3:cpu,cpuacct:/box\n"), Some(0.5));
    }

    #[test]
    fn this_host_has_a_core_and_memory() {
        let host = Host::read();
        assert!(!host.cores.is_empty());
        assert!(host.memory_bytes.unwrap() > 1 << 20);
        assert!(resident_bytes() > 0);
    }
}
