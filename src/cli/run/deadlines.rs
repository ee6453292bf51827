//! The end of a run, and the time it may take.
//!
//! ```text
//!  engine drains ─► shippers keep their cursors ─► summary ─► the journal is sealed
//!     └──────────────┴──── second signal: a moment for all that is left, then go ──┘
//! ```
//! Threads that do not finish in that moment are abandoned. A thread blocked in disk I/O cannot be interrupted,
//! and the kernel may still read its buffers.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ringest::{Engine, Summary};
use ringest_base::sys::background::BackgroundTask;

use crate::cli::failure::Failure;
use crate::cli::run::signals;
use crate::cli::run::signals::Signals;
use crate::cli::show::paint;

/// Time that the remaining work has after the second signal. The engine gives its threads the same time.
const MOMENT: Duration = Duration::from_secs(1);

/// Deadlines of a stop: none until a second signal, then one second.
#[derive(Debug)]
pub(crate) struct StopDeadlines<'a> {
    signals: &'a Signals,
    quiet: bool,
    /// End of the time after the second signal; `None` before that signal.
    until: Option<Instant>,
}

impl<'a> StopDeadlines<'a> {
    /// Makes deadlines without an end. The next signal counts as the second one and sets it.
    pub(crate) fn new(signals: &'a Signals, quiet: bool) -> Self {
        Self { signals, quiet, until: None }
    }

    pub(crate) fn signals(&self) -> &'a Signals {
        self.signals
    }

    /// Stops the engine and returns its final summary. On a signal meanwhile it calls `abandon` and aborts the
    /// engine, which abandons the datagrams still on the way.
    pub(crate) fn stop(
        &mut self,
        engine: Engine,
        abandon: impl FnOnce(),
    ) -> Result<Summary, Failure> {
        engine.request_stop();
        let has_ended = || {
            engine.clear_event();
            engine.has_ended()
        };
        if !self.spend(engine.as_fd(), has_ended)? {
            abandon();
            engine.abort();
        }
        Ok(engine.stop()?)
    }

    /// Runs work that a disk may block, on a thread of its own. Returns `false` if the work was abandoned.
    pub(crate) fn run(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<bool, Failure> {
        let errand = BackgroundTask::begin(name, work)?;
        self.spend(errand.as_fd(), || errand.has_ended())
    }

    /// Waits until `has_ended`; `speaks` is readable when it should be asked again. Returns `false` at the deadline.
    fn spend(
        &mut self,
        speaks: BorrowedFd<'_>,
        has_ended: impl Fn() -> bool,
    ) -> Result<bool, Failure> {
        while !has_ended() {
            if self.until.is_some_and(|until| Instant::now() >= until) {
                return Ok(false);
            }
            let [signalled, _] = signals::wait([self.signals.as_fd(), speaks], self.until)?;
            if signalled
                && let Some(signal) = self.signals.take()
                && self.until.is_none()
            {
                if !self.quiet {
                    paint::say(&format!("{signal} again: abandoning what is still on the way\n"));
                }
                self.until = Some(Instant::now() + MOMENT);
                return Ok(false);
            }
        }
        Ok(true)
    }
}
