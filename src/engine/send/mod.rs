//! Sending: replies of handlers, and the settling of sends that replies and loads share.

/// Replies of a handler, on their way to a receiver.
pub mod reply;
/// Settling: the result of each send is judged once, and some sends are tried again.
pub mod settle;
/// The sending half of a receiver.
pub mod transmitter;
