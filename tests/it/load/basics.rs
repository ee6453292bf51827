//! `ringest load`, the program: what it prints, what it sends, what it says when it cannot.

use std::collections::{HashMap, HashSet};
use std::net::{SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use ringest::{BackendChoice, Batch, Replies};

use crate::load::rig::{Report, TempFile, load, loopback, start_echo, start_load};
use crate::rigs::support::{
    Ground, Rig, all_handled, balance, boxed, client, grounds, intact_and_distinct, small, stop,
    until,
};

fn rig() -> Rig {
    Rig::start(small(BackendChoice::Auto).listen(loopback(0)))
}

/// Returns the keys of one line of JSON in order, without those of inner objects.
fn keys(json: &str) -> Vec<&str> {
    let (mut depth, mut keys) = (0, Vec::new());
    let mut pieces = json.split('"');
    let mut before = pieces.next().unwrap();
    loop {
        depth += before.matches('{').count();
        depth -= before.matches('}').count();
        let (Some(word), Some(after)) = (pieces.next(), pieces.next()) else { return keys };
        if depth == 1 && after.starts_with(':') {
            keys.push(word);
        }
        before = after;
    }
}

#[test]
fn the_report_has_the_keys_that_were_promised() {
    let rig = rig();
    let ended = load(rig.target(), "--rate 20k --count 500 --json");
    let promised = [
        "version",
        "intended",
        "sent",
        "unsent",
        "send_failed",
        "elapsed_s",
        "rate_pps",
        "lateness_ns",
    ];
    assert_eq!(keys(&ended.stdout)[..8], promised, "{ended:?}");
    let report = ended.report();
    assert!(report.get("lateness_ns p50") <= report.get("lateness_ns p99"));
    assert!(report.get("lateness_ns p99") <= report.get("lateness_ns max"));
    assert!(report.0.get("rtt_ns").is_none() && report.0.get("received").is_none());
    assert_eq!((report.get("intended"), report.sent()), (500, 500));
    assert!(report.0["rate_pps"].as_f64().unwrap() <= 20_000.0, "{report:?}");
    rig.await_handled(500);
    all_handled(&rig.stop().0, 500);
}

#[test]
fn csv_has_a_line_a_second_and_one_for_the_whole() {
    let rig = rig();
    let ended = load(rig.target(), "--rate 2k --duration 2500ms --csv --quiet");
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""));
    let mut lines = ended.stdout.lines();
    assert_eq!(lines.next(), Some("elapsed_s,sent,failed,echoed,sent_pps,behind_ns"));
    let sent: Vec<u64> =
        lines.map(|line| line.split(',').nth(1).unwrap().parse().unwrap()).collect();
    assert!(sent.len() >= 3 && sent.is_sorted(), "{ended:?}");
    let sent = *sent.last().unwrap();
    rig.await_handled(sent);
    all_handled(&rig.stop().0, sent);
}

#[test]
fn round_trips_are_counted_from_when_they_were_due_and_from_when_they_left() {
    for args in [
        "--rate 20k --count 2000 --flows 4 --threads 2",
        "--rate 20k --count 2000 --gso 8 --size 40",
        "--rate 20k --count 2000 --flows 3 --burst 5 --pattern poisson",
    ] {
        let (echo, address) = start_echo();
        let report = load(address, &format!("{args} --rtt --json")).report();
        assert_eq!((report.sent(), report.get("received")), (2000, 2000), "{report:?}");
        for none in ["lost", "reordered", "duplicates"] {
            assert_eq!(report.get(none), 0, "{report:?}");
        }
        for percentile in ["p50", "p90", "p99", "p999", "max"] {
            let intended = report.get(&format!("rtt_ns from_intended {percentile}"));
            let actual = report.get(&format!("rtt_ns from_actual {percentile}"));
            assert!(intended >= actual && actual > 0, "{report:?}");
        }
        echo.signal(Signal::SIGINT);
        assert_eq!(echo.end().code, Some(0));
    }
}

/// Half of the answers come twice, a tenth never: an echo server that errs by a script.
#[test]
fn what_an_echo_server_does_wrong_is_told() {
    let echo = |batch: &Batch, replies: &mut Replies| {
        for datagram in batch {
            let number = datagram.payload()[0];
            for _ in 0..[0, 2, 1, 1, 1, 2, 2, 2, 2, 1][usize::from(number % 10)] {
                assert!(replies.send(&datagram, datagram.payload()));
            }
        }
    };
    let engine = small(BackendChoice::Auto).listen(loopback(0)).start(boxed(|_| echo)).unwrap();
    // Numbers 0 to 199: the first byte is the whole number.
    let args = "--rate 20k --count 200 --rtt --json --gso off";
    let report = load(engine.addresses()[0], args).report();
    assert_eq!((report.get("received"), report.get("lost")), (180, 20), "{report:?}");
    assert_eq!((report.get("duplicates"), report.get("reordered")), (100, 0), "{report:?}");
    balance(&stop(engine), 200);
}

