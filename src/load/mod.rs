//! The load generator: datagrams that know their number and when they were sent.

pub mod sender;
pub mod stamp;
