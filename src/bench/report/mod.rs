//! A [`Report`](crate::document::report::Report) as something to look at: pure functions from it to text.
//!
//! ```text
//! Report ─► findings (warnings, figures, accounts, costs) ─► tables ─┬► terminal (cli/)
//!                                        │                           └► html ─► page
//!                                        └─► charts ─► rows, plots ─► svg ─┘
//! ```
//!
//! Nothing here reads, writes or prints. A report may come from another host: whatever it holds, the
//! page holds no markup, no script and no reference of its making.

/// What a report comes to.
pub mod findings;
/// The same in rows and columns.
pub mod tables;
mod axis;
mod svg;
mod rows;
mod plots;
mod charts;
mod html;
/// Intervals as text.
pub mod interval;

pub use crate::report::html::page;

#[cfg(test)]
use crate::document::{facts, report, trial};
#[cfg(test)]
#[path = "../../../tests/page/sample.rs"]
pub(crate) mod sample;
