//! Decides once, then watches; never sees a payload.

pub mod config;
pub mod host;
pub mod plan;
pub mod builder;
pub mod engine;
pub(crate) mod threads;
pub mod ledger;
pub mod latency;
pub mod summary;
