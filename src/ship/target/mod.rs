//! Brokers' streams and topics, as `--sink` names them.

/// The host of a server.
mod host;
/// A topic of Kafka.
pub mod kafka;
/// The table of brokers by name, and one target of any kind.
pub mod kinds;
/// A stream of NATS JetStream.
pub mod nats;
