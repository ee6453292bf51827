//! Apache Kafka.

/// Explains librdkafka's errors.
#[cfg(feature = "kafka")]
mod causes;
/// Collects librdkafka's delivery reports and errors.
#[cfg(feature = "kafka")]
mod delivery_events;
/// Stands in for the carrier where Kafka is not built in, and says how to build with it.
#[cfg(not(feature = "kafka"))]
mod disabled;
/// The carrier, on librdkafka's idempotent producer.
#[cfg(feature = "kafka")]
mod kafka_carrier;
/// The producer's configuration: our defaults, the user's properties, and those that are fixed.
#[cfg(feature = "kafka")]
mod properties;
/// Which topic to write to, at which brokers, with which properties.
mod spec;

#[cfg(not(feature = "kafka"))]
pub use crate::kafka::disabled::carrier;
#[cfg(feature = "kafka")]
pub use crate::kafka::kafka_carrier::{Kafka, carrier};
pub use crate::kafka::spec::{KafkaSpec, Login, Property, Refused};
