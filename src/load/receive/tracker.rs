//! Tracks one run on the receiving side: which datagrams arrived, which came twice, out of order or too
//! late, and their jitter.
//!
//! ```text
//!   payload ─► stamp ─► run?   ─┬─ ours ──► flow ─► window ─► new · reordered · duplicate · late
//!                               ├─ another run, no stamp ───► counted, never as ours
//!                               └─ too short to say ────────► flow by its peer, or counted
//! ```
//!
//! No clock, no socket, no allocation after construction, constant time a datagram in order. Any
//! bytes may come: a datagram with a forged stamp can make its flow's counts wrong, and nothing else.

use crate::account::{EXTENT_CELLS, FlowAccount, RunAccount, RunCounts, Settled};
use crate::receive::window::{Place, WINDOW_MAX, WINDOW_MIN, Window};
use crate::stamp::{FLOWS_MAX, Seen};

/// Default for the numbers remembered over all flows: 2 MiB of marks.
const NUMBERS: usize = 1 << 20;

/// The parameters of a tracker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrackerSpec {
    /// The run id to count.
    pub run: u32,
    /// Number of flows, at least 1 and at most [`FLOWS_MAX`].
    pub flows: usize,
    /// Numbers of each flow to remember; rounded up to a power of two within 64 to 4096. `None` for a
    /// million over all flows. Smaller: datagrams reordered further are `late`. Larger: more cache, 2
    /// bytes a number.
    pub window: Option<usize>,
    /// The number each flow starts with.
    pub first: u64,
}

impl TrackerSpec {
    /// Returns the parameters for `flows` flows of `run`, numbered from 0, with the default window.
    #[must_use]
    pub fn new(run: u32, flows: usize) -> Self {
        Self { run, flows, window: None, first: 0 }
    }

    /// Returns how many numbers of each flow are remembered.
    #[must_use]
    pub fn window_len(&self) -> usize {
        let wanted = self.window.unwrap_or_else(|| NUMBERS / self.flows_kept());
        wanted.clamp(WINDOW_MIN, WINDOW_MAX).next_power_of_two()
    }

    /// Returns the memory of such a tracker, bytes.
    #[must_use]
    pub fn footprint_bytes(&self) -> usize {
        self.flows_kept() * (self.window_len() * size_of::<u16>() + size_of::<Flow>())
    }

    fn flows_kept(&self) -> usize {
        self.flows.clamp(1, FLOWS_MAX)
    }
}

/// The classification of a datagram.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// From this run, not seen before. `extent` is 0 if in order, else the reordering extent (RFC 4737,
    /// section 4.2): the datagrams that arrived since the first one with a larger number.
    Ours {
        /// Its stamp.
        seen: Seen,
        /// In datagrams of its flow, duplicates and late ones not counted.
        extent: u32,
    },
    /// From this run, seen before.
    Duplicate(Seen),
    /// From this run, older than the window.
    Late(Seen),
    /// Stamped as of this run, but implausibly far ahead.
    Implausible,
    /// Too short for a run id or a number.
    Unstamped,
    /// Not of this run.
    Foreign,
}

/// The largest step of the interarrival jitter, 13 days; larger ones count as this. Send times may be
/// forged and must not overflow a sum.
const JITTER_STEP_MAX_NS: u64 = 1 << 50;

/// The state of one flow.
#[derive(Debug)]
struct Flow {
    window: Window,
    distinct: u64,
    duplicates: u64,
    reordered: u64,
    late: u64,
    implausible: u64,
    unnumbered: u64,
    /// Received less sent time of the last datagram, modulo 2^64: the clocks need not agree.
    transit_ns: Option<u64>,
    /// Sixteen times the jitter, as RFC 3550, appendix A.8, keeps it; `None` before two datagrams.
    jitter_x16_ns: Option<u64>,
    extent_max: u32,
}

impl Flow {
    fn new(window: usize) -> Self {
        Self {
            window: Window::new(window),
            distinct: 0,
            duplicates: 0,
            reordered: 0,
            late: 0,
            implausible: 0,
            unnumbered: 0,
            transit_ns: None,
            jitter_x16_ns: None,
            extent_max: 0,
        }
    }

    /// RFC 3550, section 6.4.1: J += (|D| − J) / 16, in the integers of appendix A.8.
    #[inline]
    fn record_jitter(&mut self, sent_ns: u64, received_ns: u64) {
        let transit = received_ns.wrapping_sub(sent_ns);
        if let Some(before) = self.transit_ns.replace(transit) {
            let step = transit.wrapping_sub(before).cast_signed().unsigned_abs();
            let jitter = self.jitter_x16_ns.unwrap_or(0);
            let step = step.min(JITTER_STEP_MAX_NS);
            self.jitter_x16_ns = Some(jitter + step - ((jitter + 8) >> 4));
        }
    }

