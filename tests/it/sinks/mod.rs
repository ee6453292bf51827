//! Sinks: several at once, files, and a set for each listener.

/// `--sink file:PATH`, by the program and by the library.
pub(crate) mod file;
/// A set of sinks for each listen address.
pub(crate) mod sets;
/// `ringest listen` with several sinks at once, as a user runs it.
pub(crate) mod program;
