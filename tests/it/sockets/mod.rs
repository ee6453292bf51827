//! Addresses, options, multicast, steering; network namespaces.

/// From where replies leave, and what is told of a datagram's header
pub(crate) mod addressing;
/// Where an engine listens
pub(crate) mod families;
/// Multicast groups in the lab
pub(crate) mod multicast;
/// Which receiver gets a datagram, proved by which one counted it.
pub(crate) mod steering;
/// Socket options, proved by what the other side, the firewall or the kernel's counters see.
pub(crate) mod options;
/// IP_TRANSPARENT
pub(crate) mod transparent;
/// Against programs not ours
pub(crate) mod foreign;
/// What only a network does
pub(crate) mod network;
/// Two hosts with several addresses each, in network namespaces, and what the tests of sockets share
pub(crate) mod lab;
/// What was mended with the patch of src.
pub(crate) mod mended;
