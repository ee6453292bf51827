//! Generated datagrams: stamped, numbered in their flow, due by a schedule.

use crate::schedule::Schedule;
use crate::send::round::Round;
use crate::send::share::Share;
use crate::spec::{LoadSpec, Payload};
use crate::stamp;
use crate::stamp::Stamp;
use ringest_engine::batch::arena::Frame;

/// The group of datagrams that is due next.
#[derive(Clone, Copy, Debug, Default)]
struct Group {
    /// Datagrams of the group not staged yet.
    left: u64,
    due_ns: u64,
    /// Index among this thread's flows.
    flow: usize,
}

/// The generated datagrams of one thread, in order.
#[derive(Debug)]
pub(crate) struct GeneratedSource {
    spec: LoadSpec,
    /// Flows of this thread, by their number in the whole load.
    flows: Vec<usize>,
    rate_pps: Option<f64>,
    count: Option<u64>,
    schedule: Schedule,
    /// A frame before it is copied into the round.
    scratch: Vec<u8>,
    due_ns: Vec<u64>,
    train: usize,
    group: Group,
    /// Next number of each of this thread's flows.
    sequences: Vec<u64>,
    /// Datagrams of all groups taken so far.
    due: u64,
    /// Datagrams that may still be staged.
    budget: u64,
    start_ns: u64,
    end_ns: u64,
}

impl GeneratedSource {
    pub(crate) fn new(spec: &LoadSpec, share: &Share) -> Self {
        let train = spec.train();
        // Threads are independent of each other: each draws its own gaps.
        let seed = u64::from(spec.run) << 32 | share.index as u64;
        let schedule =
            Schedule::new(share.rate_pps, spec.group(), spec.pattern, share.offset, seed);
        let size = spec.sizes.max();
        let mut scratch = vec![0; size * train];
        if let Payload::Bytes(bytes) = &spec.payload
            && !bytes.is_empty()
        {
            for piece in scratch.chunks_mut(size.max(1)) {
                piece.iter_mut().zip(bytes.iter().cycle()).for_each(|(to, from)| *to = *from);
            }
        }
        Self {
            spec: spec.clone(),
            rate_pps: share.rate_pps,
            count: share.count,
            schedule,
            scratch,
            due_ns: Vec::with_capacity(train),
            train,
            group: Group::default(),
            sequences: vec![0; share.flows.len()],
            flows: share.flows.clone(),
            due: 0,
            budget: share.count.unwrap_or(u64::MAX),
            start_ns: 0,
            end_ns: u64::MAX,
        }
    }

    pub(crate) fn start(&mut self, start_ns: u64, end_ns: u64) {
        (self.start_ns, self.end_ns) = (start_ns, end_ns);
    }

    pub(crate) fn is_exhausted(&self) -> bool {
        self.budget == 0
    }

    /// Returns when the next group is due, ns.
    pub(crate) fn next_ns(&self) -> u64 {
        self.start_ns.saturating_add(self.schedule.next_ns())
    }

    /// Stages the datagrams that are due, as many as the round takes.
    pub(crate) fn stage(&mut self, now_ns: u64, round: &mut Round) {
        while !round.is_full() && self.stage_frame(now_ns, round) {}
    }

    /// Stages one frame: a datagram, or a train of one flow. Returns `false` if nothing more is due.
    fn stage_frame(&mut self, now_ns: u64, round: &mut Round) -> bool {
        let (mut used, mut size) = (0, 0);
        self.due_ns.clear();
        while self.due_ns.len() < self.train && self.has_due(now_ns, used == 0) {
            let sequence = self.sequences[self.group.flow];
            self.sequences[self.group.flow] += 1;
            self.group.left -= 1;
            self.budget -= 1;
            size = self.spec.sizes.of(sequence);
            let stamp = Stamp {
                sequence,
                run: self.spec.run,
                flow: u16::try_from(self.flows[self.group.flow]).unwrap_or(u16::MAX),
                intended_ns: self.group.due_ns,
                sent_ns: now_ns,
            };
            let piece = &mut self.scratch[used..used + size];
            stamp.write(piece);
            if self.spec.payload == Payload::Random {
                stamp::fill(piece, sequence);
            }
            used += size;
            self.due_ns.push(self.group.due_ns);
        }
        if self.due_ns.is_empty() {
            return false;
        }
        let is_train = self.due_ns.len() > 1;
        let frame = Frame::datagram(self.spec.target, &self.scratch[..used])
            .at_listener(self.group.flow)
            .in_segments(if is_train { u16::try_from(size).unwrap_or(0) } else { 0 });
        let fits = round.push(&frame, &self.due_ns);
        debug_assert!(fits, "the round was made for frames of this size");
        true
    }

    /// Returns whether a datagram is due for the frame being staged; takes the next group if this one is used up. A frame is of one flow, so another group may join it only where there is but one.
    fn has_due(&mut self, now_ns: u64, new_frame: bool) -> bool {
        // Flat out a datagram is due when it is sent, and the time is up when it is up.
        if self.budget == 0 || (self.rate_pps.is_none() && now_ns >= self.end_ns) {
            return false;
        }
        if self.group.left > 0 {
            return true;
        }
        let due_ns = self.next_ns();
        let flows = self.sequences.len();
        if due_ns > now_ns || due_ns >= self.end_ns || !(new_frame || flows == 1) {
            return false;
        }
        let due_ns = if self.rate_pps.is_none() { now_ns } else { due_ns };
        let flow = if self.due == 0 { 0 } else { (self.group.flow + 1) % flows };
        self.group = Group { left: self.schedule.together(), due_ns, flow };
        self.due += self.group.left;
        self.schedule.advance();
        true
    }

    /// Stops building trains: each datagram is a frame of its own from now on.
    pub(crate) fn refuse_trains(&mut self) {
        self.train = 1;
    }

    /// Takes back `count` datagrams of a flow that were staged and never sent.
    pub(crate) fn take_back(&mut self, flow: usize, count: u64) {
        self.sequences[flow] -= count;
    }

    pub(crate) fn issued(&self) -> &[u64] {
        &self.sequences
    }

    /// Returns how many datagrams were due when the load ended; `tried` were sent or refused.
    pub(crate) fn intended(&mut self, ended_ns: u64, tried: u64) -> u64 {
        match self.count {
            // Flat out nothing is due but what was tried, unless a number was asked for.
            None if self.rate_pps.is_none() => tried,
            Some(count) if self.rate_pps.is_none() => count,
            count => self.due_before(ended_ns).min(count.unwrap_or(u64::MAX)),
        }
    }

    fn due_before(&mut self, ended_ns: u64) -> u64 {
        let missed = self.schedule.skip_to(ended_ns);
        self.due.saturating_add(missed.saturating_mul(self.schedule.together()))
    }

    /// Returns the time that `tried` datagrams take by the schedule, ns, the gap after the last one included.
    pub(crate) fn span_ns(&self, tried: u64) -> u64 {
        self.schedule.span_ns(tried)
    }
}
