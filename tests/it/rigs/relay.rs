//! A receiving half behind a relay that drops, doubles and reorders by a known script: its counts must show
//! that script, to the datagram.

use std::collections::HashMap;
use std::net::{SocketAddr, UdpSocket};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

use ringest::{Dispatch, Engine};
use ringest_base::sys::clock;
use ringest_load::account::RunAccount;
use ringest_load::receive::receiver::{ReceivingHalf, ReceivingSpec};
use ringest_load::receive::tracker::TrackerSpec;
use ringest_load::stamp::{Seen, Stamp};

use crate::rigs::support::{SMALL_BATCH_BYTES, balance, client, grounds, stop_with_remains, until};

const RUN: u32 = 0x0f0e_0d0c;

/// Datagrams of each flow. The script repeats every hundred.
const COUNT: u64 = 1000;

/// Flow 3 is lost whole.
const FLOWS: u16 = 4;

/// At the end of each flow, all of these are lost.
const TAIL: u64 = 7;

/// So few at a time that no socket buffer overflows: what is lost is lost by the script.
const CHUNK: u64 = 100;

/// When a datagram goes out: at once, or behind the one with this index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum When {
    Now,
    Behind(u64),
}

/// Returns when the relay passes on datagram `index` of a flow: once, twice, later, or never.
fn script(flow: u16, index: u64) -> Vec<When> {
    if flow == FLOWS - 1 || index >= COUNT - TAIL {
        return vec![];
    }
    match index % 100 {
        10 => vec![],
        20 => vec![When::Now, When::Now],
        30 => vec![When::Behind(index + 5)],
        40 => vec![When::Behind(index + 3)],
        41 => vec![When::Behind(index + 2)],
        50 => vec![When::Now, When::Behind(index + 10)],
        _ => vec![When::Now],
    }
}

/// The script's own account of a flow it does not lose whole.
mod script_says {
    use super::{COUNT, TAIL};

    const BLOCKS: u64 = COUNT / 100;
    pub(super) const LOST: u64 = BLOCKS + TAIL;
    pub(super) const DUPLICATES: u64 = 2 * BLOCKS;
    pub(super) const REORDERED: u64 = 3 * BLOCKS;
    pub(super) const FORWARDED: u64 = COUNT - LOST + DUPLICATES;
    /// Number 40 comes behind 42 and 43, 41 behind these and 40: extents 2 and 3.
    pub(super) const EXTENTS_2_3: u64 = 2 * BLOCKS;
    /// Number 30 comes behind 31 to 35.
    pub(super) const EXTENTS_4_7: u64 = BLOCKS;
    pub(super) const EXTENT_MAX: u32 = 5;
}

/// A thread that forwards what it gets as the script says, each flow from a socket of its own.
struct Relay {
    address: SocketAddr,
    /// Taken and forwarded so far.
    counts: Arc<[AtomicU64; 2]>,
    thread: JoinHandle<()>,
}

impl Relay {
    fn start(to: SocketAddr, first: u64) -> Self {
        let socket = client(to);
        let address = socket.local_addr().unwrap();
        let counts: Arc<[AtomicU64; 2]> = Arc::default();
        let theirs = Arc::clone(&counts);
        let thread = std::thread::Builder::new()
            .name("relay".to_owned())
            .spawn(move || relay(&socket, to, first, &theirs))
            .unwrap();
        Self { address, counts, thread }
    }

    fn taken(&self) -> u64 {
        self.counts[0].load(Ordering::Acquire)
    }

    fn forwarded(&self) -> u64 {
        self.counts[1].load(Ordering::Acquire)
    }

    fn stop(self, by: &UdpSocket) -> u64 {
        by.send_to(&[], self.address).unwrap();
        self.thread.join().unwrap();
        self.counts[1].load(Ordering::Acquire)
    }
}

fn relay(socket: &UdpSocket, to: SocketAddr, first: u64, counts: &[AtomicU64; 2]) {
    let out: Vec<UdpSocket> = (0..FLOWS).map(|_| client(to)).collect();
    let mut held: Vec<(u16, u64, Vec<u8>)> = Vec::new();
    let mut buffer = [0; 2048];
    loop {
        let len = socket.recv(&mut buffer).unwrap();
        if len == 0 {
            assert!(held.is_empty(), "the script lets all go");
            return;
        }
        let payload = &buffer[..len];
        let seen = Seen::read(payload);
        let (_, flow) = seen.origin.unwrap();
        let index = seen.sequence.unwrap().wrapping_sub(first);
        let forward = |payload: &[u8]| {
            assert_eq!(out[usize::from(flow)].send_to(payload, to).unwrap(), payload.len());
            counts[1].fetch_add(1, Ordering::Release);
        };
        for when in script(flow, index) {
            match when {
                When::Now => forward(payload),
                When::Behind(other) => held.push((flow, other, payload.to_vec())),
            }
        }
        held.retain(|(of, behind, payload)| {
            let due = (*of, *behind) == (flow, index);
            if due {
                forward(payload);
            }
            !due
        });
        counts[0].fetch_add(1, Ordering::Release);
    }
}

