//! The receiver under test.

/// What the engine under test does with datagrams.
pub mod handler;
/// What the kernel counts outside of our sockets.
pub mod layers;
/// The receiver under test.
pub mod run;
/// CPU time and context switches of threads of this process, read from outside.
pub mod threads;
