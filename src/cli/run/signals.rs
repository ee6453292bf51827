//! SIGINT and SIGTERM as a descriptor (signalfd(2)), and poll(2) on several descriptors.

use std::io;
use std::os::fd::BorrowedFd;
use std::time::Instant;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::{SfdFlags, SignalFd};

use crate::cli::failure::Failure;

/// The signals that stop the program. They are blocked and read from a descriptor.
#[derive(Debug)]
pub(crate) struct Signals {
    fd: SignalFd,
}

impl Signals {
    /// Blocks the signals. Call it before any thread is started: threads inherit the mask, and a thread that does
    /// not block the signals would end the process when one arrives.
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

    /// Returns the name of the next signal, or `None` if none has come.
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

/// Waits until one of `fds` is readable (or closed, or in error), or until the deadline. Returns which are; all
/// are `false` at the deadline, or if a signal interrupted poll(2).
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

/// Waits until one of `fds` is readable, or until the reader of `output` has gone. Returns whether the reader has
/// gone.
pub(crate) fn wait_or_closed<const N: usize>(
    fds: [BorrowedFd<'_>; N],
    output: BorrowedFd<'_>,
) -> Result<bool, Failure> {
    let mut polled = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN)).to_vec();
    // Without any requested event, poll(2) still reports errors and hang-ups.
    polled.push(PollFd::new(output, PollFlags::empty()));
    match poll(&mut polled, PollTimeout::NONE) {
        Ok(_) => Ok(polled.last().is_some_and(|output| output.any().unwrap_or(false))),
        Err(Errno::EINTR) => Ok(false),
        Err(error) => Err(Failure::Failed(format!("poll(2): {}", io::Error::from(error)))),
    }
}

/// Returns the time until the deadline, rounded up to a millisecond: rounded down, poll(2) would return early and be
/// called again at once.
fn timeout(deadline: Option<Instant>) -> PollTimeout {
    let Some(deadline) = deadline else { return PollTimeout::NONE };
    let left = deadline.saturating_duration_since(Instant::now());
    let millis = left.as_nanos().div_ceil(1_000_000);
    PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX)
}
