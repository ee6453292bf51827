//! Batches of datagrams, and the pool that owns them.

/// Batches, and the frames and datagrams in them. Payloads are copied here.
pub mod arena;
/// The pool that batches come from and go home to.
pub mod pool;
