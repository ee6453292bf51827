//! Where datagrams go: one file per destination, each a [`Handler`](crate::Handler) that says what
//! became of every datagram it was given.

pub mod discard;
pub mod stdout;
mod escape;
