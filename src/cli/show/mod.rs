//! What is printed.

/// One sentence for every loss.
pub(crate) mod advice;
/// `--json`.
pub(crate) mod json;
/// How things look.
pub(crate) mod paint;
/// `--plan`.
pub(crate) mod plan;
/// What became of the records of each broker, for a person.
pub(crate) mod shipments;
/// The live line.
pub(crate) mod status;
/// The summary at the end, for a person.
pub(crate) mod table;
