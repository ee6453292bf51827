//! `ringest doctor` on a host made bad in one way after another: each is found, and what the doctor
//! says mends it is run as printed and does. In network namespaces, in mount namespaces that lay files
//! over the machine's own settings, and in shells with low limits; as root, skipped with a printed
//! reason elsewhere.

use std::collections::BTreeMap;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::process::Command;

use seccompiler::{BpfProgram, SeccompAction, SeccompFilter, apply_filter_all_threads};

use crate::doctor::rig::{
    PORT, PROGRAM, Place, SETTINGS, StandIns, arrives, engine_at, has, heard, spoil, ward,
};
use crate::rigs::child::Child;
use crate::rigs::support::until;
use crate::sockets::network::{Cable, ENGINE_IP};

#[test]
fn a_well_host_has_nothing_that_fails() {
    let Some((cable, place, address)) = ward() else { return };
    let report = place.examine(&[&address]);
    assert_eq!(report.code, Some(0), "{report:#?}");
    for id in ["address_local", "address_taken", "firewall", "ipv6", "nic.cable.state"] {
        assert_eq!(report.check(id).status, "ok", "{id}: {report:#?}");
    }
    arrives(&cable, engine_at(PORT));
    // Without an address, and as everybody.
    assert_eq!(place.examine(&[]).code, Some(0));
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups --bounding-set=-all \
                  --inh-caps=-all true";
    if place.shell(nobody).status.success() {
        let anybody = place
            .shell(&format!("exec {}", nobody.replace(" true", &format!(" {PROGRAM} doctor"))));
        // The program may lie where nobody may look.
        if anybody.status.code() != Some(126) && anybody.status.code() != Some(127) {
            assert!(String::from_utf8_lossy(&anybody.stdout).contains("checks: "), "{anybody:?}");
        }
    }
}

#[test]
fn ipv6_switched_off() {
    let Some((_cable, place, _)) = ward() else { return };
    place.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
    // For `*:PORT` it is a fact to know.
    let any = place.examine(&["*:9000"]);
    assert_eq!((any.check("ipv6").status.as_str(), any.code), ("info", Some(0)), "{any:#?}");
    assert_eq!(any.check("address_local").status, "ok", "{any:#?}");
    for address in ["[::1]:9000", "[::]:9000"] {
        place.run("sysctl -qw net.ipv6.conf.all.disable_ipv6=1");
        let local = place.examine(&[address]).check("address_local");
        assert!(local.found.contains("IPv6, which is off here"), "{local:?}");
        assert_eq!(local.fix, "");
        let sick = place.find_and_mend(&[address], "ipv6", "failure");
        assert_eq!(sick.fix, "sysctl -w net.ipv6.conf.all.disable_ipv6=0");
    }
}

#[test]
fn a_port_held_by_another_process() {
    let Some((_cable, place, address)) = ward() else { return };
    for holds in [address.as_str(), "0.0.0.0:9000", "*:9000"] {
        let mut holder = place.start(PROGRAM, &["listen", holds, "--quiet"]);
        until("the port to be taken", || {
            let ended = holder.0.try_wait().unwrap();
            assert!(ended.is_none(), "{ended:?}");
            place.examine(&[&address]).check("address_taken").status != "ok"
        });
        let sick = place.examine(&[&address]).check("address_taken");
        let pid = holder.0.id();
        // Whatever is said, only the process started here may be ended.
        let is_ours = sick.fix == format!("kill {pid}");
        assert!(is_ours && sick.found.contains("ringest"), "{sick:?} is not about {pid}");
        assert!(sick.found.contains(&format!("(pid {pid}")), "{sick:?}");
        place.run(&sick.fix);
        holder.0.wait().unwrap();
        let well = place.examine(&[&address]);
        assert_eq!((well.check("address_taken").status.as_str(), well.code), ("ok", Some(0)));
    }
}

