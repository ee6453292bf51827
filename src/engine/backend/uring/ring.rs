//! A ring: it submits and completes, and sends. Its receiving half is `Multishots`, or
//! nothing in a ring that only sends (`SendOnly`): such a ring has no slots and no waker.
//!
//! Set up with (every flag was measured, see the project's docs):
//! - `SINGLE_ISSUER | DEFER_TASKRUN` (Linux 6.1): completions are made only inside `enter`, so nothing interrupts the
//!   copying, and after a kill -9 unread datagrams are still in the socket.
//! - `CQSIZE`: room for every slot's completion and for a round of sends; an overflow would end the multishots.
//! - `SUBMIT_ALL`: a refused submission entry does not hold back the others.
//! - registered files: no descriptor look-up for each operation.
//!
//! Every enter carries GETEVENTS: without it DEFER_TASKRUN never runs deferred work.
#![expect(unsafe_code, reason = "submission entries carry raw pointers")]

use std::io;
use std::os::fd::{AsFd, AsRawFd, RawFd};

use io_uring::types::{CancelBuilder, Fixed, Napi, SubmitArgs, Timespec};
use io_uring::{EnterFlags, IoUring, cqueue, opcode, squeue};

use crate::backend::enter::{Enter, Wait};
use crate::backend::outgoing::{Outgoing, SENDS_MAX, SendSocket, empty_header};
use crate::backend::sockets::Sockets;
use crate::backend::tx::{Cursor, SendOrder, Sent, Tx};
use crate::backend::uring::recv_header::head_bytes;
use crate::backend::uring::setup::{Features, SLOTS_GROUP, build_ring};
use crate::backend::uring::slots::Slots;
use crate::backend::uring::tag::Tag;
use crate::batch::arena::Batch;
use crate::socket::endpoint::Endpoint;
use crate::socket::meminfo;
use crate::wire::cmsg::Asked;

/// Completions of gathered datagrams that end a wait early. Deferred work of one multishot counts as one completion
/// however many datagrams it brings, so in practice a wait runs its full time.
const GATHER_WANT: usize = 1024;

/// The receiving half of a ring.
pub trait Receives {
    /// The type of the sockets.
    type Socket: Endpoint;

    /// Returns the sockets.
    fn sockets(&mut self) -> &mut [Self::Socket];

    /// Shows released slots to the kernel.
    fn publish(&mut self);

    /// Returns how many completions wait to be released.
    fn waiting(&self) -> usize;

    /// Notes a completion of a receive.
    fn completed(&mut self, listener: usize, result: i32, flags: u32);

    /// Clears the waker's event.
    fn clear_waker(&mut self);

    /// Drops all waiting completions; returns whether the kernel still holds a receive.
    fn discard(&mut self) -> bool;
}

/// The receiving half of a ring that receives nothing.
#[derive(Debug)]
pub struct SendOnly<S> {
    sockets: Vec<S>,
}

impl<S: Endpoint> Receives for SendOnly<S> {
    type Socket = S;

    fn sockets(&mut self) -> &mut [S] {
        &mut self.sockets
    }

    fn publish(&mut self) {}

    fn waiting(&self) -> usize {
        0
    }

    fn completed(&mut self, _: usize, _: i32, _: u32) {
        debug_assert!(false, "no receive was armed");
    }

    fn clear_waker(&mut self) {}

    fn discard(&mut self) -> bool {
        false
    }
}

/// A ring. Fields are dropped in their order: the ring goes first, and with it the kernel's hold on the memory below.
pub struct Ring<R: Receives> {
    ring: IoUring,
    pub(super) receives: R,
    outgoing: Outgoing,
    send_results: Vec<Option<i32>>,
    send_sockets: Vec<SendSocket>,
    /// Index of the waker among the registered files; `None`: this ring has none.
    waker: Option<usize>,
    can_gather: bool,
    overflows: u64,
    /// A socket has become writable since the last question.
    writable: bool,
    /// Listeners with a poll for writability in the kernel.
    awaiting: Vec<bool>,
    /// The ring is being taken down: nothing is armed again.
    closing: bool,
    /// The last enter brought a wake-up, writability or anything else but datagrams.
    woken: bool,
}

impl<R: Receives> std::fmt::Debug for Ring<R> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Ring").field("sockets", &self.send_sockets).finish_non_exhaustive()
    }
}

