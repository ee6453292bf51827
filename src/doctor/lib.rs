//! Part of [ringest](https://crates.io/crates/ringest): looks at a host for what will lose datagrams, and names
//! the command that mends it.

/// Whether the address can be listened on.
pub mod address;
/// How much the kernel holds for a receiver that is behind.
pub mod buffers;
/// One finding, and the few words it is made of.
pub mod check;
/// What was lost since boot, by the kernel's own counters.
pub mod counters;
/// The cores receivers and workers are planned on.
pub mod cpu;
/// One look at a host.
pub mod examine;
/// What is read of /proc and /sys, from a root that a test can put elsewhere.
pub mod files;
/// What a packet filter or connection tracking does to the port.
pub mod firewall;
/// The kernel, and each feature of io_uring by trying it.
pub mod kernel;
/// Limits of this process.
pub mod limits;
/// Huge pages.
pub mod memory;
/// The networks this host is in, by the addresses of its interfaces.
pub mod networks;
/// Network interfaces: offloads, queues, interrupts, losses.
pub mod nic;
/// Which process holds a socket.
pub mod owners;
/// What the kernel writes under /proc and /sys, read by pure functions.
pub mod parse;
#[cfg(test)]
pub(crate) mod tests;
/// What a host is examined for.
pub mod wanted;
