//! Clocks, in nanoseconds.
//!
//! Intervals are taken on `CLOCK_MONOTONIC`, which never steps; a datagram's wall-clock arrival is
//! that stamp plus `unix_offset_ns`, read once a second, so that a
//! datagram costs no second clock read and a stepped wall clock cannot make a latency negative.

use nix::time::{ClockId, clock_gettime};

/// Returns the time of `clock` in nanoseconds; 0 if the clock cannot be read (clock_gettime(2) fails only for a clock
/// that does not exist, and the three used here exist since Linux 2.6).
fn read_ns(clock: ClockId) -> u64 {
    clock_gettime(clock).map_or(0, |t| {
        let seconds = u64::try_from(t.tv_sec()).unwrap_or(0);
        let nanos = u64::try_from(t.tv_nsec()).unwrap_or(0);
        seconds * 1_000_000_000 + nanos
    })
}

/// Returns the time of `CLOCK_MONOTONIC`: nanoseconds since a moment before the process started.
#[must_use]
pub fn monotonic_ns() -> u64 {
    read_ns(ClockId::CLOCK_MONOTONIC)
}

/// Returns the time on [`monotonic_ns`]'s clock when `within` will have passed, ns.
#[must_use]
pub fn monotonic_ns_after(within: std::time::Duration) -> u64 {
    monotonic_ns().saturating_add(u64::try_from(within.as_nanos()).unwrap_or(u64::MAX))
}

/// Returns the difference to add to a monotonic time to get nanoseconds since 1970-01-01T00:00:00Z.
#[must_use]
pub fn unix_offset_ns() -> u64 {
    unix_ns().saturating_sub(monotonic_ns())
}

/// Returns the nanoseconds since 1970-01-01T00:00:00Z.
#[must_use]
pub fn unix_ns() -> u64 {
    read_ns(ClockId::CLOCK_REALTIME)
}

/// Returns the CPU time that the calling thread has used (user and system), nanoseconds. This is a system call, not a vDSO read: about
/// 200 ns, so it is taken on ticks and never per datagram.
#[must_use]
pub fn thread_cpu_ns() -> u64 {
    read_ns(ClockId::CLOCK_THREAD_CPUTIME_ID)
}
