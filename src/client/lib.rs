//! Part of [ringest](https://crates.io/crates/ringest): a UDP client that hears what becomes of its datagrams.

/// The builder of a client.
pub mod builder;
/// The client: sends datagrams, receives answers and errors.
pub mod client;
/// Errors of a client, and the reports about its datagrams.
pub mod error;
/// The error queue of a socket (IP_RECVERR in ip(7), IPV6_RECVERR in ipv6(7)).
pub mod errqueue;
/// Waiting, and reading the error queue.
pub mod hear;
/// The peers of a client, and the errors about them.
pub mod peers;
/// The route to a peer, asked before anything is sent there.
pub mod route;
/// Settings of a client, and the opening of its socket.
pub mod settings;

pub use builder::Builder;
pub use client::{Client, Heard, Reply, Sent};
pub use error::{ClientError, Origin, PAYLOAD_BYTES_MAX, PeerError, PeerErrorKind, header_bytes};
