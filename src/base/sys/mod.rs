//! Services of the operating system: threads, events, clocks, random numbers, rings, and socket options by number.

/// Blocking work on a thread of its own.
pub mod background;
/// Reproducible randomness for tests, schedules and resampling.
pub mod chance;
/// Clocks, in nanoseconds.
pub mod clock;
/// Numbers that nobody outside this process can predict.
pub mod entropy;
/// A flag that wakes a thread in poll(2), epoll(7) or io_uring.
pub mod event;
/// setsockopt(2) and getsockopt(2) by number, for options that no crate wraps.
pub mod sockopt;
/// Threads: the only place that spawns and names them, and that pins or slows the calling one.
pub mod threads;
/// io_uring_setup(2), in one place for every ring of the program.
pub mod uring;
