//! Blocking work on a thread of its own, such as work that a disk may hold up. The caller can wait for other events
//! meanwhile, or stop waiting.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::sys::event::Event;
use crate::sys::threads::{ThreadError, spawn_named};

/// Work that runs on its own thread. When this is dropped early, the work still goes on until the process ends.
#[derive(Debug)]
pub struct BackgroundTask(Arc<End>);

#[derive(Debug)]
struct End {
    has_come: AtomicBool,
    /// Raised when the work is done.
    event: Event,
}

impl BackgroundTask {
    /// Starts `work` on a thread named `name`.
    ///
    /// # Errors
    /// The kernel refused the thread or the eventfd.
    pub fn begin(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Self, ThreadError> {
        let event = Event::new()
            .map_err(|errno| ThreadError { name: name.to_owned(), source: errno.into() })?;
        let end = Arc::new(End { has_come: AtomicBool::new(false), event });
        let told = Arc::clone(&end);
        spawn_named(name.to_owned(), None, move || {
            work();
            told.has_come.store(true, Ordering::Release);
            told.event.raise();
        })?;
        Ok(Self(end))
    }

    /// Returns whether the work is done.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.has_come.load(Ordering::Acquire)
    }
}

impl AsFd for BackgroundTask {
    /// Returns a descriptor that is readable once the work is done.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
