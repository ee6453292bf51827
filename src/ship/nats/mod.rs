//! NATS JetStream.
//!
//! ```text
//!  message ─► wire ─► server ─► wire ─► answer (what it says) ─► window (whose, in order) ─► verdict ─► shipper/settle
//! ```

/// Reads what a stream answers to a message.
#[cfg(feature = "nats")]
mod answer;
/// Stands in for the carrier where NATS is not built in, and says how to build with it.
#[cfg(not(feature = "nats"))]
mod disabled;
/// One connection to a server.
#[cfg(feature = "nats")]
mod link;
/// The carrier: connects, hands messages over, reports verdicts.
#[cfg(feature = "nats")]
mod nats_carrier;
/// Which stream to publish to, where it is, and how to log in.
mod spec;
/// Reads a stream's configuration.
#[cfg(feature = "nats")]
mod stream;
/// Messages under way, and the order of each peer's.
#[cfg(feature = "nats")]
mod window;
/// Messages out and answers in.
#[cfg(feature = "nats")]
mod wire;

#[cfg(not(feature = "nats"))]
pub use crate::nats::disabled::carrier;
#[cfg(feature = "nats")]
pub use crate::nats::nats_carrier::{Nats, carrier};
pub use crate::nats::spec::{Login, NatsSpec, Secret};

#[cfg(test)]
#[cfg(feature = "nats")]
mod tests;
