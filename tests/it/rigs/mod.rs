//! What several tests need: a process of its own, a browser, a relay, a disk in a file.

/// What the tests share
pub(crate) mod support;
/// Tests that need a process of their own
pub(crate) mod child;
/// Chromium without a window, spoken to over a pipe in its own protocol (Chrome DevTools Protocol)
pub(crate) mod chromium;
/// What a receiving half says of a stream that was spoilt on purpose
pub(crate) mod relay;
/// A disk that can be filled, frozen, broken and cut off
pub(crate) mod loop_disk;
