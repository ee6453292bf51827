//! Too few slots, completions, batches or bytes of receive buffer: what is lost is counted to the
//! datagram, under its cause, and nothing else is lost.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringest::{ArrivalsChoice, BackendChoice, Overload, Summary, Unit};

use crate::rigs::child::Child;
use crate::rigs::support::{
    BACKENDS, Ground, ROOMY_RCVBUF_BYTES, Record, Rig, SMALL_BATCH_BYTES, SMALL_BATCH_FRAMES,
    all_handled, balance, boxed, consistent, grounds, gso, intact_and_distinct, load_spec,
    send_load, small,
};

/// Socket room for two or three small datagrams, or as many trains.
const TINY_RCVBUF_BYTES: usize = 4096;

#[test]
fn a_burst_of_ten_thousand_goes_through_four_slots() {
    for ground in grounds() {
        let builder = ground
            .builder()
            .slots(4)
            .batch_bytes(SMALL_BATCH_BYTES)
            .pool_bytes(2 * SMALL_BATCH_BYTES)
            .rcvbuf_bytes(ROOMY_RCVBUF_BYTES);
        let rig = Rig::start_held(builder);
        let mut spec = load_spec(rig.target());
        spec.count = Some(10_000);
        let sent = send_load(&spec);
        rig.await_held(1);
        rig.open();
        let (summary, records) = rig.stop();
        balance(&summary, sent);
        assert_eq!(summary.ledger.handled, summary.ledger.received);
        assert!(summary.ledger.handled > 2 * SMALL_BATCH_FRAMES, "{summary:#?}");
        intact_and_distinct(&records, sent);
        assert_eq!(summary.ring_exhausted > 0, ground.is_io_uring(), "{summary:#?}");
    }
}

/// Blocks the receiver itself with an inline handler, so that more datagrams wait in its socket
/// than the completion queue can take.
fn overflow(ground: Ground, cq_entries: u32) -> Summary {
    let builder = ground
        .builder()
        .workers(0)
        .slots(256)
        .cq_entries(cq_entries)
        .rcvbuf_bytes(ROOMY_RCVBUF_BYTES);
    let rig = Rig::start_held(builder);
    let mut spec = load_spec(rig.target());
    spec.count = Some(1);
    let mut sent = send_load(&spec);
    rig.await_held(1);
    spec.count = Some(5000);
    sent += send_load(&spec);
    rig.open();
    rig.await_handled(sent);
    let (summary, records) = rig.stop();
    all_handled(&summary, sent);
    intact_and_distinct(&records[1..], sent);
    summary
}

#[test]
fn an_overflown_completion_queue_is_counted_and_nothing_is_lost() {
    for ground in grounds().filter(|ground| ground.is_io_uring()) {
        // 1 is the smallest queue there is; 33 datagrams come of one multishot at a time.
        for cq_entries in [1, 2, 4, 8, 32] {
            let summary = overflow(ground, cq_entries);
            assert!(summary.cq_overflow > 0, "{cq_entries} entries: {summary:#?}");
        }
        let summary = overflow(ground, 0);
        assert_eq!(summary.cq_overflow, 0, "the default cannot overflow: {summary:#?}");
    }
}

/// Starts an engine with a queue of one batch, a pool of `batches`, and a worker that is stopped at its
/// first.
fn stopped_worker(ground: Ground, batches: usize, overload: Overload) -> Rig {
    Rig::start_held(
        ground
            .builder()
            .batch_bytes(SMALL_BATCH_BYTES)
            .pool_bytes(batches * SMALL_BATCH_BYTES)
            .queue_batches(1)
            .rcvbuf_bytes(ROOMY_RCVBUF_BYTES)
            .overload(overload),
    )
}

#[test]
fn a_stopped_worker_under_wait_loses_nothing_once_it_goes_on() {
    for ground in grounds() {
        for batches in [2, 3, 8] {
            let rig = stopped_worker(ground, batches, Overload::Wait);
            let mut spec = load_spec(rig.target());
            (spec.count, spec.flows) = (Some(5000), 4);
            let sent = send_load(&spec);
            rig.await_held(1);
            let held = rig.engine.stats().ledger;
            assert!(held.received <= batches as u64 * SMALL_BATCH_FRAMES, "{held:?}");
            assert_eq!((held.handled, held.residual), (0, 0));
            rig.open();
            rig.await_handled(sent);
            let (summary, records) = rig.stop();
            all_handled(&summary, sent);
            intact_and_distinct(&records, sent);
        }
    }
}

#[test]
fn a_stopped_worker_under_wait_makes_the_kernel_drop() {
    for ground in grounds() {
        let rig = Rig::start_held(
            ground
                .builder()
                .slots(4)
                .batch_bytes(SMALL_BATCH_BYTES)
                .pool_bytes(2 * SMALL_BATCH_BYTES)
                .queue_batches(1)
                .rcvbuf_bytes(256 << 10),
        );
        let mut spec = load_spec(rig.target());
        spec.count = Some(5000);
        let sent = send_load(&spec);
        rig.await_held(1);
        let (summary, records) = rig.stop();
        balance(&summary, sent);
        assert!(summary.ledger.dropped.kernel > 0, "{summary:#?}");
        assert_eq!(summary.ledger.dropped.after_receive(), 0, "{summary:#?}");
        intact_and_distinct(&records, sent);
    }
}

