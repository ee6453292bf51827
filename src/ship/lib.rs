//! Ships committed records from the journal to a broker, in order, until each is acknowledged.
//!
//! ```text
//!  journal (committed up to here) ─► shipper ─► carrier ─► broker
//!       ▲ cursor: all before it is settled          └─ verdicts ─┘
//! ```
//! A shipper is one thread with one destination. It reads committed records, keeps a window of them under
//! way, and moves its durable cursor past the acknowledged ones in front. A [`Carrier`] is a broker's
//! client: it reports for each record whether the broker has it, never will, or should be asked again.
//!
//! [`Carrier`]: crate::carrier::Carrier

/// Counts of one destination, for status displays.
pub mod account;
/// A journal with its brokers as one sink.
pub mod assemble;
/// The interface of a broker's client.
pub mod carrier;
/// A destination's durable position.
pub mod cursor;
/// Records that a broker refuses for good.
pub mod dead_letters;
/// All shippers of a journal: started, watched, stopped.
pub mod fleet;
/// Apache Kafka.
pub mod kafka;
/// Reads one worker's segments for a shipper.
pub mod lane;
/// NATS JetStream.
pub mod nats;
/// One destination's thread.
pub mod shipper;
/// Brokers' streams and topics, as `--sink` names them.
pub mod target;
#[cfg(test)]
pub(crate) mod tests;
