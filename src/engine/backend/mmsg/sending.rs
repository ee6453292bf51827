//! Sending with sendmmsg(2): shared by the receiving backend, which sends replies, and by one that only sends.

use std::io;

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::backend::enter::{Enter, Wait};
use crate::backend::mmsg::calls::send_run;
use crate::backend::outgoing::{Outgoing, SendSocket};
use crate::backend::sockets::Sockets;
use crate::backend::tx::{Cursor, SendOrder, Sent, Tx};
use crate::batch::arena::Batch;
use crate::socket::endpoint::Endpoint;
use crate::socket::meminfo;

/// The sending half: the headers of a round, and the sockets they leave through.
#[derive(Debug)]
pub(super) struct Sends {
    outgoing: Outgoing,
    sockets: Vec<SendSocket>,
}

impl Sends {
    pub(super) fn new<S: Endpoint>(sockets: &[S]) -> Self {
        let sockets = sockets.iter().map(SendSocket::of).collect();
        Self { outgoing: Outgoing::new(), sockets }
    }

    /// Sends entries of a batch; see [`Tx::transmit`].
    pub(super) fn transmit(
        &mut self,
        batch: &Batch,
        from: Cursor,
        order: SendOrder,
        results: &mut Vec<Sent>,
    ) {
        self.outgoing.prepare(batch, from, order, &self.sockets);
        let mut start = 0;
        while start < self.outgoing.len() {
            let fd = self.sockets[self.outgoing.listener(start)].fd;
            // sendmmsg(2) reports an error only for the first message; the rest is tried again.
            match send_run(fd, &mut self.outgoing, start) {
                Ok(sent) => {
                    results.extend(std::iter::repeat_n(Sent::All, sent));
                    start += sent;
                }
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    // No room for this one is no room for the rest: not worth a call each.
                    let full = errno == libc::EAGAIN && order == SendOrder::Free;
                    let count = if full { self.outgoing.run(start).len() } else { 1 };
                    results.extend(std::iter::repeat_n(Sent::Failed(errno), count));
                    start += count;
                    if order != SendOrder::Free {
                        return;
                    }
                }
            }
        }
    }
}

/// A backend that only sends: no slots, no epoll, no waker.
#[derive(Debug)]
pub struct MmsgSender<S> {
    sends: Sends,
    sockets: Vec<S>,
    /// The socket that the next sleep waits for.
    awaited: Option<usize>,
    writable: bool,
}

impl<S: Endpoint> MmsgSender<S> {
    /// Returns a sender through these sockets.
    #[must_use]
    pub fn new(sockets: Vec<S>) -> Self {
        Self { sends: Sends::new(&sockets), sockets, awaited: None, writable: false }
    }
}

impl<S: Endpoint> Enter for MmsgSender<S> {
    fn enter(&mut self, wait: Wait) -> io::Result<()> {
        let (Some(socket), Wait::Sleep { timeout_ns, .. }) = (self.awaited.take(), wait) else {
            return Ok(());
        };
        // poll(2) counts milliseconds; rounding up never wakes too early to matter.
        let timeout = u16::try_from(timeout_ns.div_ceil(1_000_000)).unwrap_or(u16::MAX);
        let mut fds = [PollFd::new(self.sockets[socket].as_fd(), PollFlags::POLLOUT)];
        match poll(&mut fds, PollTimeout::from(timeout)) {
            Ok(ready) => self.writable |= ready > 0,
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        Ok(())
    }
}

impl<S: Endpoint> Tx for MmsgSender<S> {
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
        meminfo::send_room_bytes(self.sockets[listener].as_fd())
    }

    fn await_writable(&mut self, listener: usize) -> io::Result<()> {
        self.awaited = Some(listener);
        Ok(())
    }

    fn take_writable(&mut self) -> bool {
        std::mem::take(&mut self.writable)
    }
}

impl<S> Sockets for MmsgSender<S> {
    type Socket = S;

    fn sockets(&mut self) -> &mut [S] {
        &mut self.sockets
    }
}
