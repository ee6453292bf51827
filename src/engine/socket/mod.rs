//! Listening sockets: opened, set, joined to groups, steered to.

/// One socket of one receiver for one listen address.
pub mod listener;
/// Multicast groups.
pub mod multicast;
/// What a socket can be told beyond its address, set and read back.
pub mod options;
/// Which receiver's socket gets a datagram.
pub mod steer;
