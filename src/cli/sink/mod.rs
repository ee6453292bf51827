//! `--sink` and the flags of each kind of sink.

/// The flags of `--sink journal:DIR`.
pub(crate) mod journal;
/// The flags and secrets of `--sink kafka:BROKERS/TOPIC`.
pub(crate) mod kafka;
/// The flags and secrets of `--sink nats:URL/STREAM/SUBJECT`.
pub(crate) mod nats;
/// The flags of the brokers that a journal is shipped to, and of the journal as their spool.
pub(crate) mod ship;
/// The values of `--sink`, and the sinks that they open.
pub(crate) mod sinks;
