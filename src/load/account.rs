//! The receiver's counts of a run, and the losses that follow from the sender's final counts.

/// Counts over all flows. Each datagram is in exactly one of the terms of
/// `received = distinct + duplicates + late + implausible + unstamped + other_run + foreign`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RunCounts {
    /// All datagrams received.
    pub received: u64,
    /// From this run, with a number not seen before.
    pub distinct: u64,
    /// From this run, with a number seen before.
    pub duplicates: u64,
    /// From this run, but older than the flow's window: new or a duplicate, which cannot be told.
    pub late: u64,
    /// Stamped as of this run, but implausibly far ahead of its flow. If the flow's next datagram
    /// confirms it, it moves to `distinct`, so this count may go down.
    pub implausible: u64,
    /// Too short for a run id (under 16 bytes) or a number (under 8). Those of 8 to 15 bytes count as of
    /// this run instead if the peer address tells the flow.
    pub unstamped: u64,
    /// Stamped, but for another run, or for a flow this run does not have.
    pub other_run: u64,
    /// Not stamped at all, and not too short to be.
    pub foreign: u64,
    /// Those of `distinct` that arrived after one with a larger number (RFC 4737, section 3).
    pub reordered: u64,
}

impl RunCounts {
    /// Returns the numbered datagrams that count as of this run.
    #[must_use]
    pub fn ours(&self) -> u64 {
        self.distinct + self.duplicates + self.late
    }

    /// Adds other counts.
    pub fn add(&mut self, other: &Self) {
        self.received += other.received;
        self.distinct += other.distinct;
        self.duplicates += other.duplicates;
        self.late += other.late;
        self.implausible += other.implausible;
        self.unstamped += other.unstamped;
        self.other_run += other.other_run;
        self.foreign += other.foreign;
        self.reordered += other.reordered;
    }
}

/// Extents by size: cell n counts those from 2^n up to 2^(n + 1). Windows keep extents below 2^13.
pub const EXTENT_CELLS: usize = 13;

/// One flow's part of an [`RunAccount`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FlowAccount {
    /// Different numbers seen.
    pub distinct: u64,
    /// Numbers seen again.
    pub duplicates: u64,
    /// Those of `distinct` that arrived after a larger number.
    pub reordered: u64,
    /// Datagrams older than the window.
    pub late: u64,
    /// Implausibly far ahead.
    pub implausible: u64,
    /// Too short (under 8 bytes) for a number; their peer address tells the flow.
    pub unnumbered: u64,
    /// Numbers that left the window unseen. At most this many of the late datagrams were new.
    pub given_up: u64,
    /// One more than the largest number seen, counted from the flow's first; 0 if none was.
    pub reached: u64,
    /// The largest reordering extent.
    pub extent_max: u32,
    /// Interarrival jitter (RFC 3550, section 6.4.1), ns; `None` before the second datagram
    /// with a send time.
    pub jitter_ns: Option<u64>,
}

impl FlowAccount {
    fn is_untouched(&self) -> bool {
        self.reached == 0 && self.unnumbered == 0
    }

    fn add(&mut self, other: &Self) {
        self.distinct += other.distinct;
        self.duplicates += other.duplicates;
        self.reordered += other.reordered;
        self.late += other.late;
        self.implausible += other.implausible;
        self.unnumbered += other.unnumbered;
        self.given_up += other.given_up;
        self.reached = self.reached.max(other.reached);
        self.extent_max = self.extent_max.max(other.extent_max);
        self.jitter_ns = self.jitter_ns.max(other.jitter_ns);
    }

    /// Returns the least and the most that can be lost: with late datagrams as new, or as duplicates.
    fn lost(&self, sent: u64) -> (u64, u64) {
        let missing = sent.saturating_sub(self.distinct + self.unnumbered);
        (missing.saturating_sub(self.late.min(self.given_up)), missing)
    }
}

/// The account of a run, from one or several trackers.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RunAccount {
    /// Counts over all flows, and of datagrams without a flow.
    pub tally: RunCounts,
    /// Counts by flow.
    pub flows: Vec<FlowAccount>,
    /// Number of reordered datagrams with an extent from 2^n up to 2^(n + 1).
    pub extents: [u64; EXTENT_CELLS],
    /// Flows that more than one tracker saw, as with `Dispatch::Spread`. Duplicates are found only if both
    /// copies came to the same tracker, and reordering only within one tracker. With any such flow
    /// `lost` may be too small, and the other figures have no meaning.
    pub split_flows: u64,
}

impl RunAccount {
    /// Adds the account of another tracker of the same run. With `Dispatch::Flow` a flow's datagrams all
    /// come to one tracker (so they do with several receivers: SO_REUSEPORT keeps a flow on one
    /// socket), and sums are exact; otherwise see [`Self::split_flows`].
    pub fn merge(&mut self, other: &Self) {
        self.tally.add(&other.tally);
        if self.flows.len() < other.flows.len() {
            self.flows.resize(other.flows.len(), FlowAccount::default());
        }
        for (mine, theirs) in self.flows.iter_mut().zip(&other.flows) {
            self.split_flows += u64::from(!mine.is_untouched() && !theirs.is_untouched());
            mine.add(theirs);
        }
        for (mine, theirs) in self.extents.iter_mut().zip(other.extents) {
            *mine += theirs;
        }
        self.split_flows += other.split_flows;
    }

