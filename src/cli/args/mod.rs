//! Flags that several commands share, and the values they take.

/// `--decode` and `--rejects`.
pub(crate) mod decode;
/// Flags of an engine, for `listen` and `echo`.
pub(crate) mod engine;
/// Flags that take one of a few names.
pub(crate) mod named;
/// Reads names and passwords.
pub(crate) mod secret;
/// Flags of sockets.
pub(crate) mod socket;
/// Reads single values.
pub(crate) mod values;
