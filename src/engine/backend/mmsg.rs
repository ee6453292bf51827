//! The recvmmsg(2) backend: the same work without io_uring. The fallback on hosts that refuse a
//! ring, and the control in every comparison.
//!
//! Sockets are non-blocking and read in rounds; epoll(7) is asked only when a round found nothing.
#![expect(unsafe_code, reason = "recvmmsg(2) and sendmmsg(2) fill memory through raw pointers")]

use std::io;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::backend::interface::{Arm, Backend, Completion, Cursor, Outcome, SendOrder, Sent, Wait};
use crate::backend::outgoing::{Outgoing, SendSocket, empty_header};
use crate::batch::arena::{Batch, Frame};
use crate::socket::listener::Listener;
use crate::sync::waker::Waker;
use crate::wire::cmsg;
use crate::wire::cmsg::Asked;
use crate::wire::limits::FRAME_BYTES_MAX;
use crate::wire::sockaddr;
use crate::wire::sockaddr::{NAME_ROOM, NAME_ROOM_BYTES};

/// Messages per recvmmsg(2). Too low and the system call dominates; beyond 64 nothing is gained
/// and a slot each is 64 KiB.
pub const MESSAGES_MAX: usize = 64;

/// Control room of every message: all a listener can ask for.
const CONTROL_BYTES: usize =
    cmsg::receive_room_bytes(Asked { gro: true, pktinfo: true, timestamps: true, headers: true });

/// Memory for `messages` messages, for the plan's bill.
#[must_use]
pub fn footprint_bytes(messages: usize) -> usize {
    messages * (SLOT_BYTES + size_of::<libc::mmsghdr>() + size_of::<libc::iovec>())
        + messages * (NAME_ROOM_BYTES + CONTROL_BYTES)
}

/// An odd number of cache lines apart, as the ring's slots are.
const SLOT_BYTES: usize = (FRAME_BYTES_MAX.div_ceil(64) | 1) * 64;

/// Where recvmmsg(2) writes. The headers point into the vectors beside them, which never grow. (Not
/// boxes: moving a box ends the validity of pointers into it.)
struct Incoming {
    headers: Vec<libc::mmsghdr>,
    _iovecs: Vec<libc::iovec>,
    names: Vec<[u8; NAME_ROOM_BYTES]>,
    controls: Vec<[u8; CONTROL_BYTES]>,
    slots: Vec<u8>,
    /// Messages of the last call, and how many of them are consumed.
    filled: usize,
    next: usize,
}

impl Incoming {
    fn new(messages: usize) -> Self {
        let mut slots = vec![0u8; messages * SLOT_BYTES];
        for page in slots.chunks_mut(4096) {
            page[0] = std::hint::black_box(1);
        }
        let mut names = vec![[0; NAME_ROOM_BYTES]; messages];
        let mut controls = vec![[0; CONTROL_BYTES]; messages];
        let mut iovecs: Vec<_> = slots
            .chunks_exact_mut(SLOT_BYTES)
            .map(|slot| libc::iovec { iov_base: slot.as_mut_ptr().cast(), iov_len: SLOT_BYTES })
            .collect();
        let headers = (0..messages)
            .map(|index| {
                let mut header = empty_header();
                header.msg_name = names[index].as_mut_ptr().cast();
                header.msg_iov = &raw mut iovecs[index];
                header.msg_iovlen = 1;
                header.msg_control = controls[index].as_mut_ptr().cast();
                libc::mmsghdr { msg_hdr: header, msg_len: 0 }
            })
            .collect();
        Self { headers, _iovecs: iovecs, names, controls, slots, filled: 0, next: 0 }
    }

