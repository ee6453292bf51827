//! The io_uring backend: one ring, one multishot recvmsg per socket, one set of slots.
//!
//! What is set up, and why (every flag was measured, see the project's docs):
//! - `SINGLE_ISSUER | DEFER_TASKRUN` (Linux 6.1): completions are made only while we are in
//!   `enter`, so nothing interrupts the copying, and after a kill -9 unread datagrams are still in
//!   the socket.
//! - `CQSIZE`: room for every slot's completion and for a round of sends; an overflow would end
//!   the multishots.
//! - `SUBMIT_ALL`: one refused SQE does not hold back the others.
//! - registered files: no descriptor look-up per operation.
//!
//! Every enter carries GETEVENTS: without it DEFER_TASKRUN never runs what is due.
#![expect(unsafe_code, reason = "submission entries carry raw pointers")]

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::Arc;

use io_uring::types::{CancelBuilder, Fixed, Napi, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use crate::backend::interface::{Arm, Backend, Completion, Cursor, Outcome, SendOrder, Sent, Wait};
use crate::backend::outgoing::{Outgoing, SENDS_MAX, SendSocket, empty_header};
use crate::backend::uring::recv_header::{RecvOut, head_bytes};
use crate::backend::uring::setup::{Features, RingSize, build_ring};
use crate::backend::uring::slots::Slots;
use crate::backend::uring::tag::Tag;
use crate::batch::arena::{Batch, Frame};
use crate::socket::listener::Listener;
use crate::sync::waker::Waker;
use crate::wire::cmsg;
use crate::wire::cmsg::Asked;
use crate::wire::sockaddr;
use crate::wire::sockaddr::NAME_ROOM;

/// IORING_MAX_CQ_ENTRIES. With more slots than half of it an overflow is possible, and handled.
const CQ_ENTRIES_MAX: usize = 65_536;
/// The buffer group our slots are registered as.
const SLOTS_GROUP: u16 = 0;
/// How many completions of gathered datagrams end a wait early. Deferred work of one multishot
/// counts as one however many datagrams are behind it, so in practice the wait runs its time.
const GATHER_WANT: usize = 1024;

#[derive(Clone, Copy, Debug)]
struct Received {
    listener: usize,
    result: i32,
    flags: u32,
}

/// See the module's description. Drop order is field order: the ring goes first and takes the
/// kernel's hold on everything below with it.
pub struct Ring {
    ring: IoUring,
    slots: Slots,
    /// What every multishot was armed with; the kernel reads it while one is armed.
    template: Box<libc::msghdr>,
    outgoing: Outgoing,
    pending: VecDeque<Received>,
    send_results: Vec<Option<i32>>,
    listeners: Vec<Listener>,
    doors: Vec<SendSocket>,
    waker: Arc<Waker>,
    /// Receives the kernel holds.
    armed: Vec<bool>,
    can_gather: bool,
    overflows: u64,
    /// A socket has become writable since it was last asked.
    writable: bool,
    /// Listeners with a poll for writability in the kernel.
    awaiting: Vec<bool>,
    /// The ring is being taken down: nothing is armed again.
    closing: bool,
    /// A wake-up, writability or anything else but datagrams came in the last enter.
    woken: bool,
}

impl std::fmt::Debug for Ring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

impl Ring {
    /// Sets up ring, slots and waker. Call it on the thread that will use it (`SINGLE_ISSUER`).
    ///
    /// # Errors
    /// Which step failed, and what the kernel said.
    pub fn new(
        listeners: Vec<Listener>,
        waker: Arc<Waker>,
        size: RingSize,
    ) -> Result<Self, (&'static str, io::Error)> {
        let asked = listeners.iter().map(Listener::asked).fold(Asked::default(), Asked::or);
        let head = head_bytes(asked);
        let sq_entries = (SENDS_MAX + 2 * listeners.len() + 4).next_power_of_two();
        let sq_entries =
            if size.cq_entries > 0 { sq_entries.min(size.cq_entries as usize) } else { sq_entries };
        let roomy = 2 * usize::from(size.slots) + sq_entries + 2 * listeners.len();
        let cq_entries = match size.cq_entries {
            0 => u32::try_from(roomy.min(CQ_ENTRIES_MAX)).unwrap_or(u32::MAX),
            fixed => fixed,
        };
        let slots = Slots::new(size.slots, head).map_err(|error| ("mmap(2) of slots", error))?;
        let ring = build_ring(u32::try_from(sq_entries).unwrap_or(u32::MAX), cq_entries)
            .map_err(|error| ("io_uring_setup(2)", error))?;
        let mut fds: Vec<_> = listeners.iter().map(AsRawFd::as_raw_fd).collect();
        fds.push(waker.as_fd().as_raw_fd());
        ring.submitter().register_files(&fds).map_err(|error| ("register files", error))?;
        // SAFETY: the buffer ring lives in `slots`, which is dropped after `ring`.
        unsafe {
            ring.submitter().register_buf_ring_with_flags(
                slots.ring_address(),
                slots.count(),
                SLOTS_GROUP,
                0,
            )
        }
        .map_err(|error| ("register slots", error))?;
        // Dynamic tracking: the ring polls whatever device its sockets' datagrams come from.
        if let Some(us) = listeners.iter().find_map(Listener::busy_poll_us) {
            let mut napi = Napi::new().set_busy_poll_timeout(us);
            ring.submitter()
                .register_napi(&mut napi)
                .map_err(|error| ("busy polling (IORING_REGISTER_NAPI, Linux 6.9)", error))?;
        }
        let mut template = Box::new(empty_header());
        template.msg_namelen = NAME_ROOM;
        template.msg_controllen = cmsg::receive_room_bytes(asked);
        let can_gather = ring.params().is_feature_min_timeout();
        let doors = listeners.iter().map(SendSocket::of).collect();
        let listener_count = listeners.len();
        let mut this = Self {
            pending: VecDeque::with_capacity(usize::from(size.slots) + 4 * listeners.len() + 8),
            send_results: vec![None; SENDS_MAX],
            armed: vec![false; listeners.len()],
            outgoing: Outgoing::new(),
            doors,
            overflows: 0,
            woken: false,
            closing: false,
            writable: false,
            awaiting: vec![false; listener_count],
            ring,
            slots,
            template,
            listeners,
            waker,
            can_gather,
        };
        this.watch_waker().map_err(|error| ("arm waker", error))?;
        Ok(this)
    }

    fn watch_waker(&mut self) -> io::Result<()> {
        let fixed = Fixed(u32::try_from(self.listeners.len()).unwrap_or(u32::MAX));
        let poll = opcode::PollAdd::new(fixed, libc::POLLIN as u32).multi(true);
        self.push(&poll.build().user_data(Tag::Wake.encode()))
    }

    /// Puts an entry on the submission queue, making room by a submit if it is full.
    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entry points to (template, headers, payloads) stays in place until its
        // last completion: receives end before drop ends, sends are awaited in `transmit`.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.enter_kernel(Wait::Poll)?;
        self.reap()?;
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)
    }

    fn fixed(listener: usize) -> Fixed {
        Fixed(u32::try_from(listener).unwrap_or(u32::MAX))
    }

    /// One io_uring_enter(2), always with GETEVENTS.
    fn enter_kernel(&mut self, wait: Wait) -> io::Result<()> {
        let entered = match wait {
            Wait::Poll => {
                let to_submit = u32::try_from(self.ring.submission().len()).unwrap_or(u32::MAX);
                let flags = EnterFlags::GETEVENTS.bits();
                // SAFETY: no argument is passed; the entries' pointers are good, see `push`.
                unsafe { self.ring.submitter().enter::<libc::sigset_t>(to_submit, 0, flags, None) }
            }
            Wait::Sleep { gather_us, timeout_ns, .. } => {
                let timeout = Timespec::from(std::time::Duration::from_nanos(timeout_ns));
                let args = SubmitArgs::new().timespec(&timeout);
                if gather_us > 0 && self.can_gather {
                    let args = args.min_wait_usec(gather_us);
                    self.ring.submitter().submit_with_args(GATHER_WANT, &args)
                } else {
                    self.ring.submitter().submit_with_args(1, &args)
                }
            }
        };
        match entered.map_err(|error| (error.raw_os_error(), error)) {
            // ETIME: the timeout. EINTR: a signal. EBUSY, EAGAIN: the completion queue must be
            // read before more can be submitted, which is what comes next.
            Ok(_) | Err((Some(libc::ETIME | libc::EINTR | libc::EBUSY | libc::EAGAIN), _)) => {
                Ok(())
            }
            Err((_, error)) => Err(error),
        }
    }

    /// Takes everything off the completion queue and sorts it.
    fn reap(&mut self) -> io::Result<()> {
        if self.ring.submission().cq_overflow() {
            self.overflows += 1;
        }
        let mut watch_waker = false;
        for cqe in self.ring.completion() {
            match Tag::decode(cqe.user_data()) {
                Tag::Receive(listener) => {
                    if !cqueue::more(cqe.flags()) {
                        self.armed[listener] = false;
                    }
                    if cqueue::buffer_select(cqe.flags()).is_some() {
                        self.slots.taken();
                    }
                    let (result, flags) = (cqe.result(), cqe.flags());
                    self.pending.push_back(Received { listener, result, flags });
                }
                Tag::Wake => {
                    self.waker.clear();
                    self.woken = true;
                    watch_waker |= !cqueue::more(cqe.flags());
                }
                Tag::Send(index) => {
                    if let Some(result) = self.send_results.get_mut(index) {
                        *result = Some(cqe.result());
                    }
                }
                Tag::Writable(listener) => {
                    self.awaiting[listener] = false;
                    self.writable = true;
                    self.woken = true;
                }
                Tag::Cancel => {}
            }
        }
        if watch_waker && !self.closing { self.watch_waker() } else { Ok(()) }
    }

    /// Cancels all there is and awaits the end of every receive. Bounded: a cancelled receive ends in the same enter,
    /// or in the next.
    fn end_receives(&mut self) -> io::Result<()> {
        self.closing = true;
        // Everything, polls included: before Linux 6.13 unregistering files waits for what uses them.
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any());
        self.push(&cancel.build().user_data(Tag::Cancel.encode()))?;
        self.enter_kernel(Wait::Poll)?;
        self.reap()?;
        for _ in 0..64 {
            if !self.armed.contains(&true) {
                break;
            }
            self.pending.clear();
            let wait = Wait::Sleep { gather_us: 0, timeout_ns: 10_000_000, frames: true };
            self.enter_kernel(wait)?;
            self.reap()?;
        }
        Ok(())
    }

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

