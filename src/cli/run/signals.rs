//! SIGINT and SIGTERM as a descriptor, and waiting for several descriptors at once.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::failure::Failure;

/// The signals that stop the program; blocked from here on and read instead.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks them. To be called before any thread is started: threads inherit the mask, and one
    /// that had not would be killed by a signal meant for the main loop.
    pub(crate) fn block() -> Result<Self, Failure> {
        let mut mask = SigSet::empty();
        mask.add(Signal::SIGINT);
        mask.add(Signal::SIGTERM);
        let flags = SfdFlags::SFD_NONBLOCK | SfdFlags::SFD_CLOEXEC;
        mask.thread_block()
            .and_then(|()| SignalFd::with_flags(&mask, flags))
            .map(|fd| Self { fd })
            .map_err(|error| Failure::Failed(format!("cannot take signals: signalfd(2): {error}")))
    }

    /// The next one, if any has come.
    pub(crate) fn take(&self) -> Option<&'static str> {
        let info = self.fd.read_signal().ok().flatten()?;
        let number = i32::try_from(info.ssi_signo).unwrap_or(0);
        Some(Signal::try_from(number).map_or("a signal", Signal::as_str))
    }
}

impl std::os::fd::AsFd for Signals {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

/// Waits until one of `fds` is readable (or closed, or in error) or `deadline` has come. Returns
/// which ones are; all `false` is the deadline or a spurious return.
pub(crate) fn wait<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    deadline: Option<Instant>,
) -> Result<[bool; N], Failure> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
    match poll(&mut polled, timeout(deadline)) {
        Ok(_) => Ok(polled.map(|fd| fd.any().unwrap_or(false))),
        Err(Errno::EINTR) => Ok([false; N]),
        Err(error) => Err(Failure::Failed(format!("poll(2): {}", io::Error::from(error)))),
    }
}

/// Waits until one of `fds` is readable, or nobody reads what is written to `output` any more: returns
/// whether that is so.
pub(crate) fn wait_or_closed<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    output: BorrowedFd<'_>,
) -> Result<bool, Failure> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).to_vec();
    // Asked for nothing, poll(2) still tells of errors and hang-ups.
    polled.push(PollFd::new(output, PollFlags::empty()));
    match poll(&mut polled, PollTimeout::NONE) {
        Ok(_) => Ok(polled.last().is_some_and(|output| output.any().unwrap_or(false))),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(Failure::Failed(format!("poll(2): {}", io::Error::from(error)))),
    }
}

/// Rounded up to a millisecond, so that a deadline has come when the poll ends and is not polled
/// for again at once.
fn timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
