//! Listening sockets: opened, set, joined to groups, steered to.

/// A socket for one peer.
pub mod connected;
/// The properties of a socket that a backend needs.
pub mod endpoint;
/// Errors: a socket that could not be opened, an option that was refused.
pub mod error;
/// The owner of a socket's filter slot.
pub(crate) mod filter;
/// Network interfaces, by name or index.
pub mod interface;
/// One socket of one receiver for one listen address.
pub mod listener;
/// The memory accounts of a socket.
pub(crate) mod meminfo;
/// Multicast groups: joined and left.
pub mod multicast;
/// Socket options, set and read back.
pub mod options;
/// An option's value as asked for and as granted.
pub mod read_back;
/// The choice of the receiver whose socket gets a datagram.
pub mod steer;