impl<S: Endpoint> Ring<SendOnly<S>> {
    /// Sets up a ring that only sends. Call it on the thread that will use it (`SINGLE_ISSUER`).
    ///
    /// # Errors
    /// The step that failed, and the kernel's error.
    pub fn send_only(sockets: Vec<S>) -> Result<Self, (&'static str, io::Error)> {
        let entries = (SENDS_MAX + 2 * sockets.len() + 4).next_power_of_two();
        let cq_entries = 2 * entries;
        Self::build(SendOnly { sockets }, (entries, cq_entries), None, None)
    }
}

impl<R: Receives> Ring<R> {
    /// Builds the ring around its receiving half, with queues of (submission, completion) entries. `waker` and `slots`
    /// belong to `receives`.
    pub(super) fn build(
        mut receives: R,
        (sq_entries, cq_entries): (usize, usize),
        waker: Option<RawFd>,
        slots: Option<(u64, u16)>,
    ) -> Result<Self, (&'static str, io::Error)> {
        let number = |entries| u32::try_from(entries).unwrap_or(u32::MAX);
        let ring = build_ring(number(sq_entries), number(cq_entries))
            .map_err(|error| ("io_uring_setup(2)", error))?;
        let sockets = receives.sockets();
        let mut fds: Vec<_> = sockets.iter().map(|socket| socket.as_fd().as_raw_fd()).collect();
        let waker = waker.map(|fd| {
            fds.push(fd);
            fds.len() - 1
        });
        ring.submitter().register_files(&fds).map_err(|error| ("register files", error))?;
        if let Some((address, count)) = slots {
            // SAFETY: the buffer ring lives in `receives`, which is dropped after `ring`.
            unsafe {
                ring.submitter().register_buf_ring_with_flags(address, count, SLOTS_GROUP, 0)
            }
            .map_err(|error| ("register slots", error))?;
        }
        // Dynamic tracking: the ring polls the device that its sockets' datagrams come from.
        if let Some(us) = sockets.iter().find_map(Endpoint::busy_poll_us) {
            let mut napi = Napi::new().set_busy_poll_timeout(us);
            ring.submitter()
                .register_napi(&mut napi)
                .map_err(|error| ("busy polling (IORING_REGISTER_NAPI, Linux 6.9)", error))?;
        }
        let mut this = Self {
            outgoing: Outgoing::new(),
            send_results: vec![None; SENDS_MAX],
            send_sockets: sockets.iter().map(SendSocket::of).collect(),
            can_gather: ring.params().is_feature_min_timeout(),
            overflows: 0,
            writable: false,
            awaiting: vec![false; sockets.len()],
            closing: false,
            woken: false,
            ring,
            receives,
            waker,
        };
        this.watch_waker().map_err(|error| ("arm waker", error))?;
        Ok(this)
    }

    fn watch_waker(&mut self) -> io::Result<()> {
        let Some(waker) = self.waker else { return Ok(()) };
        let poll = opcode::PollAdd::new(Self::fixed(waker), libc::POLLIN as u32).multi(true);
        self.push(&poll.build().user_data(Tag::Wake.encode()))
    }

    /// Puts an entry on the submission queue, making room by a submit if the queue is full.
    pub(super) fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: what the entry points to (template, headers, payloads) stays in place until its last completion:
        // receives end before drop ends, sends are awaited in `transmit`.
        if unsafe { self.ring.submission().push(entry) }.is_ok() {
            return Ok(());
        }
        self.enter_kernel(Wait::Poll)?;
        self.reap()?;
        // SAFETY: as above.
        unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)
    }

    /// Returns a registered file by its index.
    pub(super) fn fixed(index: usize) -> Fixed {
        Fixed(u32::try_from(index).unwrap_or(u32::MAX))
    }

    pub(super) fn overflow_count(&self) -> u64 {
        self.overflows
    }

    pub(super) fn gathers(&self) -> bool {
        self.can_gather
    }

    /// Calls io_uring_enter(2) once, always with GETEVENTS.
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
            // ETIME: the timeout. EINTR: a signal. EBUSY, EAGAIN: the completion queue must be read before more can be
            // submitted, which is what comes next.
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
                    self.receives.completed(listener, cqe.result(), cqe.flags());
                }
                Tag::Wake => {
                    self.receives.clear_waker();
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

    /// Cancels everything and awaits the end of every receive. Bounded: a cancelled receive ends in the same enter or in
    /// the next.
    fn end_receives(&mut self) -> io::Result<()> {
        self.closing = true;
        // Everything, polls included: before Linux 6.13 unregistering files waits for their users.
        let cancel = opcode::AsyncCancel2::new(CancelBuilder::any());
        self.push(&cancel.build().user_data(Tag::Cancel.encode()))?;
        self.enter_kernel(Wait::Poll)?;
        self.reap()?;
        for _ in 0..64 {
            if !self.receives.discard() {
                break;
            }
            let wait = Wait::Sleep { gather_us: 0, timeout_ns: 10_000_000, frames: true };
            self.enter_kernel(wait)?;
            self.reap()?;
        }
        Ok(())
    }

    /// Makes room for a chain of at most `count` entries; returns how many of them fit. A chain must be submitted as
    /// one, or a piece could be sent after one that was not.
    fn room_for_chain(&mut self, count: usize) -> io::Result<usize> {
        let (capacity, used) = {
            let queue = self.ring.submission();
            (queue.capacity(), queue.len())
        };
        let count = count.min(capacity);
        if capacity - used < count {
            self.enter_kernel(Wait::Poll)?;
            self.reap()?;
        }
        Ok(count)
    }
}

