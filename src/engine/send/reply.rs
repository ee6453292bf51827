//! The way back: what handlers answer, and how a receiver sends it.
//!
//! ```text
//!  worker: Replies ── reply batch ──► queue ──► receiver: Transmitter ──► sendmsg, UDP_SEGMENT
//!             ▲                                          │
//!             └───────────── pool of reply batches ◄─────┘
//! ```
//!
//! A reply leaves through the receiver, and so from the address, that its datagram came to.
//! Equal-sized replies to one peer in a row become one segmented send. Every reply is counted once:
//! sent, timed out, or failed.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::backend::outgoing::SENDS_MAX;
use crate::backend::tx::{Cursor, SendOrder, Sent, Tx};
use crate::batch::arena::{Batch, Datagram, Frame, TrainLimits, datagrams_of};
use crate::batch::pool::Pool;
use crate::count::counters::ReceiverCounts;
use crate::sync::waker::{REPLIES, Waker};
use crate::wire::headers::Headers;
use crate::wire::limits::PAYLOAD_BYTES_MAX;

/// Trains as long as the kernel takes them.
const LIMITS: TrainLimits = TrainLimits::KERNEL;

/// Where a worker's replies for one receiver go.
#[derive(Clone, Debug)]
pub struct ReplyLane {
    /// The receiver's inbox.
    pub inbox: Sender<Batch>,
    /// To be poked after a batch was put there.
    pub waker: Arc<Waker>,
}

/// Takes a handler's replies.
#[derive(Debug)]
pub struct Replies {
    pool: Pool,
    lanes: Vec<ReplyLane>,
    open: Option<Batch>,
    receiver: u16,
    /// Whether to wait for an empty batch; not on a receiver's own thread, which would wait for
    /// itself.
    waits: bool,
    failed: u64,
}

impl Replies {
    /// `lanes`: one per receiver.
    #[must_use]
    pub fn new(pool: Pool, lanes: Vec<ReplyLane>, waits: bool) -> Self {
        Self { pool, lanes, open: None, receiver: 0, waits, failed: 0 }
    }

    /// Answers `to` with `payload`, from the address `to` was sent to. Returns whether it was
    /// taken; one that was not (longer than 65507 bytes, no room for replies) is counted as failed.
    ///
    /// Taken is not sent: the summary tells what the kernel took, and a datagram the kernel took
    /// may still be lost.
    pub fn send(&mut self, to: &Datagram<'_>, payload: &[u8]) -> bool {
        let frame = Frame::datagram(to.peer(), payload)
            .at_listener(to.listener())
            .with_headers(Headers::from(to.local()));
        let taken = payload.len() <= PAYLOAD_BYTES_MAX && self.put(&frame);
        if !taken {
            self.failed += 1;
        }
        taken
    }

    fn put(&mut self, frame: &Frame<'_>) -> bool {
        if let Some(open) = &mut self.open {
            if open.push_reply(frame, LIMITS) {
                return true;
            }
            self.flush();
        }
        let fresh = if self.waits { self.pool.take_waiting() } else { self.pool.take() };
        let Some(mut fresh) = fresh else { return false };
        fresh.open(self.receiver, 0);
        let taken = fresh.push_reply(frame, LIMITS);
        self.open = Some(fresh);
        taken
    }

    /// Replies from now on answer datagrams of `receiver`.
    pub(crate) fn begin(&mut self, receiver: u16) {
        self.receiver = receiver;
    }

    /// Hands over what was answered so far.
    pub(crate) fn flush(&mut self) {
        let Some(batch) = self.open.take() else { return };
        if batch.is_empty() {
            return self.pool.put(batch);
        }
        let lane = &self.lanes[usize::from(self.receiver)];
        // The inbox holds every reply batch there is, so it is never full; it is gone only if the
        // receiver has left for good.
        match lane.inbox.try_send(batch) {
            Ok(()) => lane.waker.poke(REPLIES),
            Err(refused) => {
                let batch = refused.into_inner();
                self.failed += batch.len();
                self.pool.put(batch);
            }
        }
    }

