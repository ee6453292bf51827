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
//! [`Carrier`]: crate::ship::carrier::Carrier

pub mod carrier;
#[cfg(feature = "kafka")]
pub mod kafka;
#[cfg(feature = "nats")]
pub mod nats;
pub mod account;
pub mod cursor;
mod lane;
mod letters;
mod shipper;
pub mod fleet;

#[cfg(test)]
mod tests;
#[cfg(test)]
mod missing_tests;
#[cfg(test)]
mod unreadable_tests;
#[cfg(test)]
mod refused_tests;
