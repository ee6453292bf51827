//! Work that a disk may hold up, on a thread of its own: who began it can wait for other things, too, and
//! leave without it.

use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::sys::threads::ThreadError;
use crate::sys::threads::spawn_named;

/// See the module's description. Dropped before its end, it goes on until the process ends.
#[derive(Debug)]
pub struct BackgroundTask(Arc<End>);

#[derive(Debug)]
struct End {
    has_come: AtomicBool,
    /// Readable from then on.
    event: EventFd,
}

impl BackgroundTask {
    /// Begins it, on a thread of that name.
    ///
    /// # Errors
    /// The kernel refused the thread or the eventfd.
    pub fn begin(name: &str, work: impl FnOnce() + Send + 'static) -> Result<Self, ThreadError> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)
            .map_err(|errno| ThreadError { name: name.to_owned(), source: errno.into() })?;
        let end = Arc::new(End { has_come: AtomicBool::new(false), event });
        let told = Arc::clone(&end);
        spawn_named(name.to_owned(), None, move || {
            work();
            told.has_come.store(true, Ordering::Release);
            // EAGAIN cannot be: it is written to once.
            let _ = told.event.write(1);
        })?;
        Ok(Self(end))
    }

    /// Whether it is done.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.0.has_come.load(Ordering::Acquire)
    }
}

impl AsFd for BackgroundTask {
    /// Readable when it is done.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.event.as_fd()
    }
}
