//! The receiving half: tells which datagrams arrived.

/// Echoes from the receiver.
pub mod echo;
/// The receiving half of a run as a handler.
pub mod receiver;
/// The account of one run by one thread.
pub mod tracker;
/// The numbers of one flow that have been seen, within a fixed window.
pub mod window;
