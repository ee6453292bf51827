//! State that all threads of an engine and its owner share: the stop, the event descriptor, and the
//! reports of threads that ended.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::Sender;
use nix::unistd::gettid;

use ringest_base::sys::event::Event;

use crate::batch::pool::Pool;
use crate::error::Error;
use crate::receive::receiver::LeftBehind;
use crate::sync::stop::{Stop, StopKind};
use crate::sync::waker::Waker;
use crate::work::remains::Remains;

/// State shared by every thread of an engine.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) stop: Arc<Stop>,
    /// One per receiver.
    pub(crate) wakers: Vec<Arc<Waker>>,
    /// Readable when a thread has ended, which the engine's owner should look at.
    event: Event,
    /// Resident memory when the first receiver ended, bytes. Later values are too small, because threads
    /// free their memory as they end.
    pub(crate) rss_bytes: AtomicU64,
    /// Name and kernel id (gettid(2)) of each thread, added by the thread as it starts.
    thread_ids: Mutex<Vec<(String, i32)>>,
    /// Number of threads that have not ended.
    pub(crate) alive: AtomicUsize,
    /// Channel on which each thread reports its end.
    reports: Sender<Report>,
}

/// Report of one thread that ended.
#[derive(Debug)]
pub(crate) enum Report {
    /// A receiver ended in order. `remains` are those of its inline handler, if it has one.
    Receiver { left: LeftBehind, index: usize, remains: Option<Remains> },
    /// A worker ended in order. Its reply batches may still be on their way back to `replies`.
    Worker { replies: Pool, index: usize, remains: Remains },
    /// The thread failed.
    Failed(Error),
}

impl Shared {
    pub(crate) fn new(wakers: Vec<Arc<Waker>>, reports: Sender<Report>) -> nix::Result<Self> {
        let event = Event::new()?;
        let stop = Arc::new(Stop::default());
        let (rss_bytes, alive) = (AtomicU64::new(0), AtomicUsize::new(0));
        let thread_ids = Mutex::new(Vec::new());
        Ok(Self { stop, wakers, event, rss_bytes, thread_ids, alive, reports })
    }

    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    /// Makes the event descriptor unreadable until the next event.
    pub(crate) fn clear_event(&self) {
        self.event.clear();
    }

    pub(crate) fn notify(&self) {
        self.event.raise();
    }

    pub(crate) fn wake_all(&self) {
        self.wakers.iter().for_each(|waker| waker.wake());
    }

    /// Records the calling thread's name and kernel id.
    pub(crate) fn register_thread(&self, name: String) {
        self.thread_ids().push((name, gettid().as_raw()));
    }

    pub(crate) fn thread_ids(&self) -> MutexGuard<'_, Vec<(String, i32)>> {
        self.thread_ids.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a thread's body and reports how it ended. A failure or a panic stops the whole engine: an
    /// engine with some of its threads missing would lose datagrams without counting them.
    pub(crate) fn report(&self, body: impl FnOnce() -> Result<Report, Error>) {
        let result = catch_unwind(AssertUnwindSafe(body))
            .unwrap_or_else(|panic| Err(Error::Panicked { message: panic_message(&*panic) }));
        let report = result.unwrap_or_else(|error| {
            self.stop.begin(StopKind::Abort);
            Report::Failed(error)
        });
        // Cannot fail: the engine keeps the receiving end until every thread has ended.
        let _ = self.reports.send(report);
        self.alive.fetch_sub(1, Ordering::SeqCst);
        self.wake_all();
        self.notify();
    }
}

/// Returns a panic's message, or "no message" if the payload is not text.
pub(crate) fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}
