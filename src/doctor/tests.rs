//! Every room on the trees of three kernels: a badly kept Linux 5.10, a tuned 6.1 without IPv6, the
//! 6.18 this was written on; and on a tree with nothing in it.

use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::check::{Check, Status};
use crate::examine::examine;
use crate::files::Files;
use crate::firewall::conntrack;
use crate::nic::ethtool::{Channels, Driver, Rings};
use crate::nic::interface::Interface;
use crate::nic::interfaces as nic;
use crate::wanted::Wanted;
use crate::{address, buffers, counters, cpu, kernel, limits, memory, owners};
use ringest_engine::control::config::Config;

fn tree(kernel: &str) -> Files {
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/fixtures/doctor");
    Files::at(fixtures.join(kernel))
}

fn wanted(receivers: usize, workers: usize) -> Wanted {
    Wanted {
        addresses: Vec::new(),
        any: false,
        receiver_cores: (0..receivers).collect(),
        worker_cores: (receivers..receivers + workers).collect(),
        rcvbuf_bytes: 4 << 20,
    }
}

fn eth0(driver: Driver) -> Vec<Interface> {
    vec![Interface { name: "eth0".into(), physical: true, up: true, asked: false, driver }]
}

/// All that is read of files, and nothing that is tried.
fn rooms(files: &Files, wanted: &Wanted, interfaces: &[Interface]) -> Vec<Check> {
    let mut checks = conntrack::checks(files, wanted);
    checks.extend(kernel::read_checks(files));
    checks.extend(limits::checks(files, wanted));
    checks.extend(buffers::checks(files, wanted));
    checks.extend(counters::checks(files, wanted));
    checks.extend(nic::checks(files, interfaces, wanted));
    checks.extend(cpu::checks(files, interfaces, wanted));
    checks.extend(memory::checks(files));
    checks
}

fn of<'a>(checks: &'a [Check], id: &str) -> &'a Check {
    checks.iter().find(|check| check.id == id).unwrap_or_else(|| panic!("no {id} in {checks:#?}"))
}

fn all_of(checks: &[Check], wanted: Status) -> Vec<&str> {
    checks.iter().filter(|check| check.status == wanted).map(|check| check.id.as_str()).collect()
}

/// A check says what was found, whence, and what it means; one that is fine has nothing to mend.
fn well_formed(checks: &[Check]) {
    for check in checks {
        assert!(!check.id.is_empty() && !check.found.is_empty(), "{check:?}");
        assert!(!check.meaning.is_empty() && !check.source.is_empty(), "{check:?}");
        assert!(check.status != Status::Ok || check.fix.is_empty(), "{check:?}");
    }
    let mut ids: Vec<&str> = checks.iter().map(|check| check.id.as_str()).collect();
    ids.sort_unstable();
    let count = ids.len();
    ids.dedup();
    assert_eq!(ids.len(), count, "each id once");
}

