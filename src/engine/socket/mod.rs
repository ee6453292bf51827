//! Listening sockets: opened, set, joined to groups, steered to.

/// Errors: a socket that could not be opened, an option that was refused.
pub mod error;
/// Network interfaces, by name or index.
pub mod interface;
/// One socket of one receiver for one listen address.
pub mod listener;
/// Multicast groups: joined and left.
pub mod multicast;
/// Socket options, set and read back.
pub mod options;
/// An option's value as asked for and as granted.
pub mod read_back;
/// The choice of the receiver whose socket gets a datagram.
pub mod steer;