impl Backend for Ring {
    fn arm(&mut self, listener: usize, arm: Arm) -> io::Result<()> {
        // A multishot with MSG_DONTWAIT hands over what is there, at most 33 datagrams, and ends
        // with EAGAIN.
        let flags = match arm {
            Arm::Listen => 0,
            Arm::Drain => libc::MSG_DONTWAIT as u32,
        };
        let receive = opcode::RecvMsgMulti::new(
            Self::fixed(listener),
            &raw const *self.template,
            SLOTS_GROUP,
        )
        .flags(flags)
        .build()
        .user_data(Tag::Receive(listener).encode());
        self.push(&receive)?;
        self.armed[listener] = true;
        Ok(())
    }

    fn disarm(&mut self, listener: usize) -> io::Result<()> {
        let target = CancelBuilder::user_data(Tag::Receive(listener).encode());
        let cancel = opcode::AsyncCancel2::new(target).build().user_data(Tag::Cancel.encode());
        self.push(&cancel)
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.slots.publish();
        let frames = !matches!(wait, Wait::Sleep { frames: false, .. });
        // Sends reap too: what arrived meanwhile is here already, and nothing would wake us for it.
        let wait = if frames && !self.pending.is_empty() { Wait::Poll } else { wait };
        let entered_ns = self.now_ns();
        let mut left = wait;
        loop {
            self.woken = false;
            let before = self.pending.len();
            self.enter_kernel(left)?;
            self.reap()?;
            // A stalled receiver's multishots go on filling slots, at most one each: not what it
            // waits for, so sleep again.
            let only_frames = self.pending.len() > before && !self.woken;
            let Wait::Sleep { gather_us, timeout_ns, .. } = wait else { return Ok(()) };
            let slept_ns = if frames { 0 } else { self.now_ns() - entered_ns };
            if frames || !only_frames || slept_ns >= timeout_ns {
                return Ok(());
            }
            left = Wait::Sleep { gather_us, timeout_ns: timeout_ns - slept_ns, frames };
        }
    }

