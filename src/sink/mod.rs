//! Where datagrams go: one file per destination, each a [`Handler`](crate::Handler) that says what
//! became of every datagram it was given.

pub mod landing;
pub mod tally;
pub mod discard;
pub mod stdout;
pub mod aside;
pub mod journal;
pub mod escape;
pub mod json;
pub mod rfc3339;
