//! io_uring_setup(2), in one place for every ring of the program: a sandbox that restricts rings does so here.

use std::io;

use io_uring::{Builder, IoUring, cqueue, squeue};

/// Builds a ring of `entries` submissions, with the flags and sizes that `set_up` gives it. The ring's memory is not
/// inherited by child processes.
///
/// # Errors
/// io_uring_setup(2) or mmap(2) failed: EPERM where io_uring is disabled, ENOSYS where the kernel has none, ENOMEM
/// where the limit of locked memory is too low, EINVAL where the kernel does not know a flag.
pub fn build(
    entries: u32,
    set_up: impl FnOnce(&mut Builder<squeue::Entry, cqueue::Entry>),
) -> io::Result<IoUring> {
    let mut builder = IoUring::builder();
    builder.dontfork();
    set_up(&mut builder);
    builder.build(entries)
}
