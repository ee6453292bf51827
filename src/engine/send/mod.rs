//! The way back: replies.

/// The way back.
pub mod reply;
