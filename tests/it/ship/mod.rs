//! Kafka and NATS, against real brokers.

/// What the tests of brokers share
#[cfg(any(feature = "kafka", feature = "nats"))]
pub(crate) mod rig;
/// The Kafka carrier against librdkafka's own cluster, which fails on demand.
#[cfg(feature = "kafka")]
pub(crate) mod kafka;
/// Who may talk to a broker
#[cfg(feature = "kafka")]
pub(crate) mod kafka_access;
/// The Kafka carrier against a broker that is a program.
#[cfg(feature = "kafka")]
pub(crate) mod kafka_broker;
/// `ringest listen --sink kafka:…` as a user runs it, while either end dies.
#[cfg(feature = "kafka")]
pub(crate) mod kafka_program;
/// What the tests of Kafka share
#[cfg(feature = "kafka")]
pub(crate) mod kafka_rig;
/// Records to NATS JetStream
#[cfg(feature = "nats")]
pub(crate) mod nats;
/// Who is let in, by what, and that nobody reads it.
#[cfg(feature = "nats")]
pub(crate) mod nats_login;
/// A client of NATS of our own
#[cfg(feature = "nats")]
pub(crate) mod nats_probe;
/// `ringest listen --sink nats:…` as a user runs it, while either end dies, or one of three brokers does.
#[cfg(feature = "nats")]
pub(crate) mod nats_program;
/// Real nats-servers, and a shipper's part towards the carrier.
#[cfg(feature = "nats")]
pub(crate) mod nats_rig;
/// `ringest listen` as an operator has it
#[cfg(any(feature = "kafka", feature = "nats"))]
pub(crate) mod program_rig;
/// Tansu
#[cfg(feature = "kafka")]
pub(crate) mod tansu;
/// A store of objects in this process that speaks as much of S3's HTTP as Tansu asks for
#[cfg(feature = "kafka")]
pub(crate) mod object_store;
