//! How threads of an engine signal each other.

/// The stop signal.
pub mod stop;
/// Wakes a sleeping receiver.
pub mod waker;
