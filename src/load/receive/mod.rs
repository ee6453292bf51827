//! The receiving half: which datagrams came.

/// What comes back from an echo server.
pub mod echo;
/// The receiving half of a run as a handler.
pub mod receiver;
/// The receiving half's books on one run.
pub mod tracker;
/// Which numbers of one flow have been seen, as far back as a fixed window reaches.
pub mod window;