    /// Whether an empty batch is here, or there are none at all and replies are refused anyway.
    pub(crate) fn has_room(&mut self) -> bool {
        self.pool.has_spare()
    }

    /// See [`Pool::settle_in`].
    pub(crate) fn settle_in(&mut self) {
        self.pool.settle_in();
    }

    /// Replies that found no room, since the last call.
    pub(crate) fn take_failed(&mut self) -> u64 {
        std::mem::take(&mut self.failed)
    }

    /// Ends the replies: the lanes are closed, the batches still come home.
    pub(crate) fn into_pool(self) -> Pool {
        self.pool
    }

    /// How many reply batches are not home.
    pub(crate) fn missing(&mut self) -> usize {
        self.pool.missing()
    }
}

/// What a call to [`Transmitter::pump`] left behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing to send.
    Idle,
    /// A send buffer is full; the backend watches for room. To be called again then, or after the
    /// given time, ns.
    Blocked {
        /// When the oldest waiting reply is given up.
        deadline_ns: u64,
    },
    /// No worker is left who could answer.
    Closed,
}

/// Peers whose path refuses segmented sends; a small table, the newest wins.
#[derive(Debug)]
struct Unsegmented([Option<SocketAddr>; 64]);

impl Unsegmented {
    fn slot(peer: SocketAddr) -> usize {
        let low = match peer.ip() {
            std::net::IpAddr::V4(v4) => v4.octets()[3],
            std::net::IpAddr::V6(v6) => v6.octets()[15],
        };
        usize::from(low ^ peer.port().to_le_bytes()[0]) % 64
    }

    fn contains(&self, peer: SocketAddr) -> bool {
        self.0[Self::slot(peer)] == Some(peer)
    }

    fn insert(&mut self, peer: SocketAddr) {
        self.0[Self::slot(peer)] = Some(peer);
    }
}

/// Sends what workers answered; belongs to one receiver.
#[derive(Debug)]
pub struct Transmitter {
    inbox: Receiver<Batch>,
    /// The way home, by owner.
    homes: Vec<Sender<Batch>>,
    sending: Option<(Batch, Cursor)>,
    results: Vec<Sent>,
    unsegmented: Unsegmented,
    /// The entry at the cursor is to be sent datagram by datagram, whatever the table has forgotten.
    split_next: bool,
    timeout_ns: u64,
    /// Since when the send buffer has been full. Once the deadline has passed it stays so until a
    /// send succeeds or nothing is left: every reply is tried once more, none waits anew.
    blocked_since_ns: Option<u64>,
}

impl Transmitter {
    /// `timeout_ns`: how long a reply may wait for room in the send buffer.
    #[must_use]
    pub fn new(inbox: Receiver<Batch>, homes: Vec<Sender<Batch>>, timeout_ns: u64) -> Self {
        Self {
            inbox,
            homes,
            sending: None,
            results: Vec::with_capacity(SENDS_MAX),
            unsegmented: Unsegmented([None; 64]),
            split_next: false,
            timeout_ns,
            blocked_since_ns: None,
        }
    }

