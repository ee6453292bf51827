//! `ringest load --pcap`: what was captured goes out again, unchanged, each sender in order and from a
//! port of its own.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};

use nix::sys::signal::Signal;
use ringest::BackendChoice;

use crate::load::rig::{Pcap, TempFile, load, loopback, start_load};
use crate::rigs::support::{Rig, all_handled, balance, client, payload, same_payloads, small};

/// Makes a capture of `count` datagrams, one each `gap_us`, of senders in turn; each begins with its sender
/// and number.
fn capture(count: u32, senders: u8, gap_us: u64) -> (TempFile, Vec<Vec<u8>>) {
    let mut pcap = Pcap::new();
    let mut payloads = Vec::new();
    for number in 0..count {
        let sender = u8::try_from(number % u32::from(senders)).unwrap();
        let index = usize::try_from(number).unwrap();
        // Sizes repeat often enough that some go as trains.
        let mut body = payload(index, 5 + index / 7 % 3 * 100);
        body[0] = sender;
        body[1..5].copy_from_slice(&number.to_be_bytes());
        // Senders share addresses and ports, but not both.
        let from = (sender / 2, 1000 + u16::from(sender % 2));
        pcap.udp(u64::from(number) * gap_us, from, &body);
        payloads.push(body);
    }
    (pcap.save(), payloads)
}

/// Returns the datagrams that came, in order.
fn receive(receiver: &UdpSocket, count: usize) -> Vec<(SocketAddr, Vec<u8>)> {
    let mut buffer = vec![0; 65_536];
    (0..count)
        .map(|_| {
            let (len, peer) = receiver.recv_from(&mut buffer).unwrap();
            (peer, buffer[..len].to_vec())
        })
        .collect()
}

/// Checks that each sender's datagrams came in order, from one port; returns how many ports there were.
fn ports_in_order(came: &[(SocketAddr, Vec<u8>)]) -> usize {
    let mut last: HashMap<u8, (SocketAddr, u32)> = HashMap::new();
    for (peer, body) in came {
        let number = u32::from_be_bytes(*body[1..].first_chunk().unwrap());
        if let Some((port, before)) = last.insert(body[0], (*peer, number)) {
            assert_eq!(port, *peer, "a sender keeps its port");
            assert!(before < number, "a sender keeps its order: {before} {number}");
        }
    }
    came.iter().map(|(peer, _)| peer).collect::<HashSet<_>>().len()
}

#[test]
fn a_capture_goes_out_unchanged_in_order_and_from_its_ports() {
    let (file, payloads) = capture(600, 6, 500);
    for (args, ports) in [
        ("", 6),
        ("--speed 3", 6),
        ("--speed 1000 --threads 3", 6),
        ("--rate 10k --threads 2", 6),
        ("--rate max", 6),
        ("--rate max --gso off --flows 4", 4),
        ("--rate 5Mbps --flows 100", 6),
        ("--rate 20k --flows 1", 1),
    ] {
        println!("{args}");
        let receiver = client(loopback(9));
        let target = receiver.local_addr().unwrap();
        let report = load(target, &format!("--pcap {} --json {args}", file.path())).report();
        assert_eq!((report.get("intended"), report.sent()), (600, 600), "{report:?}");
        assert_eq!(report.get("capture flows"), 6);
        assert_eq!(report.get("capture sent_from"), ports as u64);
        let came = receive(&receiver, 600);
        assert_eq!(ports_in_order(&came), ports);
        let mut bodies: Vec<_> = came.into_iter().map(|(_, body)| body).collect();
        let mut wanted = payloads.clone();
        bodies.sort_unstable();
        wanted.sort_unstable();
        assert!(bodies == wanted, "a payload was changed");
        // Absolute deadlines: the last is due 299.5 ms after the first, or at its share of the rate.
        let elapsed_s = report.0["elapsed_s"].as_f64().unwrap();
        let least_s = match args {
            "" => 0.2995,
            "--speed 3" => 0.2995 / 3.0,
            "--rate 10k --threads 2" => 0.0599,
            _ => 0.0,
        };
        assert!(elapsed_s >= least_s, "{args}: {report:?}");
        let late = !args.contains("max");
        assert_eq!(report.get("lateness_ns max") > 0, late, "{report:?}");
    }
}