impl<R: Receives> Enter for Ring<R> {
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        self.receives.publish();
        let frames = !matches!(wait, Wait::Sleep { frames: false, .. });
        // Sends reap too: what arrived meanwhile is here already, and nothing would wake us for it.
        let wait = if frames && self.receives.waiting() > 0 { Wait::Poll } else { wait };
        let entered_ns = self.now_ns();
        let mut left = wait;
        loop {
            self.woken = false;
            let before = self.receives.waiting();
            self.enter_kernel(left)?;
            self.reap()?;
            // While the receiver is stalled, the kernel may still fill each free slot once. Those frames must not
            // wake it, so it sleeps again.
            let only_frames = self.receives.waiting() > before && !self.woken;
            let Wait::Sleep { gather_us, timeout_ns, .. } = wait else { return Ok(()) };
            let slept_ns = if frames { 0 } else { self.now_ns() - entered_ns };
            if frames || !only_frames || slept_ns >= timeout_ns {
                return Ok(());
            }
            left = Wait::Sleep { gather_us, timeout_ns: timeout_ns - slept_ns, frames };
        }
    }
}

impl<R: Receives> Tx for Ring<R> {
    fn transmit(
        &mut self,
        batch: &Batch,
        from: Cursor,
        order: SendOrder,
        results: &mut Vec<Sent>,
    ) -> io::Result<()> {
        self.outgoing.prepare(batch, from, order, &self.send_sockets);
        let mut count = self.outgoing.len();
        let chained = order != SendOrder::Free;
        if chained {
            count = self.room_for_chain(count)?;
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
        // Every send is awaited before the batch and the headers may change. With MSG_DONTWAIT they complete inside the
        // submission, so this does not sleep.
        self.enter_kernel(Wait::Poll)?;
        self.reap()?;
        while self.send_results[..count].contains(&None) {
            self.enter_kernel(Wait::Sleep { gather_us: 0, timeout_ns: 1_000_000, frames: true })?;
            self.reap()?;
        }
        for result in self.send_results[..count].iter().flatten() {
            match *result {
                // A failed link cancelled this send: it was not sent and has no result of its own.
                error if chained && error == -libc::ECANCELED => {}
                error if error < 0 => results.push(Sent::Failed(-error)),
                _ => results.push(Sent::All),
            }
        }
        Ok(())
    }

    fn send_room_bytes(&mut self, listener: usize) -> io::Result<usize> {
        meminfo::send_room_bytes(self.receives.sockets()[listener].as_fd())
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
}

impl<R: Receives> Sockets for Ring<R> {
    type Socket = R::Socket;

    fn sockets(&mut self) -> &mut [R::Socket] {
        self.receives.sockets()
    }
}

impl<R: Receives> Drop for Ring<R> {
    /// Cancels every receive and awaits its last completion before the memory goes: an armed multishot may write into
    /// slots. Then unregisters the sockets: the kernel tears a ring down some time after its descriptor is closed, and
    /// until then their ports would stay taken.
    fn drop(&mut self) {
        // A ring that cannot be entered any more cannot write either.
        let _ = self.end_receives();
        let _ = self.ring.submitter().unregister_files();
    }
}

/// Receives one datagram on `socket` with a multishot, as the probe's proof. `send` makes one arrive.
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