/// A load whose echo server, or which itself, stands still for a while in the middle.
#[derive(Debug)]
struct Stalled {
    report: Report,
    stall_ns: u64,
    /// The least time that the datagram that fell due first has waited: one is due each millisecond, and a
    /// histogram has three digits.
    least_ns: u64,
    /// How late the sender sent the latest.
    lateness_ns: u64,
}

/// Stalls a load of 3000 datagrams, one a millisecond, for as long as 500 of them fall due.
fn stalled(hold_sender: bool) -> Stalled {
    let gate = Arc::new(Mutex::new(()));
    let engine = small(BackendChoice::Auto).listen(loopback(0)).start(boxed(|_| {
        let gate = Arc::clone(&gate);
        move |batch: &Batch, replies: &mut Replies| {
            let _pass = gate.lock().unwrap();
            for datagram in batch {
                assert!(replies.send(&datagram, datagram.payload()));
            }
        }
    }));
    let engine = engine.unwrap();
    let load = start_load(engine.addresses()[0], "--rate 1k --count 3000 --rtt --json");
    until("the load to be under way", || engine.stats().ledger.handled >= 300);
    let closed = (!hold_sender).then(|| gate.lock().unwrap());
    if hold_sender {
        load.freeze();
    }
    let begun = Instant::now();
    until("datagrams to fall due", || begun.elapsed() > Duration::from_millis(500));
    let stall_ns = u64::try_from(begun.elapsed().as_nanos()).unwrap();
    drop(closed);
    if hold_sender {
        load.signal(Signal::SIGCONT);
    }
    let report = load.end().report();
    balance(&stop(engine), report.sent());
    assert_eq!((report.sent(), report.get("unsent")), (3000, 0));
    assert_eq!(report.get("received"), 3000);
    let lateness_ns = report.get("lateness_ns max");
    Stalled { report, stall_ns, least_ns: stall_ns - 1_000_000 - stall_ns / 500, lateness_ns }
}

/// A delay of the sender itself shows only in times measured from when a datagram was due (coordinated
/// omission).
#[test]
fn a_sender_that_stood_still_is_seen_from_the_intended_time() {
    let stalled = stalled(true);
    let Stalled { report, least_ns, .. } = &stalled;
    assert!(report.get("rtt_ns from_intended max") >= *least_ns, "{stalled:?}");
    assert!(report.get("lateness_ns max") >= *least_ns, "{stalled:?}");
    let p99 = |from| report.get(&format!("rtt_ns {from} p99"));
    assert!(p99("from_intended") > p99("from_actual"), "{stalled:?}");
}

/// A server that stood still delays what was sent meanwhile: from either time. A sender that waited for
/// answers would have sent one.
#[test]
fn a_server_that_stood_still_is_seen_from_both_times() {
    let stalled = stalled(false);
    // From when they left they waited less, by as much as the sender was late.
    for (from, late_ns) in [("from_intended", 0), ("from_actual", stalled.lateness_ns)] {
        let at = |percentile| stalled.report.get(&format!("rtt_ns {from} {percentile}"));
        let least_ns = |waited_ns: u64| waited_ns.saturating_sub(late_ns);
        assert!(at("max") >= least_ns(stalled.least_ns), "{stalled:?}");
        assert!(
            at("p99") >= least_ns(stalled.stall_ns / 2),
            "250 waited for half of it: {stalled:?}"
        );
    }
}

#[test]
fn what_cannot_be_is_refused_with_its_reason() {
    let target = loopback(9);
    for (args, said) in [
        ("--rate 0", "a rate of 0 sends nothing"),
        ("--size 65508", "at most 65507 bytes"),
        ("--size 9-3", "3-9"),
        ("--gso 65", "2 to 64"),
        ("--gso 64 --size 1400", "46 datagrams of this size"),
        ("--gso 2 --size imix", "all of one size"),
        ("--flows 0", "--flows 0"),
        ("--threads 2 --flows 1", "raise --flows"),
        ("--count 0", "at least 1"),
        ("--duration 0s", "longer than nothing"),
        ("--json --csv", "cannot be used with"),
        ("--speed 2", "--pcap"),
        ("--bind nowhere", "invalid"),
    ] {
        load(target, args).failed(2, &[said]);
    }
    load(target, "--payload /nonexistent")
        .failed(1, &["/nonexistent", "No such file", "--payload"]);
    load(target, "--bind 192.0.2.77").failed(1, &["--bind takes an address of this host"]);
    let empty = TempFile::new(b"");
    load(target, &format!("--payload {}", empty.path())).failed(2, &["is empty"]);
}

