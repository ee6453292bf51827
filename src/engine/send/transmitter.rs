//! The transmitter: the sending half of a receiver. It sends the replies that workers put into its inbox, and counts each
//! one once: sent, timed out, or failed.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;

use crossbeam_channel::{Receiver, Sender, TryRecvError};

use crate::backend::outgoing::SENDS_MAX;
use crate::backend::tx::{Cursor, SendOrder, Sent, Tx};
use crate::batch::arena::{Batch, Entry, datagrams_of};
use crate::count::counters::ReceiverCounts;
use crate::send::settle::{Judged, Next, SendOwner, Verdict, settle_round, settle_split};

/// The state in which [`Transmitter::pump`] left the replies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Pumped {
    /// Nothing is left to send.
    Idle,
    /// A send buffer is full, and the backend watches for room. Pump again then, or at the deadline.
    Blocked {
        /// When the oldest waiting reply is given up, ns on the backend's clock.
        deadline_ns: u64,
    },
    /// No worker is left who could reply.
    Closed,
}

/// Peers whose path refuses segmented sends. A small table; a newer peer takes the place of an older one.
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

/// Sends the replies of workers; belongs to one receiver.
#[derive(Debug)]
pub struct Transmitter {
    inbox: Receiver<Batch>,
    /// The pools that reply batches go home to, by owner.
    homes: Vec<Sender<Batch>>,
    /// The batch being sent, and the first entry that is not settled.
    sending: Option<(Batch, Cursor)>,
    results: Vec<Sent>,
    unsegmented: Unsegmented,
    /// The entry at the cursor must be sent datagram by datagram, even if the table has forgotten its peer.
    split_next: bool,
    timeout_ns: u64,
    /// Since when the send buffer has been full. After the deadline this stays set until a send succeeds or nothing is
    /// left: every reply is tried once more, none waits anew.
    blocked_since_ns: Option<u64>,
}

/// The accounts of one round of replies.
struct Accounts<'a> {
    batch: &'a Batch,
    counts: &'a mut ReceiverCounts,
    unsegmented: &'a mut Unsegmented,
    /// Whether the wait for room is over.
    expired: bool,
    /// Whether a reply was sent.
    progressed: bool,
}

impl SendOwner for Accounts<'_> {
    type Error = Infallible;

    fn entry(&self, index: usize) -> Entry {
        self.batch.entries()[index]
    }

    fn judge(&mut self, send: Judged) -> Result<Next, Infallible> {
        match send.verdict {
            Verdict::Sent => {
                self.counts.replies_sent += send.datagrams;
                self.progressed = true;
            }
            Verdict::Full | Verdict::Interrupted if !self.expired => return Ok(Next::Full),
            Verdict::Full | Verdict::Interrupted => self.counts.replies_timed_out += send.datagrams,
            Verdict::TrainRefused => {
                self.unsegmented.insert(self.batch.entries()[send.entry].peer);
                return Ok(Next::Again);
            }
            Verdict::Failed(_) => self.counts.replies_failed += send.datagrams,
        }
        Ok(Next::Settled)
    }
}

impl Transmitter {
    /// Returns a transmitter of the replies in `inbox`. `timeout_ns`: how long a reply may wait for room in the send
    /// buffer.
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

    /// Returns whether replies wait in the inbox.
    #[must_use]
    pub fn has_mail(&self) -> bool {
        !self.inbox.is_empty()
    }

    /// Sends as many replies as the send buffers take.
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
            let order = if split { SendOrder::Split } else { SendOrder::Free };
            backend.transmit(&batch, cursor, order, &mut self.results)?;
            let now_ns = backend.now_ns();
            let (cursor, full) = self.settle(&mut batch, cursor, split, (now_ns, counts));
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

    /// Settles one round; replies to be tried again stay at the cursor returned. Returns whether one of them waits for
    /// room.
    fn settle(
        &mut self,
        batch: &mut Batch,
        cursor: Cursor,
        split: bool,
        (now_ns, counts): (u64, &mut ReceiverCounts),
    ) -> (Cursor, bool) {
        let expired = self.blocked_since_ns.is_some_and(|since| now_ns >= since + self.timeout_ns);
        let unsegmented = &mut self.unsegmented;
        let mut accounts = Accounts { batch, counts, unsegmented, expired, progressed: false };
        let (cursor, full, progressed) = if split {
            let settled = settle_split(&mut accounts, cursor, &self.results);
            let progressed = accounts.progressed;
            let Ok((cursor, full)) = settled;
            self.split_next = cursor.offset > 0 || full.is_some();
            (cursor, full.is_some(), progressed)
        } else {
            let settled = settle_round(&mut accounts, cursor, &self.results);
            let progressed = accounts.progressed;
            let Ok(round) = settled;
            self.split_next = round.first_kept == Some(Verdict::TrainRefused);
            let again = |distance: usize| round.again[distance];
            let entry = batch.keep_entries(cursor.entry, round.tried, again);
            (Cursor { entry, offset: 0 }, round.full.is_some(), progressed)
        };
        if progressed {
            self.blocked_since_ns = None;
        }
        if full {
            self.blocked_since_ns.get_or_insert(now_ns);
        }
        (cursor, full)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::backend::sim::Sim;
    use crate::batch::arena::{Frame, TrainLimits};
    use crate::batch::pool::Pool;

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
                assert!(batch.push_reply(&reply(&[7; 100], port), TrainLimits::KERNEL));
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
            assert!(batch.push_reply(&reply(b"x", port), TrainLimits::KERNEL));
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
