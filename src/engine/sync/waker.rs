//! How other threads get a sleeping receiver's attention, and the stop signal they all watch.
//!
//! A receiver sleeps in one place only: the kernel, in its ring or its epoll. An eventfd it watches
//! there wakes it. Workers pay for that write only if the receiver has announced that it sleeps
//! *and* waits for what they have: room in a queue, or replies to send.
//!
//! The lost wake-up is ruled out by order: the receiver announces (SeqCst), looks once more, then
//! sleeps; a worker acts, then looks at the announcement (SeqCst fence between).

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering, fence};

use nix::errno::Errno;
use nix::sys::eventfd::{EfdFlags, EventFd};

/// The receiver waits for an empty batch or for room in a queue.
pub const ROOM: u8 = 1;
/// The receiver waits for replies.
pub const REPLIES: u8 = 2;

/// Wakes one receiver.
#[derive(Debug)]
pub struct Waker {
    event: EventFd,
    announced: AtomicU8,
}

impl Waker {
    /// # Errors
    /// eventfd(2) failed: out of descriptors.
    pub fn new() -> nix::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        Ok(Self { event, announced: AtomicU8::new(0) })
    }

    /// The receiver is about to sleep and waits for `interest`. It must look once more after this.
    pub fn announce(&self, interest: u8) {
        self.announced.store(interest, Ordering::SeqCst);
    }

    /// The receiver is awake.
    pub fn retract(&self) {
        if self.announced.load(Ordering::Relaxed) != 0 {
            self.announced.store(0, Ordering::Relaxed);
        }
    }

    /// Wakes the receiver if it waits for any of `offer`; what it waits for must already be there.
    pub fn poke(&self, offer: u8) {
        fence(Ordering::SeqCst);
        self.poke_after_fence(offer);
    }

    /// The same for several receivers, with one fence.
    pub fn poke_all(wakers: &[std::sync::Arc<Self>], offer: u8) {
        fence(Ordering::SeqCst);
        wakers.iter().for_each(|waker| waker.poke_after_fence(offer));
    }

    fn poke_after_fence(&self, offer: u8) {
        if self.announced.load(Ordering::Relaxed) & offer != 0
            && self.announced.swap(0, Ordering::SeqCst) & offer != 0
        {
            self.wake();
        }
    }

    /// Wakes the receiver whatever it waits for.
    pub fn wake(&self) {
        // EAGAIN means the counter is full, that is, a wake-up is pending already. No other error
        // is possible for an eventfd that is open.
        let _ = self.event.write(1);
    }

    /// Forgets wake-ups that were delivered.
    pub fn clear(&self) {
        match self.event.read() {
            Ok(_) | Err(Errno::EAGAIN) => {}
            Err(error) => debug_assert!(false, "eventfd: {error}"),
        }
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}

/// What every thread looks at once a turn.
#[derive(Debug, Default)]
pub struct Stop {
    drain: AtomicBool,
    abort: AtomicBool,
}

impl Stop {
    /// Take nothing new, finish what is here.
    pub fn begin_drain(&self) {
        self.drain.store(true, Ordering::SeqCst);
    }

    /// Leave everything as it is.
    pub fn abort(&self) {
        self.abort.store(true, Ordering::SeqCst);
        self.begin_drain();
    }

    /// Whether a stop of either kind has begun.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.drain.load(Ordering::Relaxed)
    }

    /// Whether to leave at once.
    #[must_use]
    pub fn is_aborting(&self) -> bool {
        self.abort.load(Ordering::Relaxed)
    }
}