    fn peek(&mut self) -> Option<Completion<'_>> {
        let received = *self.pending.front()?;
        let more = cqueue::more(received.flags);
        Some(Completion { listener: received.listener, outcome: self.parse(received), more })
    }

    fn release(&mut self) {
        if let Some(received) = self.pending.pop_front()
            && let Some(id) = cqueue::buffer_select(received.flags)
        {
            self.slots.give_back(id);
        }
    }

    fn slots_free(&self) -> usize {
        self.slots.free()
    }

    fn overflows(&self) -> u64 {
        self.overflows
    }

    fn can_gather(&self) -> bool {
        self.can_gather
    }

    fn transmit(
        &mut self,
        batch: &Batch,
        from: Cursor,
        way: SendOrder,
        results: &mut Vec<Sent>,
    ) -> io::Result<()> {
        self.outgoing.prepare(batch, from, way, &self.doors);
        let mut count = self.outgoing.len();
        let chained = way != SendOrder::Free;
        if chained {
            // A chain must be submitted as one, or a piece could be sent after one that was not.
            let (capacity, used) = {
                let queue = self.ring.submission();
                (queue.capacity(), queue.len())
            };
            count = count.min(capacity);
            if capacity - used < count {
                self.enter_kernel(Wait::Poll)?;
                self.reap()?;
            }
        }
        self.send_results[..count].fill(None);
        for index in 0..count {
            let fixed = Self::fixed(self.outgoing.listener(index));
            // MSG_DONTWAIT: a full send buffer is EAGAIN at once, never a poll inside the kernel.
            let mut send = opcode::SendMsg::new(fixed, self.outgoing.header(index))
                .flags(libc::MSG_DONTWAIT as u32)
                .build()
                .user_data(Tag::Send(index).encode());
            if chained && index + 1 < count {
                send = send.flags(squeue::Flags::IO_LINK);
            }
            self.push(&send)?;
        }
        // Every send is awaited before the batch and the headers may change. With MSG_DONTWAIT
        // they complete inside the submission, so this does not sleep.
        self.enter_kernel(Wait::Poll)?;
        self.reap()?;
        while self.send_results[..count].contains(&None) {
            self.enter_kernel(Wait::Sleep { gather_us: 0, timeout_ns: 1_000_000, frames: true })?;
            self.reap()?;
        }
        for result in self.send_results[..count].iter().flatten() {
            match *result {
                // What a failed link cancelled was not sent and has no verdict of its own.
                error if chained && error == -libc::ECANCELED => {}
                error if error < 0 => results.push(Sent::Failed(-error)),
                _ => results.push(Sent::All),
            }
        }
        Ok(())
    }

    fn await_writable(&mut self, listener: usize) -> io::Result<()> {
        // One at a time: this is asked every turn, and each poll would stay until there is room.
        if std::mem::replace(&mut self.awaiting[listener], true) {
            return Ok(());
        }
        let poll = opcode::PollAdd::new(Self::fixed(listener), libc::POLLOUT as u32);
        self.push(&poll.build().user_data(Tag::Writable(listener).encode()))
    }

    fn take_writable(&mut self) -> bool {
        std::mem::take(&mut self.writable)
    }

    fn sockets(&mut self) -> &mut [Listener] {
        &mut self.listeners
    }

    fn listeners(&self) -> usize {
        self.listeners.len()
    }
}

