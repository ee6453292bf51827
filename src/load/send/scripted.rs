//! The sender against a kernel whose answers are scripted: send buffers that fill and drain at any
//! moment, sends refused, trains refused, errors of earlier datagrams, a stop at any time.

use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use crate::receive::echo::NoEchoes;
use crate::report::LoadReport;
use crate::send::sender::Sender;
use crate::send::share::{Progress, Share};
use crate::spec::{Gso, LoadSpec, Payload, Rate, Sizes};
use crate::stamp;
use crate::stamp::Seen;
use ringest_base::sys::chance::Chance;
use ringest_base::sys::clock;
use ringest_engine::backend::enter::{Enter, Wait};
use ringest_engine::backend::kind::BackendKind;
use ringest_engine::backend::outgoing::SENDS_MAX;
use ringest_engine::backend::sockets::Sockets;
use ringest_engine::backend::tx::{Cursor, SendOrder, Sent, Tx};
use ringest_engine::batch::arena::{Batch, Entry};
use ringest_engine::socket::connected::Connected;

/// The faults of the scripted kernel. Each happens in one of so many sends; 0: never.
#[derive(Clone, Copy, Debug, Default)]
struct Faults {
    refused: usize,
    dropped: usize,
    icmp: usize,
    trains_refused: bool,
    /// Size of a send buffer, bytes; 0: endless.
    buffer_bytes: usize,
}

struct Kernel {
    chance: Chance,
    faults: Faults,
    /// Bytes taken of each flow's send buffer.
    used_bytes: Vec<usize>,
    /// Numbers that were sent, by flow, in order.
    left: Vec<Vec<u64>>,
    trains: u64,
    /// Sends until a stop is asked for; `None`: never.
    until_stop: Option<u32>,
    stop: Arc<AtomicBool>,
    full: u64,
}

impl Kernel {
    fn fault(&mut self, one_in: usize) -> bool {
        one_in > 0 && self.chance.one_in(one_in)
    }

    /// The device sends something; it never waits to be asked.
    fn drain(&mut self) {
        for used in &mut self.used_bytes {
            if self.chance.one_in(3) {
                *used -= self.chance.below(*used + 1);
            }
        }
    }

    /// Returns the result of one send.
    fn send(&mut self, flow: usize, payload: &[u8], segment_bytes: usize) -> Sent {
        self.drain();
        if let Some(left) = &mut self.until_stop {
            *left = left.saturating_sub(1);
            self.stop.store(*left == 0, Ordering::Relaxed);
        }
        if self.fault(self.faults.icmp) {
            return Sent::Failed(libc::ECONNREFUSED);
        }
        if segment_bytes > 0 && self.faults.trains_refused {
            return Sent::Failed(libc::EMSGSIZE);
        }
        // As sock_alloc_send_pskb: there is room while anything is free.
        if self.faults.buffer_bytes > 0 && self.used_bytes[flow] >= self.faults.buffer_bytes {
            self.full += 1;
            return Sent::Failed(libc::EAGAIN);
        }
        if self.fault(self.faults.refused) {
            return Sent::Failed(libc::EPERM);
        }
        if self.fault(self.faults.dropped) {
            return Sent::Failed(libc::ENOBUFS);
        }
        self.used_bytes[flow] += payload.len() * 2 + 768;
        self.trains += u64::from(segment_bytes > 0);
        for datagram in payload.chunks(if segment_bytes > 0 { segment_bytes } else { usize::MAX }) {
            assert!(stamp::is_intact(datagram));
            self.left[flow].push(Seen::read(datagram).sequence.unwrap());
        }
        Sent::All
    }
}

/// A kernel is moved into the sender, but its records are read afterwards: so the sender gets it by reference.
struct Lent<'a>(&'a mut Kernel);

impl Enter for Lent<'_> {
    fn enter(&mut self, _: Wait) -> io::Result<()> {
        self.0.drain();
        Ok(())
    }
}

