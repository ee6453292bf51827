//! Part of [ringest](https://crates.io/crates/ringest): a UDP client that hears what becomes of its datagrams.

/// What a client is to be, and its socket.
pub mod builder;
/// A UDP client that hears what becomes of its datagrams, as far as anybody says.
pub mod client;
/// What a client hears of its datagrams, and why it could not be set up.
pub mod error;
/// The error queue of a socket (IP_RECVERR in ip(7), IPV6_RECVERR in ipv6(7)).
pub mod errqueue;
/// Waiting, and reading what the error queue has.
pub mod hear;
/// The peers of a client.
pub mod peers;
/// What the routing table says about a peer before anything is sent there.
pub mod route;
