//! From the journal to a broker: committed records, in order, until each is acknowledged.
//!
//! ```text
//!  journal (committed up to here) ─► shipper ─► carrier ─► broker
//!       ▲ cursor: all before it is settled          └─ verdicts ─┘
//! ```
//! A shipper is one thread and one destination. It reads what is committed, keeps a window of records under
//! way, and moves its durable cursor behind those in front that were acknowledged. A [`Carrier`] is a
//! broker's client: it says of each record whether the broker has it, never will, or should be asked again.
//!
//! [`Carrier`]: crate::carrier::Carrier

/// What became of the records of one destination, for whoever prints.
pub mod account;
/// What a shipper asks of a broker's client.
pub mod carrier;
/// How far a destination has everything, on disk.
pub mod cursor;
/// Dead letters.
pub mod dead_letters;
/// All shippers of a journal.
pub mod fleet;
/// Kafka's carrier, on librdkafka's idempotent producer.
pub mod kafka;
/// One worker's segments as a shipper reads them.
pub mod lane;
/// NATS JetStream.
pub mod nats;
/// One destination's thread.
pub mod shipper;
#[cfg(test)]
pub(crate) mod tests;