/// At once where the first datagram says so, and at a rate so low that no second one would in time.
#[test]
fn a_closed_port_is_an_error() {
    let closed = UdpSocket::bind(loopback(0)).unwrap().local_addr().unwrap();
    for args in [
        "--count 1",
        "--rate 1 --count 1000000",
        "--rate max --duration 1h",
        "--rate 100 --flows 8 --threads 4 --duration 1h",
        "--rate 100 --rtt --duration 1h",
    ] {
        let ended = load(closed, args);
        ended.failed(1, &[&format!("{closed} refuses"), "start the receiver first"]);
        assert_eq!(ended.stdout, "");
    }
}

#[test]
fn a_signal_ends_it_and_the_accounts_balance() {
    for (signal, args) in [
        (Signal::SIGINT, "--rate 5k --gso 8 --burst 100 --flows 3 --threads 2"),
        (Signal::SIGTERM, "--rate max --gso 32"),
        // More than any host can: what is due and not sent by then is unsent.
        (Signal::SIGINT, "--rate 1000000000"),
    ] {
        let rig = rig();
        let load = start_load(rig.target(), &format!("{args} --duration 1h --json"));
        rig.await_handled(100);
        load.signal(signal);
        let ended = load.end();
        assert!(ended.stderr.contains(&format!("stopped by {}", signal.as_str())), "{ended:?}");
        let report = ended.report();
        assert!(report.get("unsent") > 0 || !args.contains("1000000000"), "{report:?}");
        let warned = ended.stderr.contains("could not keep the schedule");
        assert_eq!(warned, report.get("unsent") > 0, "{ended:?}");
        rig.await_stats("all to arrive", |stats| stats.ledger.arrived == Some(report.sent()));
        let (summary, records) = rig.stop();
        balance(&summary, report.sent());
        assert!(!records.is_empty());
    }
}

/// Every byte of every datagram, at the other end, in the order it was sent.
#[test]
fn random_payloads_arrive_whole_and_in_order() {
    for Ground { ip, backend } in grounds() {
        for args in ["--size 900 --gso 16", "--size 33-1400", "--size imix --flows 5 --threads 2"] {
            let rig =
                Rig::start(small(backend).listen(SocketAddr::new(ip, 0)).rcvbuf_bytes(16 << 20));
            let args = format!("--payload random --rate 50k --count 3000 --json {args}");
            let report = load(rig.target(), &args).report();
            assert_eq!(report.sent(), 3000);
            rig.await_stats("all to arrive", |stats| stats.ledger.arrived == Some(3000));
            let (summary, records) = rig.stop();
            balance(&summary, 3000);
            intact_and_distinct(&records, 3000);
            let mut last: HashMap<u16, u64> = HashMap::new();
            for record in &records {
                let (flow, number) = record.number.unwrap();
                // The smallest of the mix has no room for its flow's name, but a port of its own.
                let flow = if record.len < 16 { record.peer.port() } else { flow };
                assert!(last.insert(flow, number).is_none_or(|before| before < number));
            }
            if args.contains("33-1400") {
                assert!(records.iter().all(|record| (33..=1400).contains(&record.len)));
            }
        }
    }
}

#[test]
fn a_file_is_sent_in_each_datagram_behind_the_stamp() {
    let bytes: Vec<u8> = (0..=255).collect();
    let file = TempFile::new(&bytes);
    let receiver = client(loopback(9));
    let args = format!("--payload {} --size 300 --count 20 --gso 4 --json", file.path());
    assert_eq!(load(receiver.local_addr().unwrap(), &args).report().sent(), 20);
    let mut buffer = [0; 2048];
    for _ in 0..20 {
        assert_eq!(receiver.recv(&mut buffer).unwrap(), 300);
        let wanted: Vec<u8> = bytes.iter().cycle().take(300).copied().collect();
        assert_eq!(buffer[32..300], wanted[32..]);
    }
}

#[test]
fn a_flow_is_a_source_port() {
    let rig = rig();
    let args = "--flows 1024 --threads 2 --count 4096 --rate 50k --json";
    assert_eq!(load(rig.target(), args).report().sent(), 4096);
    rig.await_handled(4096);
    let (summary, records) = rig.stop();
    all_handled(&summary, 4096);
    let mut ports: HashMap<u16, HashSet<u16>> = HashMap::new();
    for record in &records {
        ports.entry(record.number.unwrap().0).or_default().insert(record.peer.port());
    }
    assert_eq!(ports.len(), 1024);
    assert!(ports.values().all(|ports| ports.len() == 1));
    assert_eq!(records.iter().map(|r| r.peer).collect::<HashSet<_>>().len(), 1024);
}
