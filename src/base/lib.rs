//! Part of [ringest](https://crates.io/crates/ringest): what every other part may use. Threads and clocks,
//! facts about this host, bytes and figures as text. It knows nothing about datagrams.

/// Facts about this host, read from /proc and /sys.
pub mod host;
/// Services of the operating system: threads, events, clocks, random numbers, rings, socket options.
pub mod sys;
/// Bytes, figures and times as text.
pub mod text;

/// For the macros of this crate, which implement its traits in other crates.
#[doc(hidden)]
pub use serde;
