//! Set-up of a ring: its flags, its size, and the features that the kernel gave it.

use std::io;

use io_uring::IoUring;
use ringest_base::sys::uring;

/// The buffer group that the slots are registered as.
pub(crate) const SLOTS_GROUP: u16 = 0;

/// Features of a ring on this host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Features {
    /// A sleep can gather datagrams (`min_wait`, Linux 6.12).
    pub min_wait: bool,
}

/// The size of a ring.
#[derive(Clone, Copy, Debug)]
pub struct RingSize {
    /// Slots, a power of two.
    pub slots: u16,
    /// Completion queue entries; 0: enough that the queue cannot overflow.
    pub cq_entries: u32,
}

/// Builds a ring with the flags that [`super::ring`] explains; with NO_SQARRAY (Linux 6.6) where the kernel has it.
///
/// # Errors
/// io_uring_setup(2) failed.
pub(crate) fn build_ring(sq_entries: u32, cq_entries: u32) -> io::Result<IoUring> {
    let with = |no_sqarray: bool| {
        uring::build(sq_entries, |builder| {
            builder.setup_single_issuer().setup_defer_taskrun().setup_submit_all();
            builder.setup_cqsize(cq_entries);
            if no_sqarray {
                builder.setup_no_sqarray();
            }
        })
    };
    with(true).or_else(|error| match error.raw_os_error() {
        Some(libc::EINVAL) => with(false),
        _ => Err(error),
    })
}
