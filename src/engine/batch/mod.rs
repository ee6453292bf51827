//! Batches of datagrams, and the pool that owns them.

/// The noun that travels.
pub mod arena;
/// The pool.
pub mod pool;
