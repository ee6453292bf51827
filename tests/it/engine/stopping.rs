//! A stop is a drain: nothing that reached a socket is lost from the accounts, whenever it comes;
//! and nothing of an engine is left behind.

use std::collections::BTreeSet;
use std::fs;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::Duration;

use ringest::{ArrivalsChoice, BackendChoice, Batch, Overload, Replies};
use ringest_load::spec::Rate;

use crate::rigs::child::Child;
use crate::rigs::support::{
    BACKENDS, DEADLINE, Ground, Load, Rig, SMALL_BATCH_BYTES, all_handled, balance, boxed,
    consistent, grounds, gso, intact_and_distinct, load_spec, send_load, small, stop, until,
};
use crate::sockets::lab::Program;

fn loopback() -> SocketAddr {
    SocketAddr::from((Ipv4Addr::LOCALHOST, 0))
}

#[test]
fn a_stop_under_full_load_balances_twenty_times() {
    for ground in grounds() {
        for round in 0..10 {
            let builder = ground.builder().receivers(1 + round % 2).workers(round % 3);
            let rig = Rig::start(builder);
            let mut spec = load_spec(rig.target());
            spec.gso = gso(if round % 4 < 2 { 1 } else { 32 });
            spec.flows = 4;
            let load = Load::start(&spec);
            rig.await_handled(1000);
            let (summary, records) = rig.stop();
            let sent = load.finish();
            consistent(&summary);
            let ledger = &summary.ledger;
            assert_eq!((ledger.queued, ledger.unread_at_stop), (0, 0), "{summary:#?}");
            assert!(ledger.arrived.is_none_or(|arrived| arrived <= sent), "{sent}: {summary:#?}");
            intact_and_distinct(&records, sent);
        }
    }
}

/// The receiver is held by its own handler while its socket fills; then the stop comes.
#[test]
fn a_stop_reads_every_socket_to_its_end() {
    for ground in grounds() {
        for arrivals in [ArrivalsChoice::Auto, ArrivalsChoice::Off] {
            let builder = ground.builder().workers(0).arrivals(arrivals);
            let rig = Rig::start_held(builder);
            let mut spec = load_spec(rig.target());
            spec.count = Some(1);
            let first = send_load(&spec);
            rig.await_held(1);
            spec.count = Some(3000);
            let sent = send_load(&spec);
            rig.engine.request_stop();
            let (summary, records) = rig.stop();
            all_handled(&summary, first + sent);
            intact_and_distinct(&records[1..], sent);
        }
    }
}

#[test]
fn what_a_bounded_drain_leaves_is_counted_as_unread() {
    for ground in grounds() {
        for train in [1, 32] {
            let builder = ground
                .builder()
                .slots(4)
                .batch_bytes(SMALL_BATCH_BYTES)
                .pool_bytes(2 * SMALL_BATCH_BYTES)
                .queue_batches(1)
                .drain(Duration::ZERO);
            let rig = Rig::start_held(builder);
            let mut spec = load_spec(rig.target());
            (spec.gso, spec.count) = (gso(train), Some(1000 * train as u64));
            let sent = send_load(&spec);
            rig.await_held(1);
            rig.engine.request_stop();
            rig.await_stats("the sockets to be read to their end", |stats| {
                stats.ledger.received + stats.ledger.unread_at_stop == sent
                    || stats.ledger.dropped.kernel > 0
            });
            let (summary, records) = rig.stop();
            balance(&summary, sent);
            assert!(summary.ledger.unread_at_stop > 0, "{summary:#?}");
            intact_and_distinct(&records, sent);
        }
    }
}

#[test]
fn an_abort_reports_what_was_on_the_way_as_queued() {
    for ground in grounds() {
        let builder =
            ground.builder().batch_bytes(SMALL_BATCH_BYTES).pool_bytes(8 * SMALL_BATCH_BYTES);
        let rig = Rig::start_held(builder);
        let mut spec = load_spec(rig.target());
        spec.count = Some(3000);
        let sent = send_load(&spec);
        rig.await_held(1);
        rig.engine.abort();
        let (summary, records) = rig.stop();
        consistent(&summary);
        let ledger = &summary.ledger;
        assert_eq!(
            ledger.received + ledger.dropped.kernel + ledger.unread_at_stop,
            sent,
            "{summary:#?}"
        );
        intact_and_distinct(&records, sent);
    }
}

/// The stop gives up on the handler's thread after a second of its own patience.
#[test]
fn an_abort_leaves_a_handler_that_never_returns_and_reports_what_it_held() {
    for backend in BACKENDS {
        let builder = small(backend).listen(loopback()).queue_batches(1);
        let rig = Rig::start_held(builder);
        let mut spec = load_spec(rig.target());
        spec.count = Some(100);
        let sent = send_load(&spec);
        rig.await_held(1);
        rig.await_stats("all to be taken", |stats| stats.ledger.received == sent);
        rig.engine.abort();
        let summary = rig.stop_held();
        consistent(&summary);
        assert_eq!((summary.ledger.received, summary.ledger.queued), (sent, sent), "{summary:#?}");
    }
}

