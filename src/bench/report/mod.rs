//! Shows a [`Report`](crate::document::report::Report): pure functions from it to text.
//!
//! ```text
//! Report ─► findings (warnings, figures, accounts, costs) ─► tables ─┬► terminal (cli/)
//!                                        │                           └► html ─► page
//!                                        └─► charts ─► chart ─► html ─┘
//! ```
//!
//! Nothing here reads, writes or prints. A report may come from another host: whatever it holds, the
//! page has no markup, no script and no reference that comes from it.

/// The conclusions of a report: warnings, figures to quote, losses and costs.
pub mod findings;
/// The same in rows and columns.
pub mod tables;
/// Scales and labels.
mod axis;
/// One chart as SVG.
mod chart;
/// The charts of each mode.
mod charts;
/// The page that holds them.
mod html;
/// Intervals as text.
pub mod interval;

pub use crate::report::html::page;

#[cfg(test)]
use crate::document::{facts, report, trial};
#[cfg(test)]
#[path = "../../../tests/page/sample.rs"]
pub(crate) mod sample;
