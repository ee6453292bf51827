//! Facts about this host, read from /proc and /sys.

/// The sockets and processes that hold a port.
pub mod holders;
/// Cores, CPU quota, memory, IPv6 and limits that this process may use.
pub mod resources;