impl Tx for Lent<'_> {
    fn transmit(
        &mut self,
        batch: &Batch,
        from: Cursor,
        order: SendOrder,
        results: &mut Vec<Sent>,
    ) -> io::Result<()> {
        let size = |entry: &Entry| usize::from(entry.segment_bytes);
        let entries = &batch.entries()[from.entry..];
        let mut sends: Vec<(usize, &[u8], usize)> = Vec::new();
        if order == SendOrder::Split {
            let pieces = batch.payload(&entries[0])[from.offset..].chunks(size(&entries[0]));
            sends.extend(pieces.map(|piece| (usize::from(entries[0].listener), piece, 0)));
        } else {
            for entry in entries {
                sends.push((usize::from(entry.listener), batch.payload(entry), size(entry)));
            }
        }
        for (flow, payload, segment_bytes) in sends.into_iter().take(SENDS_MAX) {
            let sent = self.0.send(flow, payload, segment_bytes);
            results.push(sent);
            if order != SendOrder::Free && sent != Sent::All {
                break;
            }
        }
        Ok(())
    }

    fn send_room_bytes(&mut self, listener: usize) -> io::Result<usize> {
        Ok(match self.0.faults.buffer_bytes {
            0 => usize::MAX,
            size => size.saturating_sub(self.0.used_bytes[listener]),
        })
    }

    fn await_writable(&mut self, _: usize) -> io::Result<()> {
        Ok(())
    }

    fn take_writable(&mut self) -> bool {
        true
    }
}

impl Sockets for Lent<'_> {
    type Socket = Connected;

    fn sockets(&mut self) -> &mut [Connected] {
        &mut []
    }
}

/// One thread's load through such a kernel: the report, and what left.
fn send(spec: &LoadSpec, faults: Faults, until_stop: Option<u32>) -> (LoadReport, Kernel) {
    let stop = Arc::new(AtomicBool::new(false));
    let mut kernel = Kernel {
        chance: Chance::new(spec.run.into()),
        faults,
        used_bytes: vec![0; spec.flows],
        left: vec![Vec::new(); spec.flows],
        trains: 0,
        until_stop,
        stop: Arc::clone(&stop),
        full: 0,
    };
    let share = Share {
        index: 0,
        flows: (0..spec.flows).collect(),
        rate_pps: spec.rate_pps(),
        count: spec.count,
        offset: 0.0,
        stop,
        progress: Arc::new(Progress::default()),
    };
    let sender =
        Sender::new(spec, share, (Lent(&mut kernel), BackendKind::IoUring), NoEchoes).unwrap();
    let report = sender.run(clock::monotonic_ns()).unwrap();
    (report, kernel)
}

fn spec(run: u32) -> LoadSpec {
    LoadSpec {
        run,
        payload: Payload::Random,
        count: Some(500),
        ..LoadSpec::new("127.0.0.1:9".parse().unwrap())
    }
}

/// Checks the accounts at the end, whatever happened.
fn balances(report: &LoadReport, kernel: &Kernel) {
    let failed = report.send_failed + report.qdisc_dropped;
    assert_eq!(report.intended, report.sent + report.unsent + failed, "{report:?}");
    assert_eq!(report.sent, kernel.left.iter().map(|numbers| numbers.len() as u64).sum::<u64>());
    assert_eq!(report.send_failed, report.errors.iter().map(|(_, count)| count).sum::<u64>());
    for (numbers, issued) in kernel.left.iter().zip(&report.issued_by_flow) {
        assert!(numbers.iter().all(|number| number < issued), "never sent, but seen: {report:?}");
    }
    if kernel.faults.icmp == 0 {
        assert_eq!(report.issued_by_flow.iter().sum::<u64>(), report.sent + failed);
        for numbers in &kernel.left {
            let ordered = numbers.windows(2).all(|pair| pair[0] < pair[1]);
            assert!(ordered, "a datagram was overtaken: {numbers:?}");
        }
    }
    let mut all: Vec<_> = kernel
        .left
        .iter()
        .enumerate()
        .flat_map(|(flow, n)| n.iter().map(move |n| (flow, n)))
        .collect();
    all.sort_unstable();
    assert!(all.windows(2).all(|pair| pair[0] < pair[1]), "a datagram was sent twice");
    assert!(report.blocked <= kernel.full * SENDS_MAX as u64, "{report:?}");
}

#[test]
fn a_full_send_buffer_is_waited_for_and_each_datagram_counted_once() {
    for gso in [Gso::Off, Gso::Trains(8)] {
        let faults = Faults { buffer_bytes: 4000, ..Faults::default() };
        let spec = LoadSpec { gso, ..spec(1) };
        let (report, kernel) = send(&spec, faults, None);
        balances(&report, &kernel);
        assert_eq!((report.sent, report.unsent), (500, 0), "{report:?}");
        assert!(report.blocked > 0 && report.blocked <= 500, "{report:?}");
        assert!(kernel.full > 0);
    }
}