    fn account(&self) -> FlowAccount {
        FlowAccount {
            distinct: self.distinct,
            duplicates: self.duplicates,
            reordered: self.reordered,
            late: self.late,
            implausible: self.implausible,
            unnumbered: self.unnumbered,
            given_up: self.window.given_up(),
            reached: self.window.next(),
            extent_max: self.extent_max,
            jitter_ns: self.jitter_x16_ns.map(|jitter| jitter >> 4),
        }
    }
}

/// The origin of a datagram.
enum Origin {
    /// Flow and number.
    Ours(usize, u64),
    /// The peer tells the flow, but there is no number.
    Unnumbered(usize),
    Unstamped,
    OtherRun,
    Foreign,
}

/// Tracks one run, on one thread.
#[derive(Debug)]
pub struct Tracker {
    run: u32,
    first: u64,
    flows: Box<[Flow]>,
    tally: RunCounts,
    extents: [u64; EXTENT_CELLS],
}

impl Tracker {
    /// Makes a tracker and allocates all its memory.
    #[must_use]
    pub fn new(spec: &TrackerSpec) -> Self {
        let window = spec.window_len();
        Self {
            run: spec.run,
            first: spec.first,
            flows: (0..spec.flows_kept()).map(|_| Flow::new(window)).collect(),
            tally: RunCounts::default(),
            extents: [0; EXTENT_CELLS],
        }
    }

    /// Classifies and counts one datagram; call it in the order of arrival. `received_ns` is of any clock
    /// that does not step and serves only the jitter; datagrams of one train share it, so they count with
    /// the gaps of their sender. `peer_flow` is the flow of its peer address, if known; it is used only for
    /// datagrams too short to hold a flow.
    #[inline]
    pub fn take(&mut self, payload: &[u8], received_ns: u64, peer_flow: Option<usize>) -> Taken {
        let seen = Seen::read(payload);
        self.tally.received += 1;
        match self.origin(&seen, payload.len(), peer_flow) {
            Origin::Ours(flow, sequence) => self.enter(flow, sequence, seen, received_ns),
            Origin::Unnumbered(flow) => {
                self.flows[flow].unnumbered += 1;
                self.tally.unstamped += 1;
                Taken::Unstamped
            }
            Origin::Unstamped => {
                self.tally.unstamped += 1;
                Taken::Unstamped
            }
            Origin::OtherRun => {
                self.tally.other_run += 1;
                Taken::Foreign
            }
            Origin::Foreign => {
                self.tally.foreign += 1;
                Taken::Foreign
            }
        }
    }

    #[inline]
    fn origin(&self, seen: &Seen, len: usize, peer_flow: Option<usize>) -> Origin {
        if let (Some((run, flow)), Some(sequence)) = (seen.origin, seen.sequence) {
            let flow = usize::from(flow);
            return if run == self.run && flow < self.flows.len() {
                Origin::Ours(flow, sequence)
            } else {
                Origin::OtherRun
            };
        }
        if len >= 16 {
            return Origin::Foreign;
        }
        match (peer_flow.filter(|&flow| flow < self.flows.len()), seen.sequence) {
            (Some(flow), Some(sequence)) => Origin::Ours(flow, sequence),
            (Some(flow), None) => Origin::Unnumbered(flow),
            (None, _) => Origin::Unstamped,
        }
    }

    #[inline]
    fn enter(&mut self, flow: usize, sequence: u64, seen: Seen, received_ns: u64) -> Taken {
        let flow = &mut self.flows[flow];
        let mut extent = 0;
        match flow.window.take(sequence.wrapping_sub(self.first)) {
            Place::InOrder => {}
            Place::Reordered(by) => {
                extent = by;
                flow.reordered += 1;
                flow.extent_max = flow.extent_max.max(by);
                self.tally.reordered += 1;
                let cell = by.max(1).ilog2() as usize;
                self.extents[cell.min(EXTENT_CELLS - 1)] += 1;
            }
            Place::Resumed => {
                flow.implausible -= 1;
                flow.distinct += 1;
                self.tally.implausible -= 1;
                self.tally.distinct += 1;
            }
            Place::Duplicate => {
                flow.duplicates += 1;
                self.tally.duplicates += 1;
                return Taken::Duplicate(seen);
            }
            Place::Late => {
                flow.late += 1;
                self.tally.late += 1;
                return Taken::Late(seen);
            }
            Place::Implausible => {
                flow.implausible += 1;
                self.tally.implausible += 1;
                return Taken::Implausible;
            }
        }
        flow.distinct += 1;
        self.tally.distinct += 1;
        if let Some(sent_ns) = seen.sent_ns {
            flow.record_jitter(sent_ns, received_ns);
        }
        Taken::Ours { seen, extent }
    }

