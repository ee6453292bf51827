//! The tree itself: which file may use which, how large files and folders may be, and that documented commands work.

/// Types every `sh` block of README.md and docs/usage.md as it stands.
pub(crate) mod commands;
/// Reads Rust source as tokens, without comments, texts and test code.
pub(crate) mod tokens;
/// The modules of one crate, and the file that each path in them leads to.
pub(crate) mod modules;
/// Finds circles in a graph of files or folders.
pub(crate) mod graph;
/// No circle between files or rooms, and no member that uses one above it.
pub(crate) mod walls;
/// Limits on files and folders, and a doc line on each module.
pub(crate) mod floors;
/// The number of crates that the library alone builds.
pub(crate) mod weight;