#[test]
fn refused_trains_are_sent_datagram_by_datagram_in_order() {
    for (gso, buffer_bytes) in [(Gso::Trains(7), 0), (Gso::Auto, 0), (Gso::Trains(64), 3000)] {
        let faults = Faults { trains_refused: true, buffer_bytes, ..Faults::default() };
        let (report, kernel) = send(&LoadSpec { gso, ..spec(2) }, faults, None);
        balances(&report, &kernel);
        assert_eq!((report.sent, kernel.trains), (500, 0));
        assert!(report.trains_refused);
        assert_eq!(kernel.left[0], (0..500).collect::<Vec<_>>());
    }
}

#[test]
fn refused_and_dropped_datagrams_keep_their_numbers() {
    let faults = Faults { refused: 3, dropped: 4, ..Faults::default() };
    let (report, kernel) = send(&LoadSpec { rate: Rate::Pps(1e6), ..spec(3) }, faults, None);
    balances(&report, &kernel);
    assert!(report.send_failed > 0 && report.qdisc_dropped > 0);
    assert_eq!((report.intended, report.unsent), (500, 0));
    assert_eq!(report.issued_by_flow, [500]);
    assert_eq!(report.errors, [(libc::EPERM, report.send_failed)]);
    assert_eq!(report.lateness_ns.len(), report.sent, "of each that was sent, and no other");
}

/// A datagram that waited for room is as late as it was when it left.
#[test]
fn a_datagram_that_waited_is_as_late_as_that() {
    let faults = Faults { buffer_bytes: 800, ..Faults::default() };
    let spec = LoadSpec { rate: Rate::Pps(1e9), count: Some(200), ..spec(4) };
    let before_ns = clock::monotonic_ns();
    let (report, kernel) = send(&spec, faults, None);
    let took_ns = clock::monotonic_ns() - before_ns;
    balances(&report, &kernel);
    assert_eq!(report.lateness_ns.len(), 200);
    let (first, last) = (report.lateness_ns.min(), report.lateness_ns.max());
    assert!(first <= last && last <= took_ns, "{first} {last} {took_ns}");
    assert!(report.elapsed_ns <= took_ns);
    // All were due within 200 ns, so the last to leave is as late as the run was long, to three digits.
    assert!(last + 200 + last / 500 >= report.elapsed_ns, "{last} {}", report.elapsed_ns);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// Any load through any such kernel, to its end or stopped: it balances, flows keep their order.
    #[test]
    fn whatever_the_kernel_answers_it_balances(
        run in any::<u32>(),
        flows in prop_oneof![1usize..5, 30usize..80],
        train in 1usize..20,
        (burst, count) in (1usize..70, 1u64..700),
        how in 0u8..4,
        (refused, dropped, icmp) in (0usize..6, 0usize..6, 0usize..20),
        (trains_refused, buffer_bytes) in (any::<bool>(), prop_oneof![Just(0), 500usize..20_000]),
        until_stop in proptest::option::of(0u32..500),
    ) {
        let spec = LoadSpec {
            flows,
            count: Some(count),
            burst,
            gso: match how { 0 => Gso::Auto, 1 => Gso::Trains(train), _ => Gso::Off },
            sizes: match how { 2 => Sizes::Imix, 3 => Sizes::Range(8, 90), _ => Sizes::Fixed(50) },
            rate: if run % 3 == 0 { Rate::Max } else { Rate::Pps(5e6) },
            ..spec(run)
        };
        let icmp = if icmp < 15 { 0 } else { icmp };
        let faults = Faults { refused, dropped, icmp, trains_refused, buffer_bytes };
        let (report, kernel) = send(&spec, faults, until_stop);
        balances(&report, &kernel);
        if until_stop.is_none() {
            prop_assert_eq!((report.intended, report.unsent), (count, 0));
        }
        if !spec.is_flat_out() {
            prop_assert_eq!(report.lateness_ns.len(), report.sent);
        }
        prop_assert!(report.blocked <= count, "each is counted once: {:?}", report);
    }
}