    /// Returns the counts so far.
    #[must_use]
    #[inline]
    pub fn tally(&self) -> RunCounts {
        self.tally
    }

    /// Returns the account so far. It allocates, so do not call it for each datagram.
    #[must_use]
    pub fn account(&self) -> RunAccount {
        RunAccount {
            tally: self.tally,
            flows: self.flows.iter().map(Flow::account).collect(),
            extents: self.extents,
            split_flows: 0,
        }
    }

    /// See [`RunAccount::settle`].
    #[must_use]
    pub fn settle(&self, sent_by_flow: &[u64]) -> Settled {
        self.account().settle(sent_by_flow)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::stamp::{STAMP_BYTES, Stamp};

    const RUN: u32 = 0xfeed_f00d;

    fn datagram(run: u32, flow: u16, sequence: u64, sent_ns: u64) -> [u8; STAMP_BYTES] {
        let mut payload = [0; STAMP_BYTES];
        Stamp { sequence, run, flow, intended_ns: sent_ns, sent_ns }.write(&mut payload);
        payload
    }

    fn take(tracker: &mut Tracker, flow: u16, sequence: u64) -> Taken {
        tracker.take(&datagram(RUN, flow, sequence, 0), 0, None)
    }

    fn balanced(tally: &RunCounts) {
        let known = tally.ours() + tally.implausible + tally.unstamped;
        assert_eq!(tally.received, known + tally.other_run + tally.foreign, "{tally:?}");
    }

    #[test]
    fn memory_is_decided_by_the_flows() {
        let window =
            |flows, window| TrackerSpec { window, ..TrackerSpec::new(0, flows) }.window_len();
        assert_eq!(window(1, None), 4096);
        assert_eq!(window(1024, None), 1024);
        assert_eq!(window(FLOWS_MAX, None), 64);
        assert_eq!(window(3, Some(100)), 128);
        assert_eq!((window(3, Some(0)), window(3, Some(usize::MAX))), (64, 4096));
        let most = TrackerSpec::new(0, usize::MAX).footprint_bytes();
        assert!(most < 24 << 20, "{most}");
    }

    #[test]
    fn numbers_may_wrap() {
        let first = u64::MAX - 10;
        let mut tracker = Tracker::new(&TrackerSpec { first, ..TrackerSpec::new(RUN, 1) });
        for step in [0, 1, 2, 4, 5, 9, 10, 11, 12, 14, 15] {
            assert!(matches!(
                take(&mut tracker, 0, first.wrapping_add(step)),
                Taken::Ours { extent: 0, .. }
            ));
        }
        assert!(matches!(take(&mut tracker, 0, first + 3), Taken::Ours { extent: 8, .. }));
        assert!(matches!(take(&mut tracker, 0, 2), Taken::Ours { extent: 3, .. }));
        assert!(matches!(take(&mut tracker, 0, 1), Taken::Duplicate(_)));
        assert_eq!(take(&mut tracker, 0, first - 1), Taken::Implausible, "before the first");
        let settled = tracker.settle(&[20]);
        assert_eq!((settled.lost, settled.lost_min, settled.is_sound()), (7, 7, true));
        let account = tracker.account();
        assert_eq!(account.extent_max(), 8);
        assert_eq!((account.extents[1], account.extents[3]), (1, 1));
        balanced(&account.tally);
    }

    #[test]
    fn only_this_runs_datagrams_are_ours() {
        let mut tracker = Tracker::new(&TrackerSpec::new(RUN, 2));
        let mut taken = |payload: &[u8]| tracker.take(payload, 0, None);
        assert_eq!(taken(&datagram(RUN + 1, 0, 0, 0)), Taken::Foreign);
        assert_eq!(taken(&datagram(RUN, 2, 0, 0)), Taken::Foreign);
        assert_eq!(taken(b"<34>Oct 11 22:14:15 su: failed"), Taken::Foreign);
        assert_eq!(taken(&[]), Taken::Unstamped);
        assert_eq!(taken(&datagram(RUN, 0, 0, 0)[..15]), Taken::Unstamped);
        assert!(matches!(taken(&datagram(RUN, 1, 0, 0)[..16]), Taken::Ours { .. }));
        let tally = tracker.tally();
        let apart = (tally.other_run, tally.foreign, tally.unstamped, tally.distinct);
        assert_eq!(apart, (2, 1, 2, 1));
        balanced(&tally);
    }

    #[test]
    fn short_ones_are_told_by_their_peer() {
        let mut tracker = Tracker::new(&TrackerSpec::new(RUN, 2));
        let short = datagram(RUN, 0, 0, 0);
        assert!(matches!(tracker.take(&short[..8], 0, Some(1)), Taken::Ours { .. }));
        assert!(matches!(tracker.take(&short[..15], 0, Some(1)), Taken::Duplicate(_)));
        assert_eq!(tracker.take(&short[..7], 0, Some(1)), Taken::Unstamped);
        assert_eq!(tracker.take(&short[..7], 0, Some(2)), Taken::Unstamped);
        // A stamp that names its flow is believed over the peer's address.
        assert!(matches!(tracker.take(&short, 0, Some(1)), Taken::Ours { .. }));
        let account = tracker.account();
        assert_eq!((account.flows[0].distinct, account.flows[1].distinct), (1, 1));
        assert_eq!((account.flows[1].unnumbered, account.tally.unstamped), (1, 2));
        assert_eq!(account.settle(&[1, 4]).lost, 2);
        balanced(&account.tally);
    }

    #[test]
    fn jitter_is_that_of_the_standard() {
        let mut tracker = Tracker::new(&TrackerSpec::new(RUN, 3));
        // Even gaps on clocks that do not agree: none.
        for sequence in 0..100 {
            let sent = (sequence * 1000_u64).wrapping_sub(50_000);
            tracker.take(&datagram(RUN, 0, sequence, sent), 77 + sequence * 1000, None);
        }
        // Transit times that differ by 1600 ns every time: J converges to 1600.
        for sequence in 0..1000 {
            let late = (sequence % 2) * 1600;
            tracker.take(&datagram(RUN, 1, sequence, sequence), sequence + late, None);
        }
        let account = tracker.account();
        assert_eq!(account.flows[0].jitter_ns, Some(0));
        assert!(account.flows[1].jitter_ns.unwrap().abs_diff(1600) <= 1, "{account:?}");
        assert_eq!(account.flows[2].jitter_ns, None);
        assert!(account.jitter_mean_ns().unwrap().abs_diff(800) <= 1);
        // Forged times overflow nothing.
        for sequence in 0..10_000 {
            let sent = if sequence % 2 == 0 { 0 } else { u64::MAX / 2 };
            tracker.take(&datagram(RUN, 2, sequence, sent), u64::MAX - sequence, None);
        }
        assert!(tracker.account().jitter_max_ns().unwrap() <= JITTER_STEP_MAX_NS);
    }

    proptest! {
        /// Whatever comes, the books balance, and loss is what was sent less what is known of it.
        #[test]
        fn hostile_datagrams_break_nothing(
            datagrams in proptest::collection::vec(
                (0u8..8, any::<u64>(), any::<u64>(), 0usize..40), 0..400),
            first in any::<u64>(),
        ) {
            let spec = TrackerSpec { first, window: Some(64), ..TrackerSpec::new(RUN, 3) };
            let mut tracker = Tracker::new(&spec);
            for (kind, random, sent_ns, len) in datagrams {
                let sequence = match kind {
                    0..=3 => first.wrapping_add(random % 50),
                    4 => first.wrapping_add(random % (1 << 21)),
                    5 => random,
                    6 => u64::MAX - random % 4,
                    _ => first.wrapping_sub(random % 4),
                };
                let run = if random % 19 == 0 { 0 } else { RUN };
                let mut payload = datagram(run, (random % 4) as u16, sequence, sent_ns).to_vec();
                payload.resize(len, 1);
                let peer_flow = (random % 3 > 0).then_some((random % 5) as usize);
                tracker.take(&payload, sent_ns ^ random, peer_flow);
                balanced(&tracker.tally());
            }
            let account = tracker.account();
            let mut flows = FlowAccount::default();
            for flow in &account.flows {
                prop_assert!(flow.reordered <= flow.distinct);
                prop_assert!(flow.distinct + flow.given_up <= flow.reached);
                flows.distinct += flow.distinct;
                flows.duplicates += flow.duplicates;
                flows.late += flow.late;
            }
            let tally = account.tally;
            prop_assert_eq!(tally.ours(), flows.distinct + flows.duplicates + flows.late);
            prop_assert_eq!(account.extents.iter().sum::<u64>(), tally.reordered);
            let settled = account.settle(&[30, 30, 30]);
            prop_assert!(settled.lost_min <= settled.lost && settled.lost <= settled.sent);
        }
    }
}
