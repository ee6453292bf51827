//! Losses made on purpose are found where they were made, to the datagram. On loopback; the lab has those
//! that need a network.

use std::net::UdpSocket;
use std::sync::atomic::{AtomicBool, Ordering};

use ringest_load::spec::{LoadSpec, Rate};

use crate::bench::rig::{
    Host, Server, all_balance, alone, count, lost, lost_only, report, sum, trials,
};

/// Two trials at known rates. No warm-up: it would be lost as well, and not be counted.
const TWO_TRIALS: &str = "--points 2 --rounds 1 --flows 1 --duration 200ms --warm-up 0";
const BACKENDS: [&str; 2] = ["io_uring", "recvmmsg"];

/// Servers on both families.
fn servers() -> impl Iterator<Item = Server> {
    let v6 = UdpSocket::bind("[::1]:0").is_ok();
    if !v6 {
        println!("skipped for IPv6: this host has no ::1");
    }
    ["127.0.0.1:0", "[::1]:0"]
        .into_iter()
        .filter(move |address| v6 || !address.starts_with('['))
        .map(|address| Server::start(&Host::Here, address))
}

#[test]
fn a_tiny_receive_buffer_loses_at_the_socket() {
    let _alone = alone();
    for server in servers() {
        for backend in BACKENDS {
            // One by one 32 at once are too many; whole trains are too many when they come flat out.
            for load in ["--gro off --max-rate 50k", "--gro on --max-rate 4M"] {
                let found = report(
                    &Host::Here,
                    &format!(
                        "curve {} {TWO_TRIALS} --gso 32 --rcvbuf 4096 --backend {backend} {load}",
                        server.address
                    ),
                );
                all_balance(&found);
                lost_only(&found, "socket");
                assert!(lost(&found, "socket") > 0, "{found}");
                for trial in trials(&found) {
                    let missing = count(trial, "sent") - count(trial, "handled");
                    assert_eq!(count(&trial["lost"], "socket"), missing, "{trial}");
                }
            }
        }
    }
}

#[test]
fn a_stopped_worker_loses_at_the_queue_under_drop() {
    let _alone = alone();
    for server in servers() {
        for backend in BACKENDS {
            for load in ["--gro off --max-rate 300k", "--gro on --max-rate 1M"] {
                let found = report(
                    &Host::Here,
                    &format!(
                        "curve {} {TWO_TRIALS} --gso 32 --rcvbuf 64M --backend {backend} {load} \
                         --stall --overload drop --workers 1",
                        server.address
                    ),
                );
                all_balance(&found);
                lost_only(&found, "queue");
                assert!(lost(&found, "queue") > 0, "{found}");
                assert_eq!(sum(&found, "received"), sum(&found, "sent"), "the socket lost nothing");
            }
        }
    }
}

#[test]
fn a_stopped_worker_loses_at_the_socket_under_wait() {
    let _alone = alone();
    for backend in BACKENDS {
        let found = report(
            &Host::Here,
            &format!(
                "curve {TWO_TRIALS} --gso 32 --gro off --max-rate 300k --rcvbuf 256k --backend {backend} \
                 --stall --overload wait --workers 1"
            ),
        );
        all_balance(&found);
        lost_only(&found, "socket");
        assert!(lost(&found, "socket") > 0, "{found}");
    }
}

#[test]
fn an_exhausted_ring_loses_nothing() {
    let _alone = alone();
    for server in servers() {
        for gro in ["off", "on"] {
            let found = report(
                &Host::Here,
                &format!(
                    "curve {} {TWO_TRIALS} --gso 16 --gro {gro} --max-rate 4k --slots 4 \
                     --backend io_uring",
                    server.address
                ),
            );
            all_balance(&found);
            lost_only(&found, "nowhere");
            assert_eq!(sum(&found, "handled"), sum(&found, "sent"), "{found}");
        }
    }
}

/// The smallest stamps say little of themselves, and still everything is accounted for.
#[test]
fn datagrams_of_any_size_balance() {
    let _alone = alone();
    let server = Server::start(&Host::Here, "127.0.0.1:0");
    for size in ["0", "1", "8", "15", "16", "24", "31", "imix", "1-100", "65507"] {
        let found = report(
            &Host::Here,
            &format!(
                "curve {} --points 2 --rounds 1 --flows 3 --duration 100ms --max-rate 2k --size {size}",
                server.address
            ),
        );
        all_balance(&found);
        lost_only(&found, "nowhere");
        assert_eq!(sum(&found, "handled"), sum(&found, "sent"), "{found}");
    }
}

/// Sends what is not of the run to the receivers' port until told to stop: noise, too short to say
/// anything, another run's.
fn disturb(server: &Server, over: &AtomicBool) {
    let target = server.address;
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let mut spec = LoadSpec { count: Some(10), rate: Rate::Pps(1e4), ..LoadSpec::new(target) };
    while !over.load(Ordering::Relaxed) {
        // Refused while no receiver listens.
        let _ = socket.send_to(&[0xa5; 64], target);
        let _ = socket.send_to(b"short", target);
        let _ = socket.send_to(b"", target);
        spec.run = ringest_load::spec::run_id();
        ringest_load::generator::run(&spec).unwrap();
    }
}

#[test]
fn strangers_on_the_port_are_never_counted_as_ours() {
    let _alone = alone();
    let server = Server::start(&Host::Here, "127.0.0.1:0");
    for gro in ["off", "on"] {
        let over = AtomicBool::new(false);
        let found = std::thread::scope(|scope| {
            scope.spawn(|| disturb(&server, &over));
            let args = format!(
                "curve {} {TWO_TRIALS} --gso 8 --gro {gro} --max-rate 5k --size 64",
                server.address
            );
            let found = std::panic::catch_unwind(|| report(&Host::Here, &args));
            over.store(true, Ordering::Relaxed);
            found.unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        });
        all_balance(&found);
        for trial in trials(&found) {
            assert!(foreign(trial) > 0, "{trial}");
            assert_eq!(count(trial, "handled") - foreign(trial), count(trial, "sent"), "{trial}");
        }
    }
}

fn foreign(trial: &serde_json::Value) -> u64 {
    count(trial, "foreign")
}
