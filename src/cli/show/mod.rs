//! Output: summary, status line, JSON, plan.

/// Explains losses: cause and next move.
pub(crate) mod advice;
/// Prints `--json`.
pub(crate) mod json;
/// Colours, and numbers as text.
pub(crate) mod paint;
/// Prints `--plan`.
pub(crate) mod plan;
/// The part of the summary about brokers.
pub(crate) mod shipments;
/// The status line.
pub(crate) mod status;
/// The summary at the end of a run, as text.
pub(crate) mod table;
