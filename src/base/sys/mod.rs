//! What the operating system gives a thread: threads, clocks, socket options by number.

/// Work that a disk may hold up, on a thread of its own.
pub mod background;
/// Reproducible randomness for tests, schedules and resampling.
pub mod chance;
/// The clocks of the path, in nanoseconds.
pub mod clock;
/// setsockopt(2) and getsockopt(2) by number, for options that no crate wraps.
pub mod sockopt;
/// Threads: the only place that spawns and names them, and that pins or slows the calling one.
pub mod threads;
