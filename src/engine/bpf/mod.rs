//! Programs for the kernel: bpf(2) without a compiler or a library.

/// Counting what reaches a socket, before its receive buffer can refuse it.
pub mod arrivals;
/// Classic BPF programs.
pub(crate) mod classic;
/// bpf(2).
pub mod program;
