//! Listening sockets: addresses, options, multicast, steering; most of them in network namespaces.

/// The address that replies leave from, and the header fields that a handler sees of a datagram.
pub(crate) mod addressing;
/// Addresses to listen on: IPv4, IPv6, and every address of either or both.
pub(crate) mod families;
/// Multicast groups, joined on two hosts with several interfaces.
pub(crate) mod multicast;
/// The receiver that a datagram goes to, proved by which one counted it.
pub(crate) mod steering;
/// Socket options, proved by what the other side, the firewall or the kernel's counters see.
pub(crate) mod options;
/// IP_TRANSPARENT: datagrams to foreign addresses are received and answered.
pub(crate) mod transparent;
/// Programs of others that talk to `ringest`: socat and nc among them.
pub(crate) mod foreign;
/// Conditions that only a network makes: a full send buffer, an MTU that refuses a train.
pub(crate) mod network;
/// Tools: two hosts with several addresses each, in network namespaces.
pub(crate) mod lab;
/// Faults that were once in the engine, each with the test that found it.
pub(crate) mod mended;
