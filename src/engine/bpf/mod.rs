//! Programs for the kernel: bpf(2) without a compiler or a library.

/// Counts the datagrams that reach a socket.
pub mod arrivals;
/// Classic BPF programs.
pub(crate) mod classic;
/// The bpf(2) system call: maps, programs, attaching.
pub mod program;
