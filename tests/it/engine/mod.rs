//! The engine against real sockets.

/// Datagrams of every size, alone and in trains, come through whole.
pub(crate) mod shapes;
/// Too few slots, completions, batches or bytes of receive buffer: losses are counted, and the engine goes on.
pub(crate) mod scarcity;
/// The handler that each datagram goes to: spread, or one flow to one handler.
pub(crate) mod spreading;
/// Replies of handlers: from the address that was asked, in order, each counted once.
pub(crate) mod replies;
/// A stop handles every datagram that was received before it.
pub(crate) mod stopping;
/// A handler that panics ends the engine with its message, on a worker and on a receiver.
pub(crate) mod panics;
/// Values that handlers leave come back from the stop.
pub(crate) mod remains;
/// Refusals of the host: each error says what failed and what to do next.
pub(crate) mod refusals;
/// A host that refuses io_uring, made with a seccomp filter in a child process.
pub(crate) mod fallback;
/// Memory is taken at start and does not grow.
pub(crate) mod footprint;
/// No thread of the engine allocates memory while datagrams pass.
pub(crate) mod allocation;
/// An engine that gets nothing: ticks for handlers, and no work for the processor.
pub(crate) mod idle;
/// A host that changes under a running engine, groups that cannot be joined, header fields at their limits.
pub(crate) mod hostile;