#[test]
fn an_address_of_another_host() {
    let Some((cable, place, _)) = ward() else { return };
    let sick = place.find_and_mend(&["10.99.0.77:9000"], "address_local", "failure");
    assert_eq!(sick.fix, "ip address add 10.99.0.77/32 dev cable");
    assert!(sick.found.contains(&ENGINE_IP.to_string()), "{sick:?}");
    arrives(&cable, SocketAddr::from((Ipv4Addr::new(10, 99, 0, 77), PORT)));
    // The address is in no network of this host, so no command would make anybody send to it.
    let far = place.examine(&["203.0.113.77:9000"]).check("address_local");
    assert_eq!((far.status.as_str(), far.fix.as_str()), ("failure", ""), "{far:?}");
    // An IPv6 address takes a second to be usable: the kernel checks that no other host has it.
    place.run("ip address add 2001:db8::1/64 dev cable");
    let six = ["[2001:db8::77]:9000"];
    let sick = place.examine(&six).check("address_local");
    assert_eq!(sick.fix, "ip address add 2001:db8::77/128 dev cable", "{sick:?}");
    place.run(&sick.fix);
    until("the address to be usable", || place.examine(&six).code == Some(0));
}

#[test]
fn a_port_below_1024_without_the_right() {
    let Some((_cable, place, _)) = ward() else { return };
    let address = engine_at(514).to_string();
    place.run("sysctl -qw net.ipv4.ip_unprivileged_port_start=1024");
    let unprivileged = place.without("-net_bind_service");
    let sick = unprivileged.examine(&[&address]).check("port_privileged");
    assert_eq!(sick.status, "failure", "{sick:?}");
    place.run(&sick.fix);
    let well = unprivileged.examine(&[&address]);
    assert_eq!((well.check("port_privileged").status.as_str(), well.code), ("ok", Some(0)));
}

/// A cgroup of a test's own; gone when dropped.
struct Group(String);

impl Drop for Group {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir(&self.0) {
            println!("{}: {error}", self.0);
        }
    }
}

#[test]
fn a_cgroup_that_grants_half_a_core() {
    let name = format!("ringest-doctor-{}", std::process::id());
    let ways = [
        (format!("/sys/fs/cgroup/{name}"), "cpu.max", "50000 100000"),
        (format!("/sys/fs/cgroup/cpu/{name}"), "cpu.cfs_quota_us", "50000"),
    ];
    for (dir, file, quota) in ways {
        if fs::create_dir(&dir).is_err() {
            continue;
        }
        let group = Group(dir.clone());
        if !fs::exists(format!("{dir}/{file}")).unwrap() {
            continue;
        }
        fs::write(format!("{dir}/{file}"), quota).unwrap();
        // A shell goes in, and becomes the doctor.
        let enter = format!("echo $$ > {dir}/cgroup.procs;");
        let sick = Place::here().examine_after(&enter, &["--receivers", "1"]).check("cgroup_quota");
        println!("cgroup_quota: {} ({}): {}", sick.status, sick.found, sick.fix);
        assert_eq!((sick.status.as_str(), sick.found.as_str()), ("warning", "0.50 cores"));
        assert!(sick.fix.ends_with(&format!(" > {dir}/{file}")), "{sick:?}");
        Place::here().run(&sick.fix);
        let well = Place::here().examine_after(&enter, &["--receivers", "1"]).check("cgroup_quota");
        assert_eq!(well.status, "ok", "{well:?}");
        drop(group);
        return;
    }
    println!("skipped: no cgroup can be made here (not root?)");
}

#[test]
fn an_interface_that_is_down() {
    let Some((cable, place, address)) = ward() else { return };
    place.run("ip link set dev cable down");
    let sick = place.find_and_mend(&[&address], "nic.cable.state", "failure");
    assert_eq!(sick.fix, "ip link set dev cable up");
    arrives(&cable, engine_at(PORT));
    // Nobody at the other end.
    Place::netns(&cable.client).run("ip link set dev cable down");
    let alone = place.examine(&[&address]);
    assert_eq!(alone.check("nic.cable.state").found, "up, no carrier", "{alone:#?}");
}

#[test]
fn a_small_mtu() {
    let Some((_cable, place, address)) = ward() else { return };
    place.run("ip link set dev cable mtu 1000");
    let sick = place.find_and_mend(&[&address], "nic.cable.mtu", "warning");
    assert_eq!(sick.found, "1000 bytes");
}

#[test]
fn gro_switched_off() {
    let Some((_cable, place, address)) = ward() else { return };
    if has("ethtool") {
        place.run("ethtool -K cable gro off");
        place.find_and_mend(&[&address], "nic.cable.gro", "info");
    }
}