fn stamped(run: u32, flow: u16, sequence: u64, size: usize) -> Vec<u8> {
    let mut payload = vec![0; size];
    let now_ns = clock::monotonic_ns();
    Stamp { sequence, run, flow, intended_ns: now_ns - 1_000_000, sent_ns: now_ns }
        .write(&mut payload);
    payload
}

fn half(tracker: TrackerSpec) -> ReceivingHalf {
    ReceivingHalf::new(ReceivingSpec { tracker, shared_clock: true, peers: HashMap::new() })
}

fn await_received(half: &ReceivingHalf, count: u64) {
    until("the handlers to have all", || half.live().received >= count);
}

/// Sends every flow through a relay to an engine, `CHUNK` at a time.
fn through_relay(engine: &Engine, half: &ReceivingHalf, first: u64) -> u64 {
    let relay = Relay::start(engine.addresses()[0], first);
    let socket = client(relay.address);
    let mut sent = 0;
    for index in 0..COUNT {
        for flow in 0..FLOWS {
            let payload = stamped(RUN, flow, first.wrapping_add(index), 40);
            socket.send_to(&payload, relay.address).unwrap();
            sent += 1;
        }
        if index % (CHUNK / u64::from(FLOWS)) == 0 || index == COUNT - 1 {
            until("the relay to have all", || relay.taken() == sent);
            await_received(half, relay.forwarded());
        }
    }
    relay.stop(&socket)
}

fn as_scripted(account: &RunAccount) {
    let spoilt = u64::from(FLOWS - 1);
    let tally = account.tally;
    assert_eq!(tally.received, spoilt * script_says::FORWARDED, "{tally:?}");
    assert_eq!(tally.distinct, spoilt * (COUNT - script_says::LOST), "{tally:?}");
    assert_eq!(tally.duplicates, spoilt * script_says::DUPLICATES, "{tally:?}");
    assert_eq!(tally.reordered, spoilt * script_says::REORDERED, "{tally:?}");
    assert_eq!(tally.ours(), tally.received, "{tally:?}");
    assert_eq!(tally.late, 0, "{tally:?}");
    assert_eq!(account.extent_max(), script_says::EXTENT_MAX);
    let mut extents = [0; 13];
    extents[1] = spoilt * script_says::EXTENTS_2_3;
    extents[2] = spoilt * script_says::EXTENTS_4_7;
    assert_eq!(account.extents, extents);
    for flow in &account.flows[..usize::from(FLOWS - 1)] {
        assert_eq!(flow.distinct, COUNT - script_says::LOST);
        assert_eq!(flow.reached, COUNT - TAIL);
        assert!(flow.jitter_ns.is_some());
    }
    let settled = account.settle(&[COUNT; FLOWS as usize]);
    assert_eq!(settled.lost, spoilt * script_says::LOST + COUNT);
    assert_eq!((settled.lost_min, settled.flows_silent), (settled.lost, 1), "{settled:?}");
    assert!(settled.is_sound(), "{settled:?}");
    // Two that were never sent came, for all the sender knows.
    let short = account.settle(&[COUNT - TAIL - 2; FLOWS as usize]);
    assert_eq!((short.flows_beyond, short.is_sound()), (spoilt, false), "{short:?}");
}

#[test]
fn the_script_of_a_relay_is_found_again() {
    for ground in grounds() {
        // The numbers of the second stream wrap.
        for (workers, first) in [(1, 0), (2, u64::MAX - COUNT / 2), (0, u64::MAX)] {
            let tracker = TrackerSpec { first, ..TrackerSpec::new(RUN, usize::from(FLOWS)) };
            let half = half(tracker);
            let engine = ground.builder().workers(workers).start(|_| half.handler()).unwrap();
            let forwarded = through_relay(&engine, &half, first);
            let live = half.live();
            let (summary, books) = stop_with_remains(engine);
            balance(&summary, forwarded);
            let received = half.collect(books);
            assert_eq!((received.unreported, received.account.split_flows), (0, 0));
            assert_eq!(live, received.account.tally);
            assert_eq!(received.account.tally.received, summary.ledger.handled);
            as_scripted(&received.account);
            let delays = received.delays.unwrap();
            assert_eq!(delays.from_sent.len(), received.account.tally.distinct);
            assert_eq!(delays.from_intended.len(), delays.from_sent.len());
            // Due 1 ms before it was sent; a histogram keeps three digits.
            assert!(delays.from_intended.min() >= delays.from_sent.min() + 900_000, "{delays:?}");
            assert_eq!(delays.from_future, 0);
        }
    }
}