#[test]
fn a_badly_kept_host_is_told_all_of_it() {
    let driver = Driver {
        name: Some("ixgbe".into()),
        rings: Some(Rings { now: 512, most: 4096 }),
        channels: Some(Channels { now: 4, most: 8, combined: true }),
        gro: Some(false),
        hashes_ports: Some(false),
        table: Some(vec![0; 128]),
    };
    let checks = rooms(&tree("linux-5.10"), &wanted(4, 0), &eth0(driver));
    well_formed(&checks);
    let unmended: Vec<_> =
        checks.iter().filter(|c| c.status == Status::Warning && c.fix.is_empty()).collect();
    assert!(unmended.is_empty(), "{unmended:#?}");
    let mut bad = all_of(&checks, Status::Warning);
    bad.sort_unstable();
    assert_eq!(
        bad,
        [
            "clock_source",
            "conntrack_drops",
            "conntrack_table",
            "governor",
            "kernel",
            "memlock",
            "netdev_max_backlog",
            "nic.eth0.gro",
            "nic.eth0.irq",
            "nic.eth0.numa",
            "nic.eth0.ring",
            "nic.eth0.rss",
            "nic.eth0.rx_drops",
            "rmem_max",
            "rp_filter",
            "softnet_dropped",
            "udp_csum_errors",
            "udp_mem",
            "udp_rcvbuf_errors",
        ]
    );
    for (id, fix) in [
        ("rmem_max", "sysctl -w net.core.rmem_max=4194304"),
        ("udp_mem", "sysctl -w net.ipv4.udp_mem=\"6144 9216 12288\""),
        ("nic.eth0.ring", "ethtool -G eth0 rx 4096"),
        ("nic.eth0.rx_drops", "ethtool -G eth0 rx 4096"),
        ("nic.eth0.gro", "ethtool -K eth0 gro on"),
        ("nic.eth0.rss", "ethtool -X eth0 equal 4"),
        ("nic.eth0.rss_hash", "ethtool -N eth0 rx-flow-hash udp4 sdfn"),
        ("conntrack_table", "sysctl -w net.netfilter.nf_conntrack_max=262144"),
        ("rp_filter", "sysctl -w net.ipv4.conf.all.rp_filter=2"),
        ("irqbalance", "systemctl stop irqbalance"),
        ("nic.eth0.numa", "ringest listen '*:9000' --cores 2-3"),
    ] {
        assert_eq!(of(&checks, id).fix, fix);
    }
    assert_eq!(of(&checks, "udp_mem_errors").status, Status::Unknown, "not counted before 5.11");
    assert_eq!(of(&checks, "udp_rcvbuf_errors").found, "30,710 of 81,236,541 datagrams (0.03 %)");
    assert_eq!(of(&checks, "softnet_dropped").found, "500 of 251,407,956 frames (< 0.01 %)");
}

#[test]
fn a_well_kept_host_is_left_in_peace() {
    let driver = Driver {
        rings: Some(Rings { now: 1024, most: 16_384 }),
        gro: Some(true),
        hashes_ports: Some(true),
        table: Some((0..128).map(|entry| entry % 2).collect()),
        ..Driver::default()
    };
    let checks = rooms(&tree("linux-6.1"), &wanted(2, 0), &eth0(driver));
    well_formed(&checks);
    assert_eq!(all_of(&checks, Status::Warning), ["softnet_flow_limited"]);
    assert_eq!(of(&checks, "conntrack_udp").found, "no connection tracking");
    assert_eq!(of(&checks, "kernel").status, Status::Info);
    assert_eq!(of(&checks, "nic.eth0.irq").found, "2 receive interrupts on cores 0-1");
    let checks = rooms(&tree("linux-6.18"), &wanted(1, 1), &eth0(Driver::default()));
    well_formed(&checks);
    assert_eq!(all_of(&checks, Status::Warning), ["udp_rcvbuf_errors", "udp_mem_errors"]);
    // One queue for two receivers is spread by RPS.
    let two = rooms(&tree("linux-6.18"), &wanted(2, 0), &eth0(Driver::default()));
    let queues = of(&two, "nic.eth0.queues");
    assert_eq!(queues.status, Status::Warning);
    assert_eq!(queues.fix, "echo 3 > /sys/class/net/eth0/queues/rx-0/rps_cpus");
}

#[test]
fn a_host_that_shows_nothing_is_unknown_and_no_crash() {
    let nowhere = Files::at(PathBuf::from("/nonexistent"));
    let checks = rooms(&nowhere, &wanted(2, 2), &eth0(Driver::default()));
    well_formed(&checks);
    assert!(
        all_of(&checks, Status::Failure).is_empty() && all_of(&checks, Status::Warning).is_empty()
    );
    let unknown = all_of(&checks, Status::Unknown).len();
    assert!(unknown * 10 > checks.len() * 8, "{unknown} of {}", checks.len());
    assert!(Interface::all(&nowhere, &wanted(1, 0)).is_empty());
}

/// A tree of files that is removed when dropped.
struct Tree(TempDir);

