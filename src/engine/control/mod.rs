//! Sets an engine up, watches it and ends it. Nothing here sees a payload.
//!
//! ```text
//!  builder: Config ─► plan (cores, memory) ─► sockets ─► assembly ─► engine ─► threads
//! ```

/// Chooses the addresses to bind, and the receiver that joins each multicast group.
pub mod bind;
/// The builder: collects settings and starts the engine.
pub mod builder;
/// Puts an engine together: pools, queues and threads.
mod assembly;
/// The settings of an engine, with their defaults.
pub mod config;
/// The running engine: statistics, stop, abort, joining of groups.
pub mod engine;
/// Reads where to listen, as a person types it: addresses or names.
pub mod listen;
/// Resolves a host's name to its addresses, once, at start.
pub mod names;
/// Makes a plan from the settings and the host: cores, sizes, memory.
pub mod plan;
/// Settings of an engine: flags over a file over defaults.
pub mod settings;
/// State that all threads of an engine and its owner share.
mod shared;
/// Opens all sockets of an engine and joins their groups.
pub mod sockets;
/// The bodies of an engine's threads.
mod threads;
