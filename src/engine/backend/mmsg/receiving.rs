//! Receiving with recvmmsg(2). Sockets are non-blocking and read in rounds; epoll(7) is asked only when a round found
//! nothing.

use std::io;
use std::os::fd::AsRawFd;
use std::sync::Arc;

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::backend::enter::{Enter, Wait};
use crate::backend::mmsg::calls::{Incoming, MESSAGES_MAX};
use crate::backend::mmsg::sending::Sends;
use crate::backend::rx::{Arm, Completion, Outcome, Rx};
use crate::backend::sockets::Sockets;
use crate::backend::tx::{Cursor, SendOrder, Sent, Tx};
use crate::batch::arena::Batch;
use crate::socket::endpoint::Endpoint;
use crate::socket::meminfo;
use crate::sync::waker::Waker;

/// The receive of one listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Not armed.
    Idle,
    /// Armed until cancelled.
    Listening,
    /// Armed until the socket is empty.
    Draining,
    /// Ended with this errno, which `peek` has still to report.
    Ended(i32),
}

/// A backend that receives with recvmmsg(2) and sends with sendmmsg(2).
pub struct Mmsg<S> {
    incoming: Incoming,
    /// The listener the messages in `incoming` came from.
    current: usize,
    states: Vec<State>,
    /// A socket has become writable since the last question.
    writable: bool,
    /// Listeners that may have more: the last round on them was full, or epoll said so.
    ready: Vec<bool>,
    sends: Sends,
    /// The sockets to read from, and `apart`.
    all: Epoll,
    /// The waker, and the sockets to write to: a receiver without room waits for these only.
    apart: Epoll,
    events: Vec<EpollEvent>,
    listeners: Vec<S>,
    /// Wakes the thread; `None`: no other thread ever needs to.
    waker: Option<Arc<Waker>>,
}

impl<S: std::fmt::Debug> std::fmt::Debug for Mmsg<S> {
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

fn wait(epoll: &Epoll, events: &mut [EpollEvent], timeout: EpollTimeout) -> io::Result<usize> {
    match epoll.wait(events, timeout) {
        Err(nix::errno::Errno::EINTR) => Ok(0),
        waited => Ok(waited?),
    }
}

impl<S: Endpoint> Mmsg<S> {
    /// Returns a backend for these sockets that takes up to `messages` messages a call, at most [`MESSAGES_MAX`].
    ///
    /// # Errors
    /// The step that failed, and the kernel's error.
    pub fn new(
        listeners: Vec<S>,
        waker: Option<Arc<Waker>>,
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
        if let Some(waker) = &waker {
            apart.add(&**waker, readable(WAKER)).map_err(fail)?;
        }
        // An epoll can be watched by another: frames and all the rest in one sleep.
        all.add(&apart.0, readable(APART)).map_err(fail)?;
        let incoming = Incoming::new(messages.clamp(1, MESSAGES_MAX));
        Ok(Self {
            incoming,
            current: 0,
            states: vec![State::Idle; listeners.len()],
            ready: vec![true; listeners.len()],
            writable: false,
            sends: Sends::new(&listeners),
            all,
            apart,
            events: vec![EpollEvent::empty(); listeners.len() + 2],
            listeners,
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
                if let Some(waker) = &self.waker {
                    waker.clear();
                }
            } else {
                self.writable = true;
            }
        }
        Ok(())
    }

    /// Reads the next listener, in turn, that may have something.
    fn receive(&mut self) {
        let count = self.listeners.len();
        for step in 1..=count {
            let listener = (self.current + step) % count;
            let active = matches!(self.states[listener], State::Listening | State::Draining);
            if !active || !self.ready[listener] {
                continue;
            }
            self.current = listener;
            match self.incoming.receive(self.listeners[listener].as_fd().as_raw_fd()) {
                Ok(received) => {
                    // A short round has emptied the socket; a drain asks once more, to be sure.
                    let full = received == self.incoming.capacity();
                    self.ready[listener] = full || self.states[listener] == State::Draining;
                }
                Err(error) => self.failed(listener, error.raw_os_error().unwrap_or(libc::EIO)),
            }
            if self.incoming.has_more() {
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
        self.incoming.has_more() || self.states.iter().any(|state| matches!(state, State::Ended(_)))
    }

    fn may_receive(&self) -> bool {
        self.states
            .iter()
            .zip(&self.ready)
            .any(|(state, ready)| *ready && matches!(state, State::Listening | State::Draining))
    }
}

impl<S: Endpoint> Enter for Mmsg<S> {
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
}

impl<S: Endpoint> Rx for Mmsg<S> {
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

    fn peek(&mut self) -> Option<Completion<'_>> {
        if let Some(frame) = self.incoming.peek(self.current) {
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
        if self.incoming.has_more() {
            self.incoming.consume();
            return;
        }
        if let Some(state) = self.states.iter_mut().find(|s| matches!(s, State::Ended(_))) {
            *state = State::Idle;
        }
    }

    fn slots_free(&self) -> usize {
        self.incoming.capacity() - self.incoming.waiting()
    }

    fn overflows(&self) -> u64 {
        0
    }

    fn can_gather(&self) -> bool {
        false
    }

    fn listeners(&self) -> usize {
        self.listeners.len()
    }
}

impl<S: Endpoint> Tx for Mmsg<S> {
    fn transmit(
        &mut self,
        batch: &Batch,
        from: Cursor,
        order: SendOrder,
        results: &mut Vec<Sent>,
    ) -> io::Result<()> {
        self.sends.transmit(batch, from, order, results);
        Ok(())
    }

    fn send_room_bytes(&mut self, listener: usize) -> io::Result<usize> {
        meminfo::send_room_bytes(self.listeners[listener].as_fd())
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
}

impl<S> Sockets for Mmsg<S> {
    type Socket = S;

    fn sockets(&mut self) -> &mut [S] {
        &mut self.listeners
    }
}