impl Tree {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        Self(root)
    }

    fn files(&self) -> Files {
        Files::at(self.0.path().to_owned())
    }
}

#[test]
fn the_tightest_cgroup_quota_counts() {
    let quota = |files: &[(&str, &str)], cores: usize| {
        let tree = Tree::new(files);
        let checks = cpu::checks(&tree.files(), &[], &wanted(cores, 0));
        let check = of(&checks, "cgroup_quota");
        (check.status, check.found.clone(), check.fix.clone())
    };
    let second = [
        ("proc/self/cgroup", "0::/system.slice/r.service\n"),
        ("sys/fs/cgroup/system.slice/cpu.max", "150000 100000\n"),
        ("sys/fs/cgroup/system.slice/r.service/cpu.max", "max 100000\n"),
    ];
    let fix = "echo max > /sys/fs/cgroup/system.slice/cpu.max".to_owned();
    assert_eq!(quota(&second, 2), (Status::Warning, "1.50 cores".to_owned(), fix));
    assert_eq!(quota(&second, 1).0, Status::Ok);
    let first = [
        ("proc/self/cgroup", "3:cpu,cpuacct:/box\n0::/\n"),
        ("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us", "50000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_period_us", "100000\n"),
        ("sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us", "-1\n"),
    ];
    let fix = "echo -1 > /sys/fs/cgroup/cpu,cpuacct/box/cpu.cfs_quota_us".to_owned();
    assert_eq!(quota(&first, 1), (Status::Warning, "0.50 cores".to_owned(), fix));
    assert_eq!(quota(&[("proc/self/cgroup", "0::/\n")], 1).1, "none");
    assert_eq!(quota(&[("proc/self/cgroup", "x\n:::::\n0::///\n")], 1).0, Status::Ok);
}

#[test]
fn interfaces_are_those_datagrams_come_in_by() {
    let files = tree("linux-5.10");
    let names = |wanted: &Wanted| -> Vec<String> {
        Interface::all(&files, wanted).into_iter().map(|interface| interface.name).collect()
    };
    assert_eq!(names(&wanted(1, 0)), ["eth0"], "and not lo");
    let mut loopback = wanted(1, 0);
    loopback.addresses = vec!["127.0.0.1:9000".parse().unwrap()];
    assert!(names(&loopback).is_empty());
}

/// Checks addresses on a host with these files.
fn at_addresses(files: &Files, addresses: &[&str]) -> Vec<Check> {
    let mut wanted = wanted(1, 0);
    wanted.addresses = addresses.iter().map(|address| address.parse().unwrap()).collect();
    wanted.any = addresses.len() > 1;
    address::checks(files, &wanted.here(address::has_ipv6(files)))
}

#[test]
fn ipv6_that_is_off_is_the_one_thing_said() {
    let conf = "proc/sys/net/ipv6/conf";
    let off = Tree::new(&[(&format!("{conf}/all/disable_ipv6"), "1\n")]);
    for address in ["[::1]:47", "[::]:47", "[::]:0"] {
        let checks = at_addresses(&off.files(), &[address]);
        let ipv6 = of(&checks, "ipv6");
        assert_eq!(ipv6.status, Status::Failure, "{address}");
        assert_eq!(ipv6.fix, "sysctl -w net.ipv6.conf.all.disable_ipv6=0");
        let local = of(&checks, "address_local");
        assert_eq!((local.status, local.fix.as_str()), (Status::Failure, ""), "{local:?}");
        assert!(local.found.ends_with("is IPv6, which is off here"), "{local:?}");
        let taken = of(&checks, "address_taken");
        assert!(address.ends_with(":0") || taken.found == "IPv6 is off here", "{taken:?}");
    }
    // Both families: IPv4 alone is looked at.
    let any = at_addresses(&off.files(), &["0.0.0.0:0", "[::]:0"]);
    assert_eq!(of(&any, "ipv6").status, Status::Info);
    assert_eq!(of(&any, "address_local").status, Status::Ok);
    assert!(all_of(&any, Status::Failure).is_empty(), "{any:#?}");
    // On loopback alone, and on all but one interface.
    let lo = [
        (&*format!("{conf}/all/disable_ipv6"), "0\n"),
        (&*format!("{conf}/lo/disable_ipv6"), "1\n"),
    ];
    let checks = at_addresses(&Tree::new(&lo).files(), &["[::1]:0"]);
    assert_eq!(of(&checks, "ipv6").fix, "sysctl -w net.ipv6.conf.lo.disable_ipv6=0");
    assert_eq!(of(&checks, "address_local").fix, "");
    let one = [
        (&*format!("{conf}/all/disable_ipv6"), "1\n"),
        ("proc/net/if_inet6", "20010db8000000000000000000000001 02 40 00 80 eth0\n"),
    ];
    let checks = at_addresses(&Tree::new(&one).files(), &["[::]:0"]);
    assert_eq!(of(&checks, "ipv6").status, Status::Info);
}