    /// Returns the largest reordering extent of any flow: the number of datagrams that a receiver must
    /// hold back to restore the order (RFC 4737, section 4.2). 0 if nothing was reordered.
    #[must_use]
    pub fn extent_max(&self) -> u32 {
        self.flows.iter().map(|flow| flow.extent_max).max().unwrap_or(0)
    }

    /// Returns the mean of the flows' jitters, ns, or `None` if no flow has one.
    #[must_use]
    pub fn jitter_mean_ns(&self) -> Option<u64> {
        let jitters = || self.flows.iter().filter_map(|flow| flow.jitter_ns);
        let sum: u128 = jitters().map(u128::from).sum();
        u64::try_from(sum.checked_div(jitters().count() as u128)?).ok()
    }

    /// Returns the largest of the flows' jitters, ns.
    #[must_use]
    pub fn jitter_max_ns(&self) -> Option<u64> {
        self.flows.iter().filter_map(|flow| flow.jitter_ns).max()
    }

    /// Computes the losses. `sent_by_flow` holds the number of datagrams of each flow that left the
    /// sender; without it a lost tail or a silent flow could not be seen. Flows missing from the list
    /// sent nothing.
    #[must_use]
    pub fn settle(&self, sent_by_flow: &[u64]) -> Settled {
        let mut settled = Settled::default();
        let none = FlowAccount::default();
        for index in 0..self.flows.len().max(sent_by_flow.len()) {
            let flow = self.flows.get(index).unwrap_or(&none);
            let sent = sent_by_flow.get(index).copied().unwrap_or(0);
            let (certain, lost) = flow.lost(sent);
            settled.sent += sent;
            settled.lost += lost;
            settled.lost_min += certain;
            settled.flows_silent += u64::from(sent > 0 && flow.is_untouched());
            settled.flows_beyond += u64::from(flow.reached > sent);
            settled.excess += (flow.distinct + flow.unnumbered).saturating_sub(sent);
        }
        settled
    }
}

/// The losses of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settled {
    /// Datagrams sent by all flows.
    pub sent: u64,
    /// Sent but not seen in time. Late datagrams count as lost, as in RFC 7680, section 2.
    pub lost: u64,
    /// The least that was lost: as many of the late datagrams as possible were new. Equal to `lost`
    /// without late datagrams.
    pub lost_min: u64,
    /// Flows that sent and of which nothing arrived.
    pub flows_silent: u64,
    /// Datagrams received beyond the number sent, each with a number of its own. Not 0 means that the
    /// sender's counts or the datagrams are wrong.
    pub excess: u64,
    /// Flows with a number that was never sent. Not 0 means the same as for `excess`.
    pub flows_beyond: u64,
}

impl Settled {
    /// Returns whether nothing arrived that was not sent.
    #[must_use]
    pub fn is_sound(&self) -> bool {
        self.excess == 0 && self.flows_beyond == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flow(distinct: u64, late: u64, given_up: u64) -> FlowAccount {
        FlowAccount { distinct, late, given_up, reached: distinct, ..FlowAccount::default() }
    }

    #[test]
    fn a_lost_tail_and_a_lost_flow_are_seen() {
        let account =
            RunAccount { flows: vec![flow(90, 0, 0), flow(0, 0, 0)], ..RunAccount::default() };
        let settled = account.settle(&[100, 50, 7]);
        assert_eq!((settled.sent, settled.lost, settled.lost_min), (157, 67, 67));
        assert_eq!(settled.flows_silent, 2);
        assert!(settled.is_sound());
    }

    #[test]
    fn late_ones_leave_a_range() {
        let account = RunAccount { flows: vec![flow(90, 7, 3)], ..RunAccount::default() };
        let settled = account.settle(&[100]);
        assert_eq!((settled.lost_min, settled.lost), (7, 10), "at most 3 of the late were new");
        let account = RunAccount { flows: vec![flow(90, 7, 0)], ..RunAccount::default() };
        assert_eq!(account.settle(&[100]).lost_min, 10, "all of the late were duplicates");
    }

    #[test]
    fn more_than_was_sent_is_said_and_never_negative() {
        let account =
            RunAccount { flows: vec![flow(90, 0, 0), flow(10, 0, 0)], ..RunAccount::default() };
        let settled = account.settle(&[80, 20]);
        assert_eq!((settled.lost, settled.excess, settled.flows_beyond), (10, 10, 1));
        assert!(!settled.is_sound());
        assert_eq!(account.settle(&[]).excess, 100);
    }

    #[test]
    fn merging_adds_and_tells_of_split_flows() {
        let one = RunAccount { flows: vec![flow(3, 0, 1), flow(0, 0, 0)], ..RunAccount::default() };
        let mut both = one.clone();
        let jitter = FlowAccount { jitter_ns: Some(9), ..flow(4, 0, 0) };
        both.merge(&RunAccount {
            flows: vec![flow(0, 0, 0), jitter, flow(1, 0, 0)],
            ..RunAccount::default()
        });
        assert_eq!(both.split_flows, 0);
        assert_eq!(both.flows.iter().map(|f| f.distinct).collect::<Vec<_>>(), [3, 4, 1]);
        assert_eq!((both.jitter_mean_ns(), both.jitter_max_ns()), (Some(9), Some(9)));
        both.merge(&one);
        assert_eq!((both.split_flows, both.flows[0].distinct), (1, 6));
        assert_eq!(one.jitter_mean_ns(), None);
    }
}