    /// Whether replies are waiting to be pumped.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Sends all it can.
    ///
    /// # Errors
    /// The backend is unusable.
    pub fn pump<B: Tx>(
        &mut self,
        backend: &mut B,
        counts: &mut ReceiverCounts,
    ) -> io::Result<Pumped> {
        loop {
            let (mut batch, cursor) = match self.sending.take() {
                Some(sending) => sending,
                None => match self.inbox.try_recv() {
                    Ok(batch) => (batch, Cursor::default()),
                    Err(empty) => {
                        self.blocked_since_ns = None;
                        return Ok(match empty {
                            TryRecvError::Empty => Pumped::Idle,
                            TryRecvError::Disconnected => Pumped::Closed,
                        });
                    }
                },
            };
            if cursor.entry == batch.entries().len() {
                batch.clear();
                // The owner may have left; then the batch is not needed any more either.
                let _ = self.homes[usize::from(batch.owner)].send(batch);
                continue;
            }
            let first = batch.entries()[cursor.entry];
            let split = first.segment_bytes > 0
                && (std::mem::take(&mut self.split_next) || self.unsegmented.contains(first.peer));
            self.results.clear();
            let way = if split { SendOrder::Split } else { SendOrder::Free };
            backend.transmit(&batch, cursor, way, &mut self.results)?;
            let now_ns = backend.now_ns();
            let (cursor, full) = if split {
                self.settle_split(&batch, cursor, now_ns, counts)
            } else {
                self.settle(&mut batch, cursor, now_ns, counts)
            };
            self.sending = Some((batch, cursor));
            if full && let Some(since_ns) = self.blocked_since_ns {
                backend.await_writable(first.listener.into())?;
                return Ok(Pumped::Blocked { deadline_ns: since_ns + self.timeout_ns });
            }
        }
    }

    /// Gives up every reply that is left: the receiver was told to leave at once.
    pub fn abandon(&mut self, counts: &mut ReceiverCounts) {
        if let Some((batch, cursor)) = self.sending.take() {
            let left: u64 = batch.entries()[cursor.entry..].iter().map(datagrams_of).sum();
            let sent_of_first = batch.entries().get(cursor.entry).map_or(0, |entry| {
                cursor.offset.div_ceil(usize::from(entry.segment_bytes).max(1)) as u64
            });
            counts.replies_failed += left - sent_of_first;
        }
        counts.replies_failed += self.inbox.try_iter().map(|batch| batch.len()).sum::<u64>();
    }

    /// Accounts for one round of sends; what is to be tried again stays at the cursor. Returns
    /// whether that is for want of room.
    fn settle(
        &mut self,
        batch: &mut Batch,
        cursor: Cursor,
        now_ns: u64,
        counts: &mut ReceiverCounts,
    ) -> (Cursor, bool) {
        let (mut full, mut progressed) = (false, false);
        let mut first_kept = None;
        let results = std::mem::take(&mut self.results);
        let mut again = [false; SENDS_MAX];
        let expired = self.expired(now_ns);
        for (distance, sent) in results.iter().enumerate() {
            let entry = batch.entries()[cursor.entry + distance];
            let datagrams = datagrams_of(&entry);
            match verdict(*sent, entry.segment_bytes > 0) {
                Verdict::Sent => {
                    counts.replies_sent += datagrams;
                    progressed = true;
                }
                Verdict::Full if expired => counts.replies_timed_out += datagrams,
                Verdict::Full => {
                    again[distance] = true;
                    full = true;
                    first_kept.get_or_insert(Verdict::Full);
                }
                Verdict::TrainRefused => {
                    self.unsegmented.insert(entry.peer);
                    again[distance] = true;
                    first_kept.get_or_insert(Verdict::TrainRefused);
                }
                Verdict::Failed => counts.replies_failed += datagrams,
            }
        }
        self.note_blocked(full, progressed, now_ns);
        self.split_next = first_kept == Some(Verdict::TrainRefused);
        let entry = batch.keep_entries(cursor.entry, results.len(), |distance| again[distance]);
        self.results = results;
        (Cursor { entry, offset: 0 }, full)
    }

    /// The same for a train that was sent datagram by datagram.
    fn settle_split(
        &mut self,
        batch: &Batch,
        mut cursor: Cursor,
        now_ns: u64,
        counts: &mut ReceiverCounts,
    ) -> (Cursor, bool) {
        let entry = batch.entries()[cursor.entry];
        let expired = self.expired(now_ns);
        let (mut full, mut progressed) = (false, false);
        for sent in &self.results {
            match verdict(*sent, false) {
                Verdict::Full if !expired => {
                    full = true;
                    break;
                }
                Verdict::Full => counts.replies_timed_out += 1,
                Verdict::Sent => {
                    counts.replies_sent += 1;
                    progressed = true;
                }
                Verdict::TrainRefused | Verdict::Failed => counts.replies_failed += 1,
            }
            cursor.offset += usize::from(entry.segment_bytes);
        }
        self.note_blocked(full, progressed, now_ns);
        if cursor.offset >= entry.len as usize {
            cursor = Cursor { entry: cursor.entry + 1, offset: 0 };
        } else {
            self.split_next = true;
        }
        (cursor, full)
    }

