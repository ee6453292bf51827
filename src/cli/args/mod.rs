//! Flags shared by subcommands, and the values they take.

/// The flags that say what is in a datagram.
pub(crate) mod decode;
/// DSCP classes by their names, as the registry of RFC 2474 has them.
pub(crate) mod dscp;
/// The flags `listen` and `echo` share, and the engine they ask for.
pub(crate) mod engine;
/// Names and passwords.
pub(crate) mod secret;
/// The flags of listening sockets.
pub(crate) mod socket;
/// Single values as they are typed.
pub(crate) mod values;