    /// One recvmmsg(2) that does not wait. All messages of the last call must be consumed.
    fn receive(&mut self, socket: RawFd) -> io::Result<usize> {
        // The kernel wrote the lengths of the last call's names and controls here: only those
        // messages need their room restored.
        for header in &mut self.headers[..self.filled] {
            header.msg_hdr.msg_namelen = NAME_ROOM;
            header.msg_hdr.msg_controllen = CONTROL_BYTES;
        }
        self.filled = 0;
        self.next = 0;
        let count = libc::c_uint::try_from(self.headers.len()).unwrap_or(libc::c_uint::MAX);
        // SAFETY: `count` headers, each pointing to a name, a control area and a slot of the
        // lengths it states, all owned by self and not otherwise borrowed.
        let received = unsafe {
            libc::recvmmsg(
                socket,
                self.headers.as_mut_ptr(),
                count,
                libc::MSG_DONTWAIT,
                std::ptr::null_mut(),
            )
        };
        self.filled = usize::try_from(received).map_err(|_| io::Error::last_os_error())?;
        Ok(self.filled)
    }

    fn frame(&self, index: usize, listener: usize) -> Frame<'_> {
        let header = &self.headers[index];
        let name_len = (header.msg_hdr.msg_namelen as usize).min(NAME_ROOM_BYTES);
        let control_len = header.msg_hdr.msg_controllen.min(CONTROL_BYTES);
        let control = cmsg::parse(&self.controls[index][..control_len]);
        let len = (header.msg_len as usize).min(SLOT_BYTES);
        let peer = sockaddr::decode(&self.names[index][..name_len]);
        let payload = &self.slots[index * SLOT_BYTES..][..len];
        Frame::datagram(peer.unwrap_or_else(sockaddr::unspecified), payload)
            .at_listener(listener)
            .in_segments(control.segment_bytes)
            .with_headers(control.headers)
            .with_kernel_unix_ns(control.kernel_unix_ns)
            .with_truncated(header.msg_hdr.msg_flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC) != 0)
    }
}

/// What a listener is armed for, and what is still to be told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Idle,
    Listening,
    Draining,
    /// An end that `peek` has still to report.
    Ended(i32),
}

/// See the module's description.
pub struct Mmsg {
    incoming: Incoming,
    /// The listener the messages in `incoming` came from.
    current: usize,
    states: Vec<State>,
    /// A socket has become writable since it was last asked.
    writable: bool,
    /// Listeners that may have more: the last round on them was full, or epoll said so.
    ready: Vec<bool>,
    outgoing: Outgoing,
    /// Everything: the sockets to read from, and `apart`.
    all: Epoll,
    /// The waker and the sockets to write to: all that a receiver without room waits for.
    apart: Epoll,
    events: Vec<EpollEvent>,
    listeners: Vec<Listener>,
    doors: Vec<SendSocket>,
    waker: Arc<Waker>,
}

impl std::fmt::Debug for Mmsg {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mmsg").field("listeners", &self.listeners).finish_non_exhaustive()
    }
}

/// The waker's token in epoll; sockets have their index.
const WAKER: u64 = u64::MAX;
/// The token of the second epoll in the first.
const APART: u64 = u64::MAX - 1;
/// Added to a listener's index: a wait for writability.
const WRITABLE: u64 = 1 << 32;

