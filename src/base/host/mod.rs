//! What this host is and has, read from /proc and /sys.

/// Who holds a port.
pub mod holders;
/// What this host gives us.
pub mod resources;
