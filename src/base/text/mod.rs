//! Bytes, figures and times as text.

/// DSCP classes by their names.
pub mod dscp;
/// Makes bytes from the network safe to look at.
pub mod escape;
/// Figures a person can read, and text from another host made harmless.
pub mod figures;
/// Datagrams and records as lines of JSON, the same wherever one is printed.
pub mod json;
/// Closed sets of values, each with one name.
pub mod named;
/// Times as people and programs both read them.
pub mod rfc3339;
/// Sizes, durations, rates, core lists and numbers as a person types them.
pub mod values;
