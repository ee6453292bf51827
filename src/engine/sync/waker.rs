//! Wakes a sleeping receiver.
//!
//! A receiver sleeps in one place only: the kernel, in its ring or its epoll. It watches an eventfd there. Workers pay
//! for a write to it only if the receiver has announced that it sleeps *and* that it waits for the thing they offer: room
//! in a queue, or replies to send.
//!
//! The order rules out a lost wake-up: the receiver announces (SeqCst), looks once more, then sleeps; a worker acts, then
//! reads the announcement (with a SeqCst fence between).

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::atomic::{AtomicU8, Ordering, fence};

use ringest_base::sys::event::Event;

/// The receiver waits for an empty batch or for room in a queue.
pub const ROOM: u8 = 1;
/// The receiver waits for replies.
pub const REPLIES: u8 = 2;

/// Wakes one receiver.
#[derive(Debug)]
pub struct Waker {
    event: Event,
    announced: AtomicU8,
}

impl Waker {
    /// Returns a waker with an eventfd of its own.
    ///
    /// # Errors
    /// eventfd(2) failed: no descriptor is left.
    pub fn new() -> nix::Result<Self> {
        Ok(Self { event: Event::new()?, announced: AtomicU8::new(0) })
    }

    /// Announces that the receiver is about to sleep and waits for `interest`. The receiver must look once more after
    /// this.
    pub fn announce(&self, interest: u8) {
        self.announced.store(interest, Ordering::SeqCst);
    }

    /// Takes the announcement back: the receiver is awake.
    pub fn retract(&self) {
        if self.announced.load(Ordering::Relaxed) != 0 {
            self.announced.store(0, Ordering::Relaxed);
        }
    }

    /// Wakes the receiver if it waits for any of `offer`. The thing offered must already be there.
    pub fn poke(&self, offer: u8) {
        fence(Ordering::SeqCst);
        self.poke_after_fence(offer);
    }

    /// Does as [`poke`](Self::poke) for several receivers, with one fence.
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

    /// Wakes the receiver, whatever it waits for.
    pub fn wake(&self) {
        self.event.raise();
    }

    /// Clears wake-ups that were delivered.
    pub fn clear(&self) {
        self.event.clear();
    }
}

impl AsFd for Waker {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.event.as_fd()
    }
}
