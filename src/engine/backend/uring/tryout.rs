//! Each feature of io_uring that the engine uses or could use, tried by itself: `ringest doctor` lists which of them this
//! host has. The engine itself uses [`crate::backend::uring::probe`].
#![expect(unsafe_code, reason = "submission entries carry raw pointers")]

use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixDatagram;

use io_uring::types::{Fd, Fixed, Napi, SubmitArgs, Timespec};
use io_uring::{IoUring, cqueue, opcode, squeue};
use ringest_base::sys::uring;

use crate::backend::outgoing::empty_header;
use crate::backend::uring::probe;
use crate::backend::uring::recv_header::head_bytes;
use crate::backend::uring::slots::Slots;
use crate::wire::cmsg::Asked;

/// One feature and the outcome of its trial.
#[derive(Debug)]
pub struct Tried {
    /// The name, such as `multishot_recvmsg`.
    pub feature: &'static str,
    /// The first kernel that has it.
    pub since: &'static str,
    /// `Ok`, or the error.
    pub outcome: Result<(), String>,
}

/// A feature, the first kernel that has it, and its trial.
type Trial = (&'static str, &'static str, fn() -> io::Result<()>);

const TRIALS: [Trial; 8] = [
    ("ring", "Linux 5.1", ring),
    ("defer_taskrun", "Linux 6.1", defer_taskrun),
    ("no_sqarray", "Linux 6.6", no_sqarray),
    ("registered_files", "Linux 5.1", registered_files),
    ("buffer_ring", "Linux 5.19", buffer_ring),
    ("sendmsg", "Linux 5.3", sendmsg),
    ("min_wait", "Linux 6.12", min_wait),
    ("napi", "Linux 6.9", napi),
];

/// Tries every feature. Call it on a thread that ends soon, as [`probe::io_uring`].
#[must_use]
pub fn features() -> Vec<Tried> {
    let said = |error: io::Error| match error.raw_os_error() {
        Some(libc::EINVAL | libc::EOPNOTSUPP) => format!("this kernel does not know it: {error}"),
        _ => error.to_string(),
    };
    let mut tried: Vec<Tried> = TRIALS
        .iter()
        .map(|(feature, since, attempt)| Tried { feature, since, outcome: attempt().map_err(said) })
        .collect();
    let outcome = probe::io_uring().map(drop);
    tried.insert(5, Tried { feature: "multishot_recvmsg", since: "Linux 6.0", outcome });
    tried
}

fn ring() -> io::Result<()> {
    uring::build(4, |_| {}).map(drop)
}

fn defer_taskrun() -> io::Result<()> {
    let single = uring::build(4, |builder| {
        builder.setup_single_issuer().setup_defer_taskrun();
    });
    single.map(drop)
}

fn no_sqarray() -> io::Result<()> {
    let without = uring::build(4, |builder| {
        builder.setup_no_sqarray();
    });
    without.map(drop)
}

/// Submits one entry whose pointers stay valid until this returns, and returns its result.
fn complete(ring: &mut IoUring, entry: &squeue::Entry) -> io::Result<i32> {
    // SAFETY: the callers below wait here for the completion while what the entry points to lives.
    unsafe { ring.submission().push(entry) }.map_err(io::Error::other)?;
    ring.submit_and_wait(1)?;
    let result = ring.completion().next().as_ref().map(cqueue::Entry::result);
    let result = result.ok_or_else(|| io::Error::other("no completion came"))?;
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result) }
}

fn registered_files() -> io::Result<()> {
    let (ours, peer) = UnixDatagram::pair()?;
    let mut ring = uring::build(4, |_| {})?;
    ring.submitter().register_files(&[ours.as_raw_fd()])?;
    peer.send(b"x")?;
    let mut byte = 0_u8;
    let receive = opcode::Recv::new(Fixed(0), &raw mut byte, 1).build();
    complete(&mut ring, &receive).map(drop)
}

fn buffer_ring() -> io::Result<()> {
    let slots = Slots::new(2, head_bytes(Asked::default()))?;
    let ring = uring::build(4, |_| {})?;
    // SAFETY: the buffer ring lives in `slots`, declared before the ring and so dropped after it.
    unsafe {
        ring.submitter().register_buf_ring_with_flags(slots.ring_address(), slots.count(), 0, 0)
    }
}

fn sendmsg() -> io::Result<()> {
    let (ours, _peer) = UnixDatagram::pair()?;
    let mut ring = uring::build(4, |_| {})?;
    let mut byte = 0_u8;
    let mut part = libc::iovec { iov_base: (&raw mut byte).cast(), iov_len: 1 };
    let mut header = empty_header();
    (header.msg_iov, header.msg_iovlen) = (&raw mut part, 1);
    let send = opcode::SendMsg::new(Fd(ours.as_raw_fd()), &raw const header).build();
    complete(&mut ring, &send).map(drop)
}

/// Waits with a bound for a completion that is there already.
fn min_wait() -> io::Result<()> {
    let mut ring = uring::build(4, |_| {})?;
    if !ring.params().is_feature_min_timeout() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    // SAFETY: a no-op refers to no memory.
    unsafe { ring.submission().push(&opcode::Nop::new().build()) }.map_err(io::Error::other)?;
    let timeout = Timespec::new().sec(1);
    let args = SubmitArgs::new().timespec(&timeout).min_wait_usec(1);
    ring.submitter().submit_with_args(1, &args).map(drop)
}

fn napi() -> io::Result<()> {
    let ring = uring::build(4, |_| {})?;
    ring.submitter().register_napi(&mut Napi::new().set_busy_poll_timeout(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_feature_is_tried_once_and_says_what_became_of_it() {
        let tried = features();
        let mut names: Vec<_> = tried.iter().map(|tried| tried.feature).collect();
        assert_eq!(names.len(), TRIALS.len() + 1);
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), TRIALS.len() + 1);
        // The probe as a whole agrees with the trials of its parts.
        let has = |wanted: &str| tried.iter().any(|t| t.feature == wanted && t.outcome.is_ok());
        if has("multishot_recvmsg") {
            assert!(has("ring") && has("buffer_ring") && has("defer_taskrun"), "{tried:#?}");
        }
        if let Ok(features) = probe::io_uring() {
            assert_eq!(features.min_wait, has("min_wait"), "{tried:#?}");
        }
    }
}
