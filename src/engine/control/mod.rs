//! Decides once, then watches: config, plan, engine. Never sees a payload.

/// What to bind, and which multicast groups to join there.
pub mod bind;
/// How an engine is asked for, and how it is put together.
pub mod builder;
/// What is wanted.
pub mod config;
/// The engine.
pub mod engine;
/// From a host's name to its addresses, once, at start.
pub mod names;
/// From config and host to a plan.
pub mod plan;
/// Every socket of an engine.
pub mod sockets;
/// What the engine's threads do between being started and being joined.
pub mod threads;
