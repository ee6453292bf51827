//! The client library and `ringest send`.

/// Tools: the real binary with something on its stdin, peers that exist and peers that do not, three hosts in a row.
pub(crate) mod rig;
/// `ringest::Client` on the loopback.
pub(crate) mod basics;
/// `ringest send` on the loopback.
pub(crate) mod send;
/// The client between two hosts: marks, fragments, full queues.
pub(crate) mod network;
/// The client with a router before the server: ICMP errors and path MTU.
pub(crate) mod path;
/// `ringest send` with programs of others as its peers.
pub(crate) mod others;
