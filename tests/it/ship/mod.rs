//! Kafka and NATS, against real brokers.

/// Tools for both brokers: `ringest listen` between senders and a broker, either of which dies.
#[cfg(any(feature = "kafka", feature = "nats"))]
pub(crate) mod rig;
/// The Kafka carrier against librdkafka's own cluster, which fails on demand.
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
/// Access to Kafka: passwords and certificates, right and wrong.
#[cfg(feature = "kafka")]
pub(crate) mod kafka_access;
/// The Kafka carrier against a broker that is a program.
#[cfg(feature = "kafka")]
pub(crate) mod kafka_broker;
/// `ringest listen --sink kafka:…` as a user runs it, while either end dies.
#[cfg(feature = "kafka")]
pub(crate) mod kafka_program;
/// Tools for Kafka: numbered records, a loop around a carrier, and a reader of all records in a topic.
#[cfg(feature = "kafka")]
pub(crate) mod kafka_rig;
/// Records to NATS JetStream.
#[cfg(feature = "nats")]
pub(crate) mod nats;
/// Logins to NATS with each kind of credentials, and that no output shows them.
#[cfg(feature = "nats")]
pub(crate) mod nats_login;
/// A client of NATS of our own, to read what the broker has.
#[cfg(feature = "nats")]
pub(crate) mod nats_probe;
/// `ringest listen --sink nats:…` as a user runs it, while either end dies, or one of three brokers does.
#[cfg(feature = "nats")]
pub(crate) mod nats_program;
/// Tools for NATS: real nats-servers, and the shipper's side of a carrier.
#[cfg(feature = "nats")]
pub(crate) mod nats_rig;
/// Tools for the program: `ringest listen` in a terminal, as an operator has it.
#[cfg(any(feature = "kafka", feature = "nats"))]
pub(crate) mod program_rig;
/// Tansu, a Kafka broker that runs as a program.
#[cfg(feature = "kafka")]
pub(crate) mod tansu;
/// A store of objects in this process that speaks as much of S3's HTTP as Tansu asks for.
#[cfg(feature = "kafka")]
pub(crate) mod object_store;
