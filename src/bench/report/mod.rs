//! A [`Report`](crate::bench::record::Report) as something to look at: pure functions from it to text.
//!
//! ```text
//! Report ─► findings (warnings, figures, accounts, costs) ─► tables ─┬► terminal (cli/)
//!                                        │                           └► html ─► page
//!                                        └─► charts ─► rows, plots ─► svg ─┘
//! ```
//!
//! Nothing here reads, writes or prints. A report may come from another host: whatever it holds, the
//! page holds no markup, no script and no reference of its making.

/// Figures and text for a reader.
pub mod text;
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
#[cfg(test)]
mod chaos;

pub use html::page;

#[cfg(test)]
use super::{facts, record};
#[cfg(test)]
#[path = "../../../tests/page/sample.rs"]
pub(super) mod sample;