/// Cores this process may use.
fn cores() -> usize {
    std::thread::available_parallelism().map_or(1, std::num::NonZeroUsize::get)
}

#[test]
fn fewer_queues_than_receivers() {
    let Some((_cable, place, _)) = ward() else { return };
    if cores() < 2 {
        println!("skipped: work is not spread on one core");
        return;
    }
    // One whose queues can be made more, and one whose cannot: there RPS spreads what comes in.
    for (name, queues, ip) in [("wide", 2, "10.99.1.1"), ("narrow", 1, "10.99.2.1")] {
        place.run(&format!(
            "ip link add {name} numrxqueues {queues} numtxqueues {queues} type veth peer name \
             {name}2 numrxqueues {queues} numtxqueues {queues}"
        ));
        place.run(&format!(
            "ip address add {ip}/24 dev {name}; ip link set {name}2 up; ip link set {name} up"
        ));
        let id = format!("nic.{name}.queues");
        let address = format!("{ip}:9000");
        if name == "wide" {
            if !has("ethtool") {
                continue;
            }
            place.run("ethtool -L wide rx 1");
        }
        let sick =
            place.find_and_mend(&[&address, "--receivers", "2", "--workers", "0"], &id, "info");
        let way = if name == "wide" { "ethtool -L wide rx 2" } else { "rps_cpus" };
        assert!(sick.fix.contains(way), "{sick:?}");
    }
}

#[test]
fn a_sender_behind_another_route() {
    let Some((cable, place, address)) = ward() else { return };
    place.run(
        "ip link add elsewhere type veth peer name elsewhere2; ip link set elsewhere up; ip link \
         set elsewhere2 up; ip route add 203.0.113.0/24 dev elsewhere; sysctl -qw \
         net.ipv4.conf.all.rp_filter=1",
    );
    let client = Place::netns(&cable.client);
    client.run("ip address add 203.0.113.9/32 dev lo; sysctl -qw net.ipv4.conf.all.arp_announce=2");
    let sender = Cable::inside(&cable.client, || UdpSocket::bind("203.0.113.9:0").unwrap());
    sender.send_to(b"lost", engine_at(PORT)).unwrap();
    until("the drop to be counted", || place.examine(&[]).check("rp_filter").status == "warning");
    let sick = place.find_and_mend(&[&address], "rp_filter", "warning");
    assert_eq!(sick.fix, "sysctl -w net.ipv4.conf.all.rp_filter=2");
    let mut receiver = place.start(PROGRAM, &["listen", &address, "--count", "1", "--quiet"]);
    heard(&sender, engine_at(PORT), &mut receiver);
}

#[test]
fn a_full_receive_buffer_is_counted_in_share() {
    let Some((cable, place, _)) = ward() else { return };
    let taken = Cable::inside(&cable.engine, || {
        let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        socket2::SockRef::from(&socket).set_recv_buffer_size(4096).unwrap();
        let sender = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let to = socket.local_addr().unwrap();
        (0..1000).for_each(|_| assert_eq!(sender.send_to(&[7; 64], to).unwrap(), 64));
        socket.set_nonblocking(true).unwrap();
        std::iter::from_fn(|| socket.recv(&mut [0; 64]).ok()).count()
    });
    let report = place.examine(&[]);
    let check = report.check("udp_rcvbuf_errors");
    assert_eq!(check.status, "warning", "{report:#?}");
    let lost = 1000 - taken;
    assert!(check.found.starts_with(&format!("{lost} of 1,000 datagrams (9")), "{check:?}");
    assert!(!check.fix.is_empty());
}

#[test]
fn low_limits_in_a_shell() {
    let place = Place::here();
    let unlocked = place.without("-ipc_lock,-sys_admin,-sys_resource");
    if !unlocked.shell("true").status.success() {
        println!("skipped: capabilities cannot be dropped here (not root?)");
        return;
    }
    for (limit, id, place) in
        [("ulimit -S -l 0;", "memlock", &unlocked), ("ulimit -S -n 40;", "nofile", &unlocked)]
    {
        let sick = place.examine_after(limit, &[]).check(id);
        println!("{id}: {}: {}", sick.found, sick.fix);
        if sick.fix.starts_with("prlimit") {
            println!("skipped: the hard limit is as low");
            continue;
        }
        assert_eq!(sick.status, "warning", "{sick:?}");
        let well = place.examine_after(&format!("{limit} {};", sick.fix), &[]);
        assert_eq!(well.check(id).status, "ok", "{well:#?}");
        assert_eq!(
            well.check("io_uring.ring").status,
            place.examine(&[]).check("io_uring.ring").status
        );
    }
}

