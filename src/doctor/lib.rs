//! Part of [ringest](https://crates.io/crates/ringest): looks at a host for causes of lost datagrams, and
//! prints the command that fixes each.

/// Whether the address can be listened on.
pub mod address;
/// Sizes of socket buffers and of the queues before them.
pub mod buffers;
/// One finding: its status, text and fix.
pub mod check;
/// Losses since boot, from the kernel's own counters.
pub mod counters;
/// The cores receivers and workers are planned on.
pub mod cpu;
/// The examination of a host: every check in turn.
pub mod examine;
/// Files of /proc and /sys, under a root that a test can choose.
pub mod files;
/// Packet filter and connection tracking.
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
/// Parsers for the files of /proc and /sys.
pub mod parse;
#[cfg(test)]
pub(crate) mod tests;
/// The addresses and threads that a host is examined for.
pub mod wanted;
