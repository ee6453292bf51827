//! Waits for a deadline, as exactly as the host allows.

use std::time::Duration;

use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use ringest_base::sys::clock;

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