#[test]
fn io_uring_refused_by_a_filter() {
    Child::new("doctor::checks::child_under_a_filter").pass();
    // The remedy is to start without the filter.
    let well = Place::here().examine(&[]).check("seccomp");
    if well.found != "no filter" {
        println!("skipped: this test runs under a filter of its own: {well:?}");
        return;
    }
    assert_eq!(well.status, "ok");
}

#[test]
#[ignore = "runs in a child process"]
fn child_under_a_filter() {
    let calls = [libc::SYS_io_uring_setup, libc::SYS_io_uring_register, libc::SYS_io_uring_enter];
    let refused: BTreeMap<i64, _> = calls.into_iter().map(|call| (call, vec![])).collect();
    let filter = SeccompFilter::new(
        refused,
        SeccompAction::Allow,
        SeccompAction::Errno(libc::EPERM.unsigned_abs()),
        std::env::consts::ARCH.try_into().unwrap(),
    );
    let program: BpfProgram = filter.unwrap().try_into().unwrap();
    apply_filter_all_threads(&program).unwrap();
    let report = Place::here().examine(&[]);
    let sick = report.check("seccomp");
    assert_eq!(sick.status, "warning", "{sick:?}");
    assert!(sick.fix.contains("seccomp=unconfined"), "{sick:?}");
    assert_eq!(report.check("io_uring.multishot_recvmsg").status, "warning");
    assert_eq!(report.code, Some(0), "recvmmsg stands in");
}

#[test]
fn bad_settings_of_the_kernel_one_at_a_time() {
    StandIns::with(|stand_ins| {
        let place = Place::here();
        for id in spoil(stand_ins) {
            let sick = place.examine(&[]).check(id);
            println!("{id}: {} ({}): {}", sick.status, sick.found, sick.fix);
            assert!(["info", "warning"].contains(&sick.status.as_str()), "{sick:?}");
            assert!(sick.fix.starts_with("sysctl -w "), "{sick:?}");
            place.run(&sick.fix);
            let well = place.examine(&[]).check(id);
            assert_eq!(well.status, "ok", "{sick:?} {well:?}");
        }
    });
}

#[test]
fn bad_settings_of_the_kernel_all_by_one_file() {
    StandIns::with(|stand_ins| {
        let place = Place::here();
        let ids = spoil(stand_ins);
        let file = stand_ins.file("60-ringest.conf");
        place.run(&format!("{PROGRAM} doctor --sysctl > {}", file.display()));
        let text = fs::read_to_string(&file).unwrap();
        // Only what lies under a file of ours may be written.
        let lines = text.lines().filter(|line| !line.starts_with('#') && !line.is_empty());
        let ours: Vec<&str> = lines
            .filter(|line| {
                let key = line.split(' ').next().unwrap().replace('.', "/");
                SETTINGS.iter().any(|(path, ..)| path.ends_with(&key))
            })
            .collect();
        assert_eq!(ours.len(), ids.len(), "{text}");
        fs::write(&file, ours.join("\n")).unwrap();
        place.run(&format!("sysctl -p {}", file.display()));
        let report = place.examine(&[]);
        for id in ids {
            assert_eq!(report.check(id).status, "ok", "{text}\n{report:#?}");
        }
    });
}

#[test]
fn wrong_usage_is_refused_and_help_has_examples() {
    for args in [
        &["doctor", "localhost:9000"][..],
        &["doctor", "1.2.3.4"],
        &["doctor", "--json", "--sysctl"],
        &["doctor", "--receivers", "0"],
        &["doctor", "--cores", "1000"],
    ] {
        let output = Command::new(PROGRAM).args(args).output().unwrap();
        assert_eq!(output.status.code(), Some(2), "{args:?}: {output:?}");
        assert!(output.stdout.is_empty(), "{args:?}");
    }
}
