//! A flag that wakes a thread in poll(2), epoll(7) or io_uring.

use std::os::fd::{AsFd, BorrowedFd};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// A non-blocking eventfd(2): readable from the moment it is raised until it is cleared.
#[derive(Debug)]
pub struct Event(EventFd);

impl Event {
    /// Opens an event that is not raised.
    ///
    /// # Errors
    /// eventfd(2) failed: this process or the host is out of file descriptors.
    pub fn new() -> nix::Result<Self> {
        EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC).map(Self)
    }

    /// Makes the event readable. Does nothing if it is readable already.
    pub fn raise(&self) {
        // EAGAIN: the counter is full, so the event is raised. No other error is possible for an open eventfd.
        let _ = self.0.write(1);
    }

    /// Makes the event unreadable until it is raised again.
    pub fn clear(&self) {
        match self.0.read() {
            // EAGAIN: it was not raised.
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => debug_assert!(false, "eventfd: {error}"),
        }
    }
}

impl AsFd for Event {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    #[test]
    fn an_event_is_readable_while_it_is_raised() {
        let event = Event::new().unwrap();
        let readable = || {
            let mut fds = [PollFd::new(event.as_fd(), PollFlags::POLLIN)];
            poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
        };
        assert!(!readable());
        event.clear();
        event.raise();
        event.raise();
        assert!(readable());
        event.clear();
        assert!(!readable());
    }
}
