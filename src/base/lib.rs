//! Part of [ringest](https://crates.io/crates/ringest): what every other part may use. Threads and clocks,
//! facts about this host, bytes and figures as text. Knows nothing of datagrams.

/// What this host is and has, read from /proc and /sys.
pub mod host;
/// What the operating system gives a thread: threads, clocks, socket options by number.
pub mod sys;
/// Bytes, figures and times as text.
pub mod text;

/// For the macros of this crate, which implement its traits in other crates.
#[doc(hidden)]
pub use serde;
