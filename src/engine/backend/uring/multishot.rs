//! The receiving half of a ring: one multishot recvmsg a socket, and the slots that they share.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use io_uring::types::CancelBuilder;
use io_uring::{cqueue, opcode};

use crate::backend::outgoing::{SENDS_MAX, empty_header};
use crate::backend::rx::{Arm, Completion, Outcome, Rx};
use crate::backend::uring::recv_header::{RecvOut, head_bytes};
use crate::backend::uring::ring::{Receives, Ring};
use crate::backend::uring::setup::{RingSize, SLOTS_GROUP};
use crate::backend::uring::slots::Slots;
use crate::backend::uring::tag::Tag;
use crate::batch::arena::Frame;
use crate::socket::endpoint::Endpoint;
use crate::sync::waker::Waker;
use crate::wire::cmsg;
use crate::wire::cmsg::Asked;
use crate::wire::sockaddr;
use crate::wire::sockaddr::NAME_ROOM;

/// Most entries of a completion queue (IORING_MAX_CQ_ENTRIES). A ring with more than half as many slots could overflow it,
/// which is handled.
const CQ_ENTRIES_MAX: usize = 65_536;

/// A completion of a receive, as the ring brought it.
#[derive(Clone, Copy, Debug)]
struct Received {
    listener: usize,
    result: i32,
    flags: u32,
}

/// The receives of a ring.
pub struct Multishots<S> {
    slots: Slots,
    /// The header that every multishot is armed with. The kernel reads it while one is armed.
    template: Box<libc::msghdr>,
    pending: VecDeque<Received>,
    listeners: Vec<S>,
    /// Wakes the thread; `None`: no other thread ever needs to.
    waker: Option<Arc<Waker>>,
    /// Listeners whose receive the kernel holds.
    armed: Vec<bool>,
}

impl<S: std::fmt::Debug> std::fmt::Debug for Multishots<S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Multishots").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl<S: Endpoint> Ring<Multishots<S>> {
    /// Sets up a ring with slots and waker. Call it on the thread that will use it (`SINGLE_ISSUER`).
    ///
    /// # Errors
    /// The step that failed, and the kernel's error.
    pub fn new(
        listeners: Vec<S>,
        waker: Option<Arc<Waker>>,
        size: RingSize,
    ) -> Result<Self, (&'static str, io::Error)> {
        let asked = listeners.iter().map(Endpoint::asked).fold(Asked::default(), Asked::or);
        let sq_entries = (SENDS_MAX + 2 * listeners.len() + 4).next_power_of_two();
        let sq_entries =
            if size.cq_entries > 0 { sq_entries.min(size.cq_entries as usize) } else { sq_entries };
        let roomy = 2 * usize::from(size.slots) + sq_entries + 2 * listeners.len();
        let cq_entries = match size.cq_entries {
            0 => roomy.min(CQ_ENTRIES_MAX),
            fixed => fixed as usize,
        };
        let slots = Slots::new(size.slots, head_bytes(asked))
            .map_err(|error| ("mmap(2) of slots", error))?;
        let mut template = Box::new(empty_header());
        template.msg_namelen = NAME_ROOM;
        template.msg_controllen = cmsg::receive_room_bytes(asked);
        let waker_fd = waker.as_ref().map(|waker| waker.as_fd().as_raw_fd());
        let registered = (slots.ring_address(), slots.count());
        let receives = Multishots {
            slots,
            template,
            pending: VecDeque::with_capacity(usize::from(size.slots) + 4 * listeners.len() + 8),
            armed: vec![false; listeners.len()],
            listeners,
            waker,
        };
        Self::build(receives, (sq_entries, cq_entries), waker_fd, Some(registered))
    }
}

impl<S: Endpoint> Receives for Multishots<S> {
    type Socket = S;

    fn sockets(&mut self) -> &mut [S] {
        &mut self.listeners
    }

    #[inline]
    fn publish(&mut self) {
        self.slots.publish();
    }

    #[inline]
    fn waiting(&self) -> usize {
        self.pending.len()
    }

    #[inline]
    fn completed(&mut self, listener: usize, result: i32, flags: u32) {
        if !cqueue::more(flags) {
            self.armed[listener] = false;
        }
        if cqueue::buffer_select(flags).is_some() {
            self.slots.taken();
        }
        self.pending.push_back(Received { listener, result, flags });
    }

    fn clear_waker(&mut self) {
        if let Some(waker) = &self.waker {
            waker.clear();
        }
    }

    fn discard(&mut self) -> bool {
        self.pending.clear();
        self.armed.contains(&true)
    }
}

impl<S> Multishots<S> {
    fn parse(&self, received: Received) -> Outcome<'_> {
        let Ok(len) = usize::try_from(received.result) else {
            return Outcome::Failed(-received.result);
        };
        let slot = cqueue::buffer_select(received.flags).map(|id| self.slots.bytes(id, len));
        let control_room = self.template.msg_controllen;
        let Some(out) = slot.and_then(|bytes| RecvOut::parse(bytes, control_room)) else {
            return Outcome::Failed(libc::EBADMSG);
        };
        let control = cmsg::parse(out.control);
        let peer = sockaddr::decode(out.name).unwrap_or_else(sockaddr::unspecified);
        Outcome::Frame(
            Frame::datagram(peer, out.payload)
                .at_listener(received.listener)
                .in_segments(control.segment_bytes)
                .with_headers(control.headers)
                .with_kernel_unix_ns(control.kernel_unix_ns)
                .with_truncated(out.truncated),
        )
    }
}

impl<S: Endpoint> Rx for Ring<Multishots<S>> {
    fn arm(&mut self, listener: usize, arm: Arm) -> io::Result<()> {
        // A multishot with MSG_DONTWAIT hands over what is there, at most 33 datagrams, and ends with EAGAIN.
        let flags = match arm {
            Arm::Listen => 0,
            Arm::Drain => libc::MSG_DONTWAIT as u32,
        };
        let template = &raw const *self.receives.template;
        let receive = opcode::RecvMsgMulti::new(Self::fixed(listener), template, SLOTS_GROUP)
            .flags(flags)
            .build()
            .user_data(Tag::Receive(listener).encode());
        self.push(&receive)?;
        self.receives.armed[listener] = true;
        Ok(())
    }

    fn disarm(&mut self, listener: usize) -> io::Result<()> {
        let target = CancelBuilder::user_data(Tag::Receive(listener).encode());
        let cancel = opcode::AsyncCancel2::new(target).build().user_data(Tag::Cancel.encode());
        self.push(&cancel)
    }

    #[inline]
    fn peek(&mut self) -> Option<Completion<'_>> {
        let received = *self.receives.pending.front()?;
        let more = cqueue::more(received.flags);
        let outcome = self.receives.parse(received);
        Some(Completion { listener: received.listener, outcome, more })
    }

    #[inline]
    fn release(&mut self) {
        if let Some(received) = self.receives.pending.pop_front()
            && let Some(id) = cqueue::buffer_select(received.flags)
        {
            self.receives.slots.give_back(id);
        }
    }

    fn slots_free(&self) -> usize {
        self.receives.slots.free()
    }

    fn overflows(&self) -> u64 {
        self.overflow_count()
    }

    fn can_gather(&self) -> bool {
        self.gathers()
    }

    fn listeners(&self) -> usize {
        self.receives.listeners.len()
    }
}
