//! Bytes, figures and times as text.

/// Makes bytes from the network safe to look at.
pub mod escape;
/// Figures a person can read, and text from another host made harmless.
pub mod figures;
/// Datagrams and records as lines of JSON, the same wherever one is printed.
pub mod json;
/// Times as people and programs both read them.
pub mod rfc3339;
