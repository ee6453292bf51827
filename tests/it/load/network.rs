//! `ringest load` where a network, a firewall or a queueing discipline is in its way: in network
//! namespaces, as root; skipped with a printed reason elsewhere.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::process::Command;

use ringest::{BackendChoice, Builder};
use serde_json::Value;

use crate::load::rig::{Ended, load};
use crate::rigs::support::{Record, Rig, consistent, intact_and_distinct, small};
use crate::sockets::network::{Cable, ENGINE_IP, run};

/// Runs the program in the client's namespace.
fn client_load(cable: &Cable, target: SocketAddr, args: &str) -> Ended {
    Cable::inside(&cable.client, || load(target, args))
}

fn rig(cable: &Cable, builder: Builder) -> Rig {
    let builder = builder.listen(SocketAddr::from((ENGINE_IP, 0))).rcvbuf_bytes(64 << 20);
    Cable::inside(&cable.engine, || Rig::start(builder))
}

/// Runs a command in the client's namespace.
fn in_client(cable: &Cable, args: &[&str]) -> String {
    let output =
        Command::new("ip").args(["netns", "exec", &cable.client]).args(args).output().unwrap();
    assert!(output.status.success(), "{args:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

/// Sends one datagram, so that the neighbours know each other and nothing waits for that.
fn introduce(cable: &Cable, rig: &Rig) -> u64 {
    assert_eq!(client_load(cable, rig.target(), "--count 1 --json").report().sent(), 1);
    rig.await_handled(1);
    1
}

/// Makes one core of the receiver take all packets (RPS). Packets that leave tbf are taken over by the core
/// that tbf ran on, and cores overtake each other. With one core, datagrams that arrive out of order were
/// sent out of order.
fn one_backlog(cable: &Cable) {
    let set = "echo 1 > /sys/class/net/cable/queues/rx-0/rps_cpus";
    let netns = ["netns", "exec", &cable.engine, "sh", "-c", set];
    assert!(Command::new("ip").args(netns).status().unwrap().success());
}

/// Through a send buffer that is full most of the time nothing is lost, and nothing overtaken.
#[test]
fn a_slow_path_delays_but_keeps_the_order() {
    let Some(cable) = Cable::lay() else { return };
    // The queue holds all that a send buffer can.
    one_backlog(&cable);
    let tbf = "qdisc add dev cable root tbf rate 60mbit burst 16k limit 32m";
    run("tc", &format!("-n {} {tbf}", cable.client)).unwrap();
    let mut blocked = 0;
    for args in [
        "--rate max --gso off --count 9000",
        "--rate max --gso 16 --count 9008",
        "--rate max --gso off --flows 3 --count 12000",
        "--rate 10M --gso auto --flows 2 --threads 2 --count 10000",
    ] {
        println!("{args}");
        let rig = rig(&cable, small(BackendChoice::Auto));
        let first = introduce(&cable, &rig);
        let args = format!("--size 1000 --payload random --json {args}");
        let report = client_load(&cable, rig.target(), &args).report();
        assert_eq!(report.sent(), report.get("intended"), "{report:?}");
        blocked += report.get("blocked");
        assert!(report.get("blocked") <= report.sent(), "each counts once: {report:?}");
        let sent = first + report.sent();
        rig.await_handled(sent);
        let (summary, mut records) = rig.stop();
        consistent(&summary);
        assert_eq!(summary.ledger.handled, sent);
        records.remove(0);
        intact_and_distinct(&records, sent);
        let mut last: HashMap<u16, u64> = HashMap::new();
        for record in &records {
            let (flow, number) = record.number.unwrap();
            let before = last.insert(flow, number);
            let next = before.map_or(0, |before| before + 1);
            assert_eq!(number, next, "of flow {flow}, {args}");
        }
    }
    assert!(blocked > 0, "the path was not slow");
}

/// Drops of this host's own queueing discipline are counted, to the datagram.
#[test]
fn a_qdisc_that_drops_is_counted_as_tc_counts_it() {
    let Some(cable) = Cable::lay() else { return };
    in_client(&cable, &["sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=1"]);
    let rig = rig(&cable, small(BackendChoice::Auto));
    let first = introduce(&cable, &rig);
    let tbf = "qdisc add dev cable root tbf rate 8mbit burst 10k limit 20k";
    run("tc", &format!("-n {} {tbf}", cable.client)).unwrap();
    let args = "--rate max --gso off --size 500 --count 3000 --json";
    let ended = client_load(&cable, rig.target(), args);
    let report = ended.report();
    let qdisc: Value = serde_json::from_str(&in_client(
        &cable,
        &["tc", "-s", "-j", "qdisc", "show", "dev", "cable"],
    ))
    .unwrap();
    let dropped = report.get("qdisc_dropped");
    assert!(dropped > 0, "{report:?}");
    assert_eq!(Some(dropped), qdisc[0]["drops"].as_u64(), "{report:?} {qdisc:?}");
    assert_eq!((report.get("send_failed"), report.get("unsent")), (dropped, 0));
    assert!(ended.stderr.contains("dropped by qdisc"), "{ended:?}");
    rig.await_handled(first + report.sent());
    let (summary, records) = rig.stop();
    consistent(&summary);
    assert_eq!(summary.ledger.handled, first + report.sent());
    let numbered = |record: &Record| record.number.is_some_and(|(_, number)| number < 3000);
    assert!(records.iter().all(numbered));
}

/// A firewall that forbids every tenth datagram, and one that forbids all.
#[test]
fn a_firewall_is_counted_and_named() {
    let Some(cable) = Cable::lay() else { return };
    let nft = |rules: &str| in_client(&cable, &["nft", rules]);
    if Command::new("nft").arg("-V").output().is_err() {
        println!("skipped: nft cannot be run");
        return;
    }
    let rig = rig(&cable, small(BackendChoice::Auto));
    let first = introduce(&cable, &rig);
    nft("add table ip t; add chain ip t out { type filter hook output priority 0; }");
    nft("add rule ip t out meta l4proto udp numgen inc mod 10 == 0 counter drop");
    let mut sent = first;
    for args in ["--rate 50k", "--rate max --flows 3", "--rate max --flows 100"] {
        let args = format!("{args} --gso off --count 2000 --json");
        let ended = client_load(&cable, rig.target(), &args);
        let report = ended.report();
        assert_eq!((report.get("send_failed"), report.get("unsent")), (200, 0), "{report:?}");
        assert!(ended.stderr.contains("200 x Operation not permitted"), "{ended:?}");
        assert!(ended.stderr.contains("a firewall rule of this host"), "{ended:?}");
        sent += report.sent();
        rig.await_handled(sent);
    }
    nft("add rule ip t out meta l4proto udp drop");
    let ended = client_load(&cable, rig.target(), "--rate 10k --count 100");
    ended.failed(1, &["nothing was sent", "a firewall rule of this host"]);
    let (summary, _) = rig.stop();
    consistent(&summary);
    assert_eq!(summary.ledger.handled, sent);
}

#[test]
fn more_flows_than_ports_is_said_with_both_numbers() {
    let Some(cable) = Cable::lay() else { return };
    in_client(&cable, &["sysctl", "-qw", "net.ipv4.ip_local_port_range=40000 40009"]);
    let target = SocketAddr::from((ENGINE_IP, 9));
    let ended = client_load(&cable, target, "--flows 50");
    ended.failed(1, &["flow 10 of 50", "no source port is free", "ip_local_port_range"]);
    assert_eq!(ended.stdout, "");
}

/// Nobody has the address: the kernel says so after three seconds, and it is an error still. Where there
/// is no route, it is said at once.
#[test]
fn a_host_that_cannot_be_reached_is_an_error() {
    let Some(cable) = Cable::lay() else { return };
    for (target, args) in [
        ("10.99.0.77:9", "--rate 100 --duration 1h"),
        ("10.99.0.77:9", "--rate 2 --duration 1h"),
        ("198.51.100.1:9", "--count 1"),
        ("[2001:db8::1]:9", "--count 1"),
    ] {
        let ended = client_load(&cable, target.parse().unwrap(), args);
        ended.failed(1, &["cannot be reached", "ip route get"]);
    }
}
