//! Decides once, then watches; never sees a payload.

pub mod names;
pub mod config;
pub mod host;
pub mod bind;
pub mod plan;
pub(crate) mod holders;
pub(crate) mod sockets;
pub mod builder;
pub mod engine;
pub(crate) mod threads;
pub mod errand;
pub mod ledger;
pub mod latency;
pub mod summary;
