//! Waiting for a deadline, as exactly as the host allows.

use std::io;
use std::time::Duration;

use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use ringest_base::sys::clock;
use ringest_engine::backend::interface::{Backend, Wait};

/// Below this a sender spins to its deadline: a sleep is not that exact. Too low and wake-ups come
/// late, which the lateness shows; too high only burns the sender's own core.
const SPIN_NS: u64 = 100_000;

/// Lets this thread's sleeps end when they should: by default the kernel may add 50 us
/// (PR_SET_TIMERSLACK, Linux 2.6.28). Without it they are later, which the lateness shows.
pub(crate) fn exact_timers() {
    let _ = nix::sys::prctl::set_timerslack(1);
}

/// Sleeps, then spins, until `deadline_ns` (`CLOCK_MONOTONIC`).
pub(crate) fn until(deadline_ns: u64) {
    loop {
        let now_ns = clock::monotonic_ns();
        if now_ns >= deadline_ns {
            return;
        }
        if deadline_ns - now_ns > SPIN_NS {
            let wake = Duration::from_nanos(deadline_ns - SPIN_NS / 2);
            let flags = ClockNanosleepFlags::TIMER_ABSTIME;
            // EINTR leads back to the loop.
            let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &wake.into());
        } else {
            std::hint::spin_loop();
        }
    }
}

/// The same, but returns as soon as the backend has something.
///
/// # Errors
/// The backend is unusable.
pub(crate) fn until_or_frames<B: Backend>(backend: &mut B, deadline_ns: u64) -> io::Result<()> {
    let left_ns = deadline_ns.saturating_sub(clock::monotonic_ns());
    // epoll's timeouts are whole milliseconds, rounded up: a shorter sleep than that must be spun.
    let exact = backend.can_gather();
    let margin_ns = if exact { SPIN_NS } else { 2_000_000 };
    let wait = if left_ns > margin_ns {
        Wait::Sleep { gather_us: 0, timeout_ns: left_ns - margin_ns / 2, frames: true }
    } else {
        Wait::Poll
    };
    backend.enter(wait)
}