/// One sendmmsg(2) that does not wait, of the prepared sends from `start` on that leave through the
/// same socket. Returns how many messages the kernel took.
pub(crate) fn send_run(fd: RawFd, outgoing: &mut Outgoing, start: usize) -> io::Result<usize> {
    let run = outgoing.run(start);
    let count = libc::c_uint::try_from(run.len()).unwrap_or(libc::c_uint::MAX);
    // SAFETY: `count` headers whose names, controls and payloads live through the call: `prepare`
    // borrowed the batch that the caller still holds.
    let sent = unsafe { libc::sendmmsg(fd, run.as_mut_ptr(), count, libc::MSG_DONTWAIT) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

fn wait(epoll: &Epoll, events: &mut [EpollEvent], timeout: EpollTimeout) -> io::Result<usize> {
    match epoll.wait(events, timeout) {
        Err(nix::errno::Errno::EINTR) => Ok(0),
        waited => Ok(waited?),
    }
}

impl Mmsg {
    /// # Errors
    /// Which step failed, and what the kernel said.
    pub fn new(
        listeners: Vec<Listener>,
        waker: Arc<Waker>,
        messages: usize,
    ) -> Result<Self, (&'static str, io::Error)> {
        let fail = |errno: nix::Error| ("epoll", io::Error::from(errno));
        let all = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(fail)?;
        let apart = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(fail)?;
        let readable = |token| EpollEvent::new(EpollFlags::EPOLLIN, token);
        for (index, listener) in listeners.iter().enumerate() {
            all.add(listener, readable(index as u64)).map_err(fail)?;
            // Registered without interest; await_writable arms it for one event.
            let quiet = EpollEvent::new(EpollFlags::empty(), WRITABLE + index as u64);
            apart.add(listener, quiet).map_err(fail)?;
        }
        apart.add(&*waker, readable(WAKER)).map_err(fail)?;
        // An epoll can be watched by another: frames and all the rest in one sleep.
        all.add(&apart.0, readable(APART)).map_err(fail)?;
        let doors = listeners.iter().map(SendSocket::of).collect();
        let mut incoming = Incoming::new(messages.clamp(1, MESSAGES_MAX));
        incoming.filled = incoming.headers.len(); // so that the first call sets every room
        incoming.next = incoming.filled;
        Ok(Self {
            incoming,
            current: 0,
            states: vec![State::Idle; listeners.len()],
            ready: vec![true; listeners.len()],
            writable: false,
            outgoing: Outgoing::new(),
            all,
            apart,
            events: vec![EpollEvent::empty(); listeners.len() + 2],
            listeners,
            doors,
            waker,
        })
    }

    /// Sleeps in epoll and marks what is ready.
    fn sleep(&mut self, frames: bool, timeout_ns: u64) -> io::Result<()> {
        // epoll_wait(2) counts milliseconds; rounding up never wakes too early to matter.
        let timeout_ms = u16::try_from(timeout_ns.div_ceil(1_000_000)).unwrap_or(u16::MAX);
        if !frames {
            return self.wait_apart(EpollTimeout::from(timeout_ms));
        }
        let count = wait(&self.all, &mut self.events, EpollTimeout::from(timeout_ms))?;
        let mut apart = false;
        for event in &self.events[..count] {
            let index = usize::try_from(event.data()).unwrap_or(usize::MAX);
            match self.ready.get_mut(index) {
                Some(ready) => *ready = true,
                None => apart = true,
            }
        }
        // An event stays in the inner epoll until it is fetched there.
        if apart { self.wait_apart(EpollTimeout::ZERO) } else { Ok(()) }
    }

    fn wait_apart(&mut self, timeout: EpollTimeout) -> io::Result<()> {
        let count = wait(&self.apart, &mut self.events, timeout)?;
        for event in &self.events[..count] {
            if event.data() == WAKER {
                self.waker.clear();
            } else {
                self.writable = true;
            }
        }
        Ok(())
    }

    /// One round on the next listener that may have something, in turn.
    fn receive(&mut self) {
        let count = self.listeners.len();
        for step in 1..=count {
            let listener = (self.current + step) % count;
            let active = matches!(self.states[listener], State::Listening | State::Draining);
            if !active || !self.ready[listener] {
                continue;
            }
            self.current = listener;
            match self.incoming.receive(self.listeners[listener].as_raw_fd()) {
                Ok(received) => {
                    // A short round has emptied the socket; a drain asks once more, to be sure.
                    let full = received == self.incoming.headers.len();
                    self.ready[listener] = full || self.states[listener] == State::Draining;
                }
                Err(error) => self.failed(listener, error.raw_os_error().unwrap_or(libc::EIO)),
            }
            if self.incoming.filled > 0 {
                return;
            }
        }
    }

    fn failed(&mut self, listener: usize, errno: i32) {
        match (errno, self.states[listener]) {
            (libc::EINTR, _) => {}
            (libc::EAGAIN, State::Listening) => self.ready[listener] = false,
            _ => self.states[listener] = State::Ended(errno),
        }
    }

    fn has_completion(&self) -> bool {
        self.incoming.next < self.incoming.filled
            || self.states.iter().any(|state| matches!(state, State::Ended(_)))
    }

    fn may_receive(&self) -> bool {
        self.states
            .iter()
            .zip(&self.ready)
            .any(|(state, ready)| *ready && matches!(state, State::Listening | State::Draining))
    }
}

impl Backend for Mmsg {
    fn arm(&mut self, listener: usize, arm: Arm) -> io::Result<()> {
        self.ready[listener] = true;
        self.states[listener] = match arm {
            Arm::Listen => State::Listening,
            Arm::Drain => State::Draining,
        };
        Ok(())
    }

    fn disarm(&mut self, listener: usize) -> io::Result<()> {
        self.states[listener] = State::Ended(libc::ECANCELED);
        Ok(())
    }

    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let frames = !matches!(wait, Wait::Sleep { frames: false, .. });
        if frames && !self.has_completion() {
            self.receive();
        }
        if let Wait::Sleep { timeout_ns, .. } = wait
            && !(frames && (self.has_completion() || self.may_receive()))
        {
            self.sleep(frames, timeout_ns)?;
            if frames && !self.has_completion() {
                self.receive();
            }
        }
        Ok(())
    }

    fn peek(&mut self) -> Option<Completion<'_>> {
        if self.incoming.next < self.incoming.filled {
            let frame = self.incoming.frame(self.incoming.next, self.current);
            let outcome = Outcome::Frame(frame);
            return Some(Completion { listener: self.current, outcome, more: true });
        }
        let ended = |(listener, state): (usize, &State)| match state {
            State::Ended(errno) => Some((listener, *errno)),
            State::Idle | State::Listening | State::Draining => None,
        };
        let (listener, errno) = self.states.iter().enumerate().find_map(ended)?;
        Some(Completion { listener, outcome: Outcome::Failed(errno), more: false })
    }

    fn release(&mut self) {
        if self.incoming.next < self.incoming.filled {
            self.incoming.next += 1;
            return;
        }
        if let Some(state) = self.states.iter_mut().find(|s| matches!(s, State::Ended(_))) {
            *state = State::Idle;
        }
    }

    fn slots_free(&self) -> usize {
        self.incoming.headers.len() - (self.incoming.filled - self.incoming.next)
    }

    fn overflows(&self) -> u64 {
        0
    }

    fn can_gather(&self) -> bool {
        false
    }

    fn transmit(
        &mut self,
        batch: &Batch,
        from: Cursor,
        way: SendOrder,
        results: &mut Vec<Sent>,
    ) -> io::Result<()> {
        self.outgoing.prepare(batch, from, way, &self.doors);
        let mut start = 0;
        while start < self.outgoing.len() {
            let fd = self.doors[self.outgoing.listener(start)].fd;
            // sendmmsg(2) reports an error only for the first message; the rest is asked again.
            match send_run(fd, &mut self.outgoing, start) {
                Ok(sent) => {
                    results.extend(std::iter::repeat_n(Sent::All, sent));
                    start += sent;
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    // No room for this one is no room for the rest: not worth a call each.
                    let full = errno == libc::EAGAIN && way == SendOrder::Free;
                    let count = if full { self.outgoing.run(start).len() } else { 1 };
                    results.extend(std::iter::repeat_n(Sent::Failed(errno), count));
                    start += count;
                    if way != SendOrder::Free {
                        return Ok(());
                    }
                }
            }
        }
        Ok(())
    }

    fn await_writable(&mut self, listener: usize) -> io::Result<()> {
        let token = WRITABLE + listener as u64;
        let once = EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT;
        self.apart.modify(&self.listeners[listener], &mut EpollEvent::new(once, token))?;
        Ok(())
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
