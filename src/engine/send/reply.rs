//! Replies: the way back from a handler to a peer.
//!
//! ```text
//!  worker: Replies ── reply batch ──► queue ──► receiver: Transmitter ──► sendmsg, UDP_SEGMENT
//!             ▲                                          │
//!             └───────────── pool of reply batches ◄─────┘
//! ```
//!
//! A reply leaves through the receiver, and so from the address, that its datagram came to. Equal-sized replies to one
//! peer in a row become one segmented send.

use std::sync::Arc;

use crossbeam_channel::Sender;

use crate::batch::arena::{Batch, Datagram, Frame, TrainLimits};
use crate::batch::pool::Pool;
use crate::sync::waker::{REPLIES, Waker};
use crate::wire::headers::Headers;
use crate::wire::limits::PAYLOAD_BYTES_MAX;
use crate::wire::path::Path;

/// The way of a worker's replies to one receiver.
#[derive(Clone, Debug)]
pub struct ReplyLane {
    /// The receiver's inbox.
    pub inbox: Sender<Batch>,
    /// Wakes the receiver after a batch was put there.
    pub waker: Arc<Waker>,
}

/// Takes a handler's replies.
#[derive(Debug)]
pub struct Replies {
    pool: Pool,
    lanes: Vec<ReplyLane>,
    open: Option<Batch>,
    /// The receiver that the open batch leaves through.
    receiver: u16,
    /// Whether to wait for an empty batch. Not on a receiver's own thread, which would wait for itself.
    waits: bool,
    failed: u64,
}

impl Replies {
    /// Returns the replies of one handler. `lanes`: one for each receiver; `waits`: whether to wait for an empty batch.
    #[must_use]
    pub fn new(pool: Pool, lanes: Vec<ReplyLane>, waits: bool) -> Self {
        Self { pool, lanes, open: None, receiver: 0, waits, failed: 0 }
    }

    /// Sends `payload` back to the peer of a datagram, from the address the datagram was sent to. As
    /// [`send_to`](Self::send_to).
    pub fn send(&mut self, to: &Datagram<'_>, payload: &[u8]) -> bool {
        self.send_to(&to.path(), payload)
    }

    /// Sends `payload` on a [path](Datagram::path) that a datagram came on before. Returns whether the reply was taken; a
    /// reply that was not (longer than 65507 bytes, no room for replies) is counted as failed.
    ///
    /// Taken is not sent: the summary shows how many the kernel took, and a datagram that the kernel took may still be
    /// lost.
    pub fn send_to(&mut self, path: &Path, payload: &[u8]) -> bool {
        if path.receiver != self.receiver {
            self.begin(path.receiver);
        }
        let frame = Frame::datagram(path.peer, payload)
            .at_listener(path.listener.into())
            .with_headers(Headers::from(path.local));
        let known = usize::from(path.receiver) < self.lanes.len();
        let taken = known && payload.len() <= PAYLOAD_BYTES_MAX && self.put(&frame);
        if !taken {
            self.failed += 1;
        }
        taken
    }

    fn put(&mut self, frame: &Frame<'_>) -> bool {
        if let Some(open) = &mut self.open {
            if open.push_reply(frame, TrainLimits::KERNEL) {
                return true;
            }
            self.flush();
        }
        let fresh = if self.waits { self.pool.take_waiting() } else { self.pool.take() };
        let Some(mut fresh) = fresh else { return false };
        fresh.open(self.receiver, 0);
        let taken = fresh.push_reply(frame, TrainLimits::KERNEL);
        self.open = Some(fresh);
        taken
    }

    /// Turns to another receiver: replies from now on leave through it.
    pub(crate) fn begin(&mut self, receiver: u16) {
        self.flush();
        self.receiver = receiver;
    }

    /// Hands the open batch to its receiver.
    pub(crate) fn flush(&mut self) {
        let Some(batch) = self.open.take() else { return };
        if batch.is_empty() {
            return self.pool.put(batch);
        }
        let lane = &self.lanes[usize::from(self.receiver)];
        // The inbox has room for every reply batch there is, so it is never full. It is closed only if the receiver has
        // left for good.
        match lane.inbox.try_send(batch) {
            Ok(()) => lane.waker.poke(REPLIES),
            Err(refused) => {
                let batch = refused.into_inner();
                self.failed += batch.len();
                self.pool.put(batch);
            }
        }
    }

    /// Returns whether an empty batch is here, or none exist at all and replies are refused anyway.
    pub(crate) fn has_room(&mut self) -> bool {
        self.pool.has_spare()
    }

    /// See [`Pool::settle_in`].
    pub(crate) fn settle_in(&mut self) {
        self.pool.settle_in();
    }

    /// Returns how many replies were refused since the last call.
    pub(crate) fn take_failed(&mut self) -> u64 {
        std::mem::take(&mut self.failed)
    }

    /// Closes the lanes; returns the pool, to which batches still come home.
    pub(crate) fn into_pool(self) -> Pool {
        self.pool
    }

    /// Returns how many reply batches are not home.
    pub(crate) fn missing(&mut self) -> usize {
        self.pool.missing()
    }
}