/// Sends to a stopped worker under `Overload::Drop` until every datagram is taken.
fn dropped(ground: Ground, batches: usize) -> Summary {
    let rig = stopped_worker(ground, batches, Overload::Drop);
    let mut spec = load_spec(rig.target());
    (spec.count, spec.flows) = (Some(1), 1);
    let first = send_load(&spec);
    rig.await_held(1);
    (spec.count, spec.flows) = (Some(5000), 4);
    let sent = send_load(&spec);
    rig.await_stats("all to be taken", |stats| stats.ledger.received == first + sent);
    rig.open();
    let (summary, records) = rig.stop();
    balance(&summary, first + sent);
    assert_eq!(summary.ledger.dropped.kernel, 0, "{summary:#?}");
    intact_and_distinct(&records[1..], sent);
    summary
}

#[test]
fn a_stopped_worker_under_drop_fills_its_queue_and_the_rest_is_counted() {
    for ground in grounds() {
        // One batch at the worker, one in the queue, one open: it is dropped when it is full.
        let drops = dropped(ground, 3).ledger.dropped;
        assert!(drops.queue_full > 0 && drops.pool_empty == 0, "{drops:?}");
        assert_eq!(drops.queue_full % SMALL_BATCH_FRAMES, 0, "whole batches: {drops:?}");
    }
}

#[test]
fn a_stopped_worker_under_drop_empties_the_pool_and_the_rest_is_counted() {
    for ground in grounds() {
        // One batch at the worker, one in the queue, none left to open.
        let drops = dropped(ground, 2).ledger.dropped;
        assert!(drops.pool_empty > 0 && drops.queue_full == 0, "{drops:?}");
    }
}

/// Overruns the receive buffer: a stopped worker, a tiny buffer, 150 sends of `train` datagrams.
fn overrun(ground: Ground, arrivals: ArrivalsChoice, gro: bool, train: usize) -> (Summary, u64) {
    let rig = Rig::start_held(
        ground
            .builder()
            .slots(2)
            .batch_bytes(SMALL_BATCH_BYTES)
            .pool_bytes(2 * SMALL_BATCH_BYTES)
            .queue_batches(1)
            .rcvbuf_bytes(TINY_RCVBUF_BYTES)
            .arrivals(arrivals)
            .gro(gro),
    );
    let mut spec = load_spec(rig.target());
    (spec.gso, spec.count) = (gso(train), Some(1000 * train as u64));
    let sent = send_load(&spec);
    let (summary, records): (_, Vec<Record>) = rig.stop();
    consistent(&summary);
    intact_and_distinct(&records, sent);
    assert!(summary.ledger.dropped.kernel > 0, "{summary:#?}");
    assert!(summary.ledger.handled > 0, "{summary:#?}");
    (summary, sent)
}

/// Tells whether arrivals can be counted here.
fn arrivals_counted() -> bool {
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let builder = small(BackendChoice::Recvmmsg).listen(address).arrivals(ArrivalsChoice::Bpf);
    let started = builder.start(boxed(|_| |_: &ringest::Batch, _: &mut ringest::Replies| {}));
    if let Err(error) = &started {
        println!("skipped: {error}");
    }
    started.is_ok()
}

#[test]
fn kernel_drops_without_gro_are_found_to_the_datagram() {
    for ground in grounds() {
        for train in [1, 32] {
            let (summary, sent) = overrun(ground, ArrivalsChoice::Off, false, train);
            assert_eq!(summary.ledger.kernel_unit, Unit::Datagrams);
            balance(&summary, sent);
        }
    }
}

#[test]
fn kernel_drops_of_trains_are_found_to_the_datagram_where_arrivals_are_counted() {
    if !arrivals_counted() {
        return;
    }
    for ground in grounds() {
        for (gro, train) in [(true, 32), (true, 1), (false, 32), (true, 7)] {
            let (summary, sent) = overrun(ground, ArrivalsChoice::Bpf, gro, train);
            assert_eq!(summary.ledger.arrived, Some(sent), "{summary:#?}");
            assert_eq!(summary.ledger.kernel_unit, Unit::Datagrams);
            balance(&summary, sent);
        }
    }
}

/// Checks that without arrivals a dropped train counts 1, and that the ledger says that it is a buffer.
fn found_to_the_train(arrivals: ArrivalsChoice) {
    for ground in grounds() {
        let (summary, sent) = overrun(ground, arrivals, true, 32);
        let ledger = &summary.ledger;
        assert_eq!((ledger.kernel_unit, ledger.arrived), (Unit::Buffers, None), "{summary:#?}");
        assert!(summary.arrivals_reason.starts_with("not counted: "), "{summary:#?}");
        assert_eq!(
            ledger.received + 32 * ledger.dropped.kernel + ledger.unread_at_stop,
            sent,
            "{summary:#?}"
        );
    }
}

#[test]
fn kernel_drops_of_trains_are_found_to_the_train_where_arrivals_are_not_counted() {
    found_to_the_train(ArrivalsChoice::Off);
}

#[test]
fn kernel_drops_of_trains_are_found_to_the_train_without_the_capability() {
    let capabilities = "-bpf,-sys_admin,-net_admin,-perfmon";
    let child = Child::new("engine::scarcity::child_without_the_capability").without(capabilities);
    if let Some(child) = child {
        child.pass();
    }
}

#[test]
#[ignore = "runs in a child process"]
fn child_without_the_capability() {
    found_to_the_train(ArrivalsChoice::Auto);
    for backend in BACKENDS {
        let address = SocketAddr::from((IpAddr::from(Ipv4Addr::LOCALHOST), 0));
        let builder = small(backend).listen(address).arrivals(ArrivalsChoice::Bpf);
        let error = builder.start(boxed(|_| |_: &ringest::Batch, _: &mut ringest::Replies| {}));
        let text = error.unwrap_err().to_string();
        assert!(text.contains("CAP_BPF") && text.contains("--arrivals auto"), "{text}");
    }
}