#[test]
fn a_capture_may_be_cut_by_count_and_duration() {
    let (file, payloads) = capture(1000, 3, 1000);
    let file = file.path();
    for (args, wanted) in [
        ("--speed 100 --count 123", 123),
        ("--rate max --count 123 --threads 3", 123),
        ("--rate 100k --count 5000 --threads 2", 1000),
        // Those due in the first 100 ms, at 0, 1, … 99 ms.
        ("--duration 100ms", 100),
        ("--duration 100ms --threads 3", 100),
        ("--rate 2k --duration 50ms --threads 2", 100),
        ("--rate max --duration 1h", 1000),
    ] {
        println!("{args}");
        let rig = Rig::start(small(BackendChoice::Auto).listen(loopback(0)));
        let ended = load(rig.target(), &format!("--pcap {file} --json {args}"));
        let report = ended.report();
        assert_eq!(report.get("intended"), wanted, "{report:?}");
        let sent = report.sent();
        rig.await_handled(sent);
        let (summary, records) = rig.stop();
        all_handled(&summary, sent);
        if report.get("unsent") == 0 {
            same_payloads(&records, &payloads[..usize::try_from(sent).unwrap()]);
        }
    }
}

#[test]
fn a_replay_that_is_stopped_balances() {
    let (file, _) = capture(2000, 5, 100_000);
    let rig = Rig::start(small(BackendChoice::Auto).listen(loopback(0)));
    let load = start_load(rig.target(), &format!("--pcap {} --threads 2 --json", file.path()));
    rig.await_handled(5);
    load.signal(Signal::SIGINT);
    let ended = load.end();
    let report = ended.report();
    assert!((5..2000).contains(&report.sent()), "{report:?}");
    assert!(report.get("intended") < 2000, "what was not due yet is not unsent: {report:?}");
    rig.await_handled(report.sent());
    balance(&rig.stop().0, report.sent());
}

#[test]
fn what_is_passed_over_is_told_by_reason() {
    let mut pcap = Pcap::new();
    pcap.udp(5, (1, 1), b"first").udp(3, (2, 1), b"earlier").frame(6, &[0; 60]).udp(9, (1, 1), b"");
    let mut arp = vec![0; 12];
    arp.extend([0x08, 0x06]);
    arp.resize(42, 0);
    pcap.frame(10, &arp).frame(11, &arp);
    let file = pcap.save();
    let receiver = client(loopback(9));
    let target = receiver.local_addr().unwrap();
    let ended = load(target, &format!("--pcap {} --json", file.path()));
    let report = ended.report();
    assert_eq!((report.sent(), report.get("capture datagrams")), (3, 3));
    assert_eq!(report.get("capture backwards"), 1);
    assert_eq!(report.get("capture skipped not_ip"), 3, "{report:?}");
    for said in ["packets captured", "not IP", "out of time", "without a stamp"] {
        assert!(ended.stderr.contains(said), "{said}: {ended:?}");
    }
    let bodies: Vec<_> = receive(&receiver, 3).into_iter().map(|(_, body)| body).collect();
    assert_eq!(bodies, [&b"first"[..], b"earlier", b""]);
}

#[test]
fn what_cannot_be_replayed_is_refused_with_its_reason() {
    let target = loopback(9);
    let (file, _) = capture(10, 2, 1);
    for (args, said) in [
        ("--rtt", "round trips are told by the stamp"),
        ("--size 100", "cannot be used with"),
        ("--payload zero", "cannot be used with"),
        ("--burst 2", "cannot be used with"),
        ("--pattern poisson", "cannot be used with"),
        ("--speed 2 --rate 5", "cannot be used with"),
        ("--speed 0", "never ends"),
        ("--speed 0.0000001", "from 0.000001"),
        ("--gso 4", "sizes of their own"),
        ("--threads 3", "2 of this capture"),
    ] {
        load(target, &format!("--pcap {} {args}", file.path())).failed(2, &[said]);
    }
    load(target, "--pcap /nonexistent").failed(1, &["/nonexistent", "No such file"]);
    load(target, "--pcap /dev/null").failed(2, &["this is not a regular file"]);
    let text = TempFile::new(b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed");
    load(target, &format!("--pcap {}", text.path())).failed(1, &["is not a capture"]);
    let whole = std::fs::read(file.path()).unwrap();
    let cut = TempFile::new(&whole[..whole.len() - 1]);
    load(target, &format!("--pcap {}", cut.path())).failed(1, &["ends inside record 10"]);
}