impl Drop for Ring {
    /// An armed multishot may write into slots: cancel every one and await its last completion
    /// before the memory goes. Then let go of the registered sockets: the kernel tears a ring down
    /// some time after its descriptor is closed, and until then their ports would stay taken.
    fn drop(&mut self) {
        // A ring that cannot be entered any more cannot write either.
        let _ = self.end_receives();
        let _ = self.ring.submitter().unregister_files();
    }
}

/// Receives one datagram on `socket` with a multishot, as the probe's proof. `send` makes one
/// arrive.
pub(crate) fn try_multishot(
    socket: &impl AsRawFd,
    send: impl FnOnce() -> io::Result<()>,
) -> Result<Features, (&'static str, io::Error)> {
    let slots = Slots::new(2, head_bytes(Asked::default())).map_err(|e| ("mmap(2)", e))?;
    let template = Box::new(empty_header());
    let mut ring = build_ring(4, 8).map_err(|error| ("io_uring_setup(2)", error))?;
    // SAFETY: the buffer ring lives in `slots`, declared before the ring and so dropped after it.
    unsafe {
        let (address, count) = (slots.ring_address(), slots.count());
        ring.submitter().register_buf_ring_with_flags(address, count, SLOTS_GROUP, 0)
    }
    .map_err(|error| ("provided buffer ring", error))?;
    let fd = io_uring::types::Fd(socket.as_raw_fd());
    let receive = opcode::RecvMsgMulti::new(fd, &raw const *template, SLOTS_GROUP).build();
    // SAFETY: template and slots are declared before the ring and so outlive it.
    unsafe { ring.submission().push(&receive) }.map_err(|e| ("submission", io::Error::other(e)))?;
    send().map_err(|error| ("send(2)", error))?;
    let timeout = Timespec::new().sec(1);
    let entered = ring.submitter().submit_with_args(1, &SubmitArgs::new().timespec(&timeout));
    let cqe = ring.completion().next();
    let min_wait = ring.params().is_feature_min_timeout();
    match (entered, cqe) {
        (_, Some(cqe)) if cqe.result() > 0 && cqueue::more(cqe.flags()) => {
            Ok(Features { min_wait })
        }
        (_, Some(cqe)) if cqe.result() < 0 => {
            Err(("multishot recvmsg", io::Error::from_raw_os_error(-cqe.result())))
        }
        (Err(error), None) => Err(("io_uring_enter(2)", error)),
        _ => Err(("multishot recvmsg", io::Error::from_raw_os_error(libc::EINVAL))),
    }
}