#[test]
fn two_engines_in_one_process_do_not_mix() {
    for (one, other) in [
        (BackendChoice::IoUring, BackendChoice::IoUring),
        (BackendChoice::IoUring, BackendChoice::Recvmmsg),
        (BackendChoice::Recvmmsg, BackendChoice::Recvmmsg),
    ] {
        let rigs = [one, other].map(|backend| Rig::start(small(backend).listen(loopback())));
        let loads = rigs.each_ref().map(|rig| {
            let mut spec = load_spec(rig.target());
            (spec.count, spec.rate) = (Some(2000), Rate::Pps(50_000.0));
            Load::start(&spec)
        });
        rigs.iter().for_each(|rig| rig.await_handled(2000));
        let sent = loads.map(Load::finish);
        for (rig, sent) in rigs.into_iter().zip(sent) {
            let (summary, records) = rig.stop();
            all_handled(&summary, sent);
            intact_and_distinct(&records, sent);
        }
    }
}

#[test]
fn a_port_is_free_as_soon_as_its_engine_has_stopped() {
    for ground in grounds() {
        let mut rig = Rig::start(ground.builder());
        let target = rig.target();
        for _ in 0..20 {
            let mut spec = load_spec(target);
            spec.count = Some(10);
            let sent = send_load(&spec);
            let (summary, _) = rig.stop();
            all_handled(&summary, sent);
            rig = Rig::start(small(ground.backend).listen(target));
        }
        all_handled(&rig.stop().0, 0);
    }
}

/// The kernel keeps a ring's registered sockets for a moment after its process was killed.
#[test]
fn a_port_is_free_as_soon_as_its_process_was_killed() {
    // An address where nobody else is given a port.
    let mut program = Program::ringest(None, "listen 127.77.0.1:0");
    let address = program.listening()[0];
    for _ in 0..20 {
        // Killed, and waited for.
        drop(program);
        program = Program::ringest(None, &format!("listen {address}"));
        assert_eq!(program.listening(), [address]);
    }
    let refused = Program::ringest(None, &format!("listen {address}")).end();
    assert!(refused.stderr.contains("the port is taken by another socket"), "{refused:?}");
}

/// Returns descriptors, threads and mappings of this process.
fn belongings() -> (BTreeSet<String>, usize, usize) {
    let fds = fs::read_dir("/proc/self/fd").unwrap().filter_map(|entry| {
        // The directory being read is a descriptor too, gone by the time its link is.
        let path = entry.unwrap().path();
        let link = fs::read_link(&path).ok()?;
        let name = format!("{} {}", path.display(), link.display());
        (!link.starts_with("/proc")).then_some(name)
    });
    let fds = fds.collect();
    let threads = fs::read_dir("/proc/self/task").unwrap().count();
    let mappings = fs::read_to_string("/proc/self/maps").unwrap().lines().count();
    (fds, threads, mappings)
}

#[test]
fn two_hundred_starts_and_stops_leave_no_descriptor_thread_or_mapping() {
    Child::new("engine::stopping::child_starts_and_stops").pass();
}

#[test]
#[ignore = "runs in a child process"]
fn child_starts_and_stops() {
    for backend in BACKENDS {
        for workers in [0, 1] {
            let cycle = || {
                let rig = Rig::start(small(backend).listen(loopback()).workers(workers).slots(8));
                let mut spec = load_spec(rig.target());
                spec.count = Some(8);
                let sent = send_load(&spec);
                all_handled(&rig.stop().0, sent);
            };
            // The allocator's arenas and the cache of thread stacks find their size.
            (0..20).for_each(|_| cycle());
            let (fds, threads, mappings) = belongings();
            (0..200).for_each(|_| cycle());
            // A joined thread leaves /proc a moment later.
            until("the threads to leave", || belongings().1 <= threads);
            let (fds_now, _, mappings_now) = belongings();
            assert_eq!(fds_now, fds);
            // One leaked a cycle would make 200; an arena may still split or grow.
            assert!(mappings_now <= mappings + 20, "{mappings} mappings became {mappings_now}");
        }
    }
}

#[test]
fn an_engine_that_is_dropped_while_it_works_ends() {
    for ground in grounds() {
        let rig = Rig::start(ground.builder());
        let target = rig.target();
        let load = Load::start(&load_spec(target));
        rig.await_handled(1000);
        drop(rig);
        load.finish();
        until("the port to be free", || std::net::UdpSocket::bind(target).is_ok());
    }
}

/// The second stop of a program: at once, whatever is on the way.
#[test]
fn a_stop_may_be_followed_by_an_abort() {
    for ground in grounds() {
        let builder = ground
            .builder()
            .batch_bytes(SMALL_BATCH_BYTES)
            .pool_bytes(2 * SMALL_BATCH_BYTES)
            .arrivals(ArrivalsChoice::Off)
            .overload(Overload::Wait)
            .gro(false);
        let rig = Rig::start_held(builder);
        let mut spec = load_spec(rig.target());
        spec.count = Some(2000);
        let sent = send_load(&spec);
        rig.await_held(1);
        rig.engine.request_stop();
        assert!(!rig.engine.wait(Duration::ZERO), "the handler is held");
        rig.engine.abort();
        let (summary, records) = rig.stop();
        consistent(&summary);
        let ledger = &summary.ledger;
        assert_eq!(ledger.received + ledger.dropped.kernel + ledger.unread_at_stop, sent);
        intact_and_distinct(&records, sent);
    }
}

#[test]
fn a_quiet_engine_stops_with_an_empty_ledger() {
    for Ground { backend, .. } in grounds() {
        for workers in [0, 1, 3] {
            let nothing = |_: &Batch, _: &mut Replies| {};
            let builder = small(backend).listen(loopback()).workers(workers).receivers(2);
            let engine = builder.start(boxed(|_| nothing)).unwrap();
            assert!(!engine.wait(Duration::ZERO));
            let summary = stop(engine);
            all_handled(&summary, 0);
            assert!(summary.elapsed < DEADLINE);
        }
    }
}
