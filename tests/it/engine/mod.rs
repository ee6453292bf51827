//! The engine against real sockets.

/// Datagrams of every size, alone and in trains, come through whole.
pub(crate) mod shapes;
/// Too few slots, completions, batches or bytes of receive buffer
pub(crate) mod scarcity;
/// Which handler gets what
pub(crate) mod spreading;
/// What handlers answer
pub(crate) mod replies;
/// A stop is a drain
pub(crate) mod stopping;
/// A handler that panics ends the engine with its message, on a worker and on a receiver.
pub(crate) mod panics;
/// What the host refuses
pub(crate) mod refusals;
/// A host that refuses io_uring, made with a seccomp filter in a child process
pub(crate) mod fallback;
/// Memory is decided at start and stays there.
pub(crate) mod footprint;
/// When nothing comes
pub(crate) mod idle;
/// A host that changes under a running engine, groups that cannot be joined, and the most that can be asked of a datagram.
pub(crate) mod hostile;
/// `ringest listen` with several sinks at once, as a user runs it.
pub(crate) mod sinks;