#[test]
fn a_buffer_that_was_full_is_made_larger_where_it_is_small() {
    let snmp = "Udp: InDatagrams NoPorts InErrors OutDatagrams RcvbufErrors\nUdp: 90 0 10 0 10\n";
    let fix = |rmem_max: Option<&str>, mib: usize| {
        let mut files = vec![("proc/net/snmp", snmp)];
        files.extend(rmem_max.map(|most| ("proc/sys/net/core/rmem_max", most)));
        let tree = Tree::new(&files);
        let mut wanted = wanted(1, 0);
        wanted.rcvbuf_bytes = mib << 20;
        wanted.addresses = vec!["192.0.2.1:514".parse().unwrap()];
        let checks = counters::checks(&tree.files(), &wanted);
        let check = of(&checks, "udp_rcvbuf_errors");
        assert_eq!(check.status, Status::Warning);
        (check.fix.clone(), check.sysctl.is_some())
    };
    // Less than is asked for: the kernel's setting is what is in the way.
    assert_eq!(fix(Some("212992"), 4), ("sysctl -w net.core.rmem_max=4194304".to_owned(), true));
    // As much as is asked for: the setting alone would change nothing.
    let more = "ringest listen 192.0.2.1:514 --rcvbuf 16M".to_owned();
    let both = format!("sysctl -w net.core.rmem_max=16777216 && {more}");
    assert_eq!(fix(Some("4194304"), 4), (both.clone(), false));
    assert_eq!(fix(Some("8388608"), 4), (both, false));
    assert_eq!(fix(Some("16777216"), 4), (more.clone(), false));
    assert_eq!(fix(None, 4), (more, false));
    let twice = "ringest listen 192.0.2.1:514 --rcvbuf 64M".to_owned();
    assert_eq!(fix(Some("268435456"), 32), (twice, false));
    assert!(fix(Some("2147483647"), 512).0.starts_with("nstat "));
}

#[test]
fn a_socket_is_traced_to_its_process_and_unit() {
    let tree = Tree::new(&[
        ("proc/1101/comm", "rsyslogd\n"),
        ("proc/1101/cgroup", "0::/system.slice/rsyslog.service\n"),
        ("proc/1101/fd/0", ""),
    ]);
    symlink("socket:[18211]", tree.0.path().join("proc/1101/fd/5")).unwrap();
    let files = tree.files();
    let owner = owners::owner(&files, 18_211).unwrap();
    let unit = Some("rsyslog.service".to_owned());
    assert_eq!(owner, owners::Owner { pid: 1101, name: "rsyslogd".into(), unit });
    assert_eq!(owners::owner(&files, 1), None);
    assert_eq!(owners::runs(&files, "rsyslogd"), Some(1101));
}

#[test]
fn this_host_is_examined_whole() {
    let wanted = Wanted::plan(&Config::default()).unwrap();
    let checks = examine(&wanted);
    well_formed(&checks);
    for id in
        ["kernel", "io_uring.multishot_recvmsg", "rmem_max", "udp_no_ports", "plan", "firewall"]
    {
        of(&checks, id);
    }
}
