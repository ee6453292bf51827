//! How threads of an engine signal each other.

/// How other threads get a sleeping receiver's attention, and the stop signal they all watch.
pub mod waker;
