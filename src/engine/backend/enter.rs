//! Submitting and waiting: the one place where a thread sleeps, for either direction.

use std::io;

/// How [`Enter::enter`] may spend time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// Returns at once with what has completed.
    Poll,
    /// Sleeps until something completes.
    Sleep {
        /// Time to let datagrams gather before waking, µs; 0: wake for the first.
        gather_us: u32,
        /// Longest sleep, ns.
        timeout_ns: u64,
        /// Whether datagrams end the sleep. If not, only the waker and a writable socket do: a stalled receiver must
        /// not be woken by datagrams for which it has no room.
        frames: bool,
    },
}

/// A backend that a thread can sleep in. Used by one thread.
pub trait Enter {
    /// Gives back the slots released, submits what was armed, waits, and takes what completed.
    ///
    /// # Errors
    /// The backend is unusable.
    fn enter(&mut self, wait: Wait) -> io::Result<()>;

    /// Returns the time, ns: `CLOCK_MONOTONIC`, or the simulation's own clock.
    fn now_ns(&self) -> u64 {
        ringest_base::sys::clock::monotonic_ns()
    }
}
