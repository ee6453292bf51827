//! Tools of several tests: an engine that writes down all it sees, a process of its own, a browser, a relay, a disk in a file.

/// An engine with a handler that writes down all it sees, senders, and the checks every run must pass.
pub(crate) mod support;
/// A test that runs alone in a process.
pub(crate) mod child;
/// Chromium without a window, over a pipe in its own protocol (Chrome DevTools Protocol).
pub(crate) mod chromium;
/// A relay that drops, doubles and reorders by a known script, and a receiving half that must count just that.
pub(crate) mod relay;
/// A disk in a file that can be filled, frozen, broken and cut off.
pub(crate) mod loop_disk;