    fn expired(&self, now_ns: u64) -> bool {
        self.blocked_since_ns.is_some_and(|since| now_ns >= since + self.timeout_ns)
    }

    fn note_blocked(&mut self, full: bool, progressed: bool, now_ns: u64) {
        if progressed {
            self.blocked_since_ns = None;
        }
        if full {
            self.blocked_since_ns.get_or_insert(now_ns);
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Verdict {
    Sent,
    /// No room in the send buffer now.
    Full,
    /// The path does not take segmented sends: a segment over the MTU (EMSGSIZE), no checksum
    /// offload (EIO), too many segments (EINVAL).
    TrainRefused,
    Failed,
}

fn verdict(sent: Sent, train: bool) -> Verdict {
    match sent {
        Sent::All => Verdict::Sent,
        Sent::Failed(libc::EAGAIN | libc::EINTR) => Verdict::Full,
        Sent::Failed(libc::EMSGSIZE | libc::EIO | libc::EINVAL) if train => Verdict::TrainRefused,
        Sent::Failed(_) => Verdict::Failed,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::sim::Sim;

    fn reply(payload: &[u8], port: u16) -> Frame<'_> {
        Frame::datagram(SocketAddr::from(([192, 0, 2, 1], port)), payload)
    }

    /// Peers that share a place in the table of unsegmented peers, all of whose paths refuse trains:
    /// each is forgotten as the next is noted, and still every datagram goes out.
    #[test]
    fn peers_that_push_each_other_out_of_the_table_are_all_answered() {
        let (sender, inbox) = crossbeam_channel::bounded(1);
        let (mut pool, home) = Pool::new(1, || Batch::new(4096, 16, 0));
        let mut batch = pool.take().unwrap();
        for port in [1000, 1064, 1128] {
            for _ in 0..2 {
                assert!(batch.push_reply(&reply(&[7; 100], port), LIMITS));
            }
        }
        sender.send(batch).unwrap();
        let mut transmitter = Transmitter::new(inbox, vec![home], 1_000_000_000);
        let mut counts = ReceiverCounts::default();
        let mut backend = Sim::refusing_trains();
        let pumped = transmitter.pump(&mut backend, &mut counts).unwrap();
        assert_eq!((pumped, counts.replies_sent), (Pumped::Idle, 6));
        assert_eq!(pool.missing(), 0);
    }

    /// A path that never has room: one deadline for all that waits, not one each.
    #[test]
    fn a_full_send_buffer_is_waited_for_once() {
        let (sender, inbox) = crossbeam_channel::bounded(1);
        let (mut pool, home) = Pool::new(1, || Batch::new(65_536, 512, 0));
        let mut batch = pool.take().unwrap();
        for port in 0..300 {
            assert!(batch.push_reply(&reply(b"x", port), LIMITS));
        }
        sender.send(batch).unwrap();
        let mut transmitter = Transmitter::new(inbox, vec![home], 1_000_000);
        let mut counts = ReceiverCounts::default();
        let mut backend = Sim::without_send_room();
        let Pumped::Blocked { deadline_ns } = transmitter.pump(&mut backend, &mut counts).unwrap()
        else {
            panic!("not blocked");
        };
        backend.advance_to(deadline_ns);
        assert_eq!(transmitter.pump(&mut backend, &mut counts).unwrap(), Pumped::Idle);
        assert_eq!((counts.replies_sent, counts.replies_timed_out), (0, 300));
    }
}
