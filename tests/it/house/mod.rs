//! The tree itself, and its README.

/// Types every `sh` block of README.md and docs/usage.md as it stands.
pub(crate) mod commands;
