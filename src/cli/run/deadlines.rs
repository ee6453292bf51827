//! The end of a run, and how long it is waited for.
//!
//! ```text
//!  engine drains ─► shippers keep their cursors ─► summary ─► the journal is sealed
//!     └──────────────┴──── second signal: a moment for all that is left, then go ──┘
//! ```
//! What does not end within that moment is left behind as it is. A disk that stalls holds it: a thread that
//! waits for one cannot be stopped, and what it has begun to write is read from its memory until then.

use std::os::fd::{AsFd, BorrowedFd};
use std::time::{Duration, Instant};

use ringest::{Engine, Summary};
use ringest_base::sys::background::BackgroundTask;

use crate::cli::failure::Failure;
use crate::cli::run::signals;
use crate::cli::run::signals::Signals;
use crate::cli::show::paint;

/// How long after the second signal what only needs a moment may take. The engine gives its threads as long.
const MOMENT: Duration = Duration::from_secs(1);

/// See the module's description.
#[derive(Debug)]
pub(crate) struct StopDeadlines<'a> {
    signals: &'a Signals,
    quiet: bool,
    /// When it ends: the second signal has come.
    until: Option<Instant>,
}

impl<'a> StopDeadlines<'a> {
    /// Without an end, until a signal comes; that is the second one.
    pub(crate) fn new(signals: &'a Signals, quiet: bool) -> Self {
        Self { signals, quiet, until: None }
    }

    pub(crate) fn signals(&self) -> &'a Signals {
        self.signals
    }

    /// Stops the engine and returns its final accounts. A signal meanwhile makes it abandon what is still on
    /// the way, after `abandon`.
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

    /// Does what a disk may hold up. `false`: it was left.
    pub(crate) fn run(
        &mut self,
        name: &str,
        work: impl FnOnce() + Send + 'static,
    ) -> Result<bool, Failure> {
        let errand = BackgroundTask::begin(name, work)?;
        self.spend(errand.as_fd(), || errand.has_ended())
    }

    /// Waits until `has_ended`, which something at `speaks` tells of; `false`: for no longer.
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