#[test]
fn what_is_not_of_this_run_is_never_counted_as_ours() {
    for ground in grounds() {
        let half = half(TrackerSpec::new(RUN, 2));
        let engine = ground.builder().start(|_| half.handler()).unwrap();
        let target = engine.addresses()[0];
        let socket = client(target);
        let mut sent = 0;
        let mut send = |payload: &[u8]| {
            socket.send_to(payload, target).unwrap();
            sent += 1;
            until("the handler to have it", || half.live().received == sent);
        };
        for sequence in 0..10 {
            send(&stamped(RUN, 0, sequence, 64));
            // The sender was started again: another run, the same numbers, the same socket.
            send(&stamped(RUN + 1, 0, sequence, 64));
            send(b"<34>Oct 11 22:14:15 mymachine su: 'su root' failed");
        }
        send(&stamped(RUN, 2, 0, 64));
        send(&[]);
        send(b"short");
        send(&stamped(RUN, 1, 0, 15));
        // Forged: the right run, numbers from nowhere, times from the future.
        for sequence in [u64::MAX, 1 << 63, 1 << 50, u64::MAX - 1, 1 << 40] {
            send(&stamped(RUN, 1, sequence, 64));
        }
        let mut future = stamped(RUN, 1, 0, 64);
        future[16..32].fill(0x7f);
        send(&future);
        let (summary, books) = stop_with_remains(engine);
        balance(&summary, sent);
        let received = half.collect(books);
        let tally = received.account.tally;
        assert_eq!((tally.received, tally.distinct, tally.other_run), (40, 11, 11), "{tally:?}");
        assert_eq!((tally.foreign, tally.unstamped, tally.implausible), (10, 3, 5), "{tally:?}");
        assert_eq!((tally.duplicates, tally.late, tally.reordered), (0, 0, 0), "{tally:?}");
        let settled = received.account.settle(&[12, 1]);
        assert_eq!((settled.lost, settled.is_sound()), (2, true), "{settled:?}");
        assert_eq!(received.delays.unwrap().from_future, 1);
    }
}

#[test]
fn short_datagrams_are_told_by_their_peer() {
    for ground in grounds() {
        let loopback = SocketAddr::new(ground.ip, 9);
        let sockets = [client(loopback), client(loopback), client(loopback)];
        // The third is a stranger.
        let peers = (0..2)
            .map(|flow| (sockets[flow].local_addr().unwrap(), flow))
            .collect::<HashMap<_, _>>();
        let half = ReceivingHalf::new(ReceivingSpec {
            tracker: TrackerSpec::new(RUN, 2),
            shared_clock: false,
            peers,
        });
        let engine = ground.builder().start(|_| half.handler()).unwrap();
        let target = engine.addresses()[0];
        for sequence in 0..50 {
            for (flow, socket) in sockets.iter().enumerate() {
                // Flow 0 sends numbers, flow 1 too short for one.
                let size = if flow == 1 { 4 } else { 8 };
                socket.send_to(&stamped(RUN, 0, sequence, size), target).unwrap();
            }
        }
        await_received(&half, 150);
        let (summary, books) = stop_with_remains(engine);
        balance(&summary, 150);
        let received = half.collect(books);
        assert!(received.delays.is_none(), "the clocks are not shared");
        let account = received.account;
        assert_eq!((account.flows[0].distinct, account.flows[1].unnumbered), (50, 50));
        assert_eq!((account.tally.distinct, account.tally.unstamped), (50, 100));
        assert_eq!(account.settle(&[60, 70]).lost, 30);
    }
}

#[test]
fn a_flow_spread_over_workers_is_said_to_be_and_its_loss_is_exact() {
    for ground in grounds() {
        let half = half(TrackerSpec::new(RUN, 1));
        let builder =
            ground.builder().workers(3).dispatch(Dispatch::Spread).batch_bytes(SMALL_BATCH_BYTES);
        let engine = builder.start(|_| half.handler()).unwrap();
        let target = engine.addresses()[0];
        let socket = client(target);
        half.time(false);
        for sequence in (0..COUNT).filter(|sequence| sequence % 100 != 10) {
            socket.send_to(&stamped(RUN, 0, sequence, 64), target).unwrap();
            if sequence % CHUNK == 0 {
                await_received(&half, sequence - sequence / 100);
            }
        }
        let sent = COUNT - COUNT / 100;
        await_received(&half, sent);
        let (summary, books) = stop_with_remains(engine);
        balance(&summary, sent);
        let received = half.collect(books);
        assert!(received.account.split_flows > 0);
        assert_eq!((received.unreported, received.account.settle(&[COUNT]).lost), (0, 10));
        assert!(received.delays.unwrap().from_sent.is_empty(), "nobody asked for them");
    }
}

#[test]
fn a_handler_that_never_finished_is_missed() {
    let half = half(TrackerSpec::new(RUN, 1));
    drop(half.handler());
    assert_eq!(half.collect(Vec::new()).unreported, 1);
}
