//! Flags shared by subcommands, and the values they take.

/// The flags that say what is in a datagram.
pub(crate) mod decode;
/// The flags `listen` and `echo` share, and the engine they ask for.
pub(crate) mod engine;
/// Flags that take one of a few names.
pub(crate) mod named;
/// Names and passwords.
pub(crate) mod secret;
/// The flags of listening sockets.
pub(crate) mod socket;
/// Single values as they are typed.
pub(crate) mod values;
