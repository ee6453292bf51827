//! What the engine's threads do between being started and being joined. [`crate::control::engine`] starts
//! them; this file is what runs on them.

use std::any::Any;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crossbeam_channel::{Receiver as Inbox, Sender};
use nix::sys::eventfd::{EfdFlags, EventFd};
use nix::unistd::gettid;
use ringest_base::sys::threads::pin;

use crate::backend::interface::Backend;
use crate::backend::mmsg::Mmsg;
use crate::backend::uring::ring::Ring;
use crate::backend::uring::setup::RingSize;
use crate::batch::arena::Batch;
use crate::batch::pool::Pool;
use crate::control::sockets::{GroupSockets, let_go};
use crate::error::Error;
use crate::receive::coalesce::Coalescer;
use crate::receive::dispatch::Dispatcher;
use crate::receive::receiver::{LeftBehind, Receiver, ReceiverLinks};
use crate::send::reply::Transmitter;
use crate::socket::listener::Listener;
use crate::sync::waker::{Stop, Waker};
use crate::work::handler::Handler;
use crate::work::worker::Worker;
use ringest_base::host::resources::resident_bytes;

/// What every thread of an engine shares.
#[derive(Debug)]
pub(crate) struct Shared {
    pub(crate) stop: Arc<Stop>,
    pub(crate) wakers: Vec<Arc<Waker>>,
    /// Readable when something happened that the engine's owner should look at.
    event: EventFd,
    /// Resident memory when the first receiver ended: later it is given back.
    pub(crate) rss_bytes: AtomicU64,
    /// Kernel thread ids by name, as threads start.
    seated: Mutex<Vec<(String, i32)>>,
    /// Threads that have not ended.
    pub(crate) alive: AtomicUsize,
    /// How threads ended.
    reports: Sender<Report>,
}

/// How one thread ended.
#[derive(Debug)]
pub(crate) enum Report {
    Receiver(LeftBehind),
    /// With the worker's reply batches, which may still be on their way home.
    Worker(Pool),
    Failed(Error),
}

impl Shared {
    pub(crate) fn new(wakers: Vec<Arc<Waker>>, reports: Sender<Report>) -> nix::Result<Self> {
        let event = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?;
        let stop = Arc::new(Stop::default());
        let (rss_bytes, alive) = (AtomicU64::new(0), AtomicUsize::new(0));
        let seated = Mutex::new(Vec::new());
        Ok(Self { stop, wakers, event, rss_bytes, seated, alive, reports })
    }

    pub(crate) fn event(&self) -> &EventFd {
        &self.event
    }

    /// Forgets the event, so that the next one shows.
    pub(crate) fn clear_event(&self) {
        // EAGAIN: there was none.
        let _ = self.event.read();
    }

    pub(crate) fn notify(&self) {
        // EAGAIN: the counter is full, so the event shows already.
        let _ = self.event.write(1);
    }

    pub(crate) fn wake_all(&self) {
        self.wakers.iter().for_each(|waker| waker.wake());
    }

    /// The calling thread has started.
    pub(crate) fn seat(&self, name: String) {
        self.seated().push((name, gettid().as_raw()));
    }

    pub(crate) fn seated(&self) -> MutexGuard<'_, Vec<(String, i32)>> {
        self.seated.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Runs a thread's life and reports how it ended. A failure takes the whole engine down: half
    /// an engine would lose datagrams in silence.
    fn report(&self, life: impl FnOnce() -> Result<Report, Error>) {
        let lived = catch_unwind(AssertUnwindSafe(life))
            .unwrap_or_else(|panic| Err(Error::Panicked { message: panic_message(&*panic) }));
        let report = lived.unwrap_or_else(|error| {
            self.stop.abort();
            Report::Failed(error)
        });
        // The engine keeps the other end until every thread has ended.
        let _ = self.reports.send(report);
        self.alive.fetch_sub(1, Ordering::SeqCst);
        self.wake_all();
        self.notify();
    }
}

fn panic_message(panic: &(dyn Any + Send)) -> String {
    panic
        .downcast_ref::<&str>()
        .map(ToString::to_string)
        .or_else(|| panic.downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "no message".to_owned())
}

/// A worker thread's parts.
pub(crate) struct WorkerLife<H> {
    pub(crate) index: usize,
    pub(crate) core: usize,
    pub(crate) worker: Worker<H>,
    pub(crate) queue: Inbox<Batch>,
    pub(crate) homes: Vec<Sender<Batch>>,
}

impl<H: Handler> WorkerLife<H> {
    pub(crate) fn run(mut self, shared: &Shared) {
        pin(self.core);
        let index = self.index;
        shared.report(move || {
            let worker = &mut self.worker;
            let lived = catch_unwind(AssertUnwindSafe(|| {
                worker.run(&self.queue, &self.homes, &shared.wakers, &shared.stop);
            }));
            match lived {
                Ok(()) => Ok(Report::Worker(self.worker.into_reply_pool())),
                Err(panic) => {
                    let counts = self.worker.counts();
                    Err(Error::HandlerPanicked {
                        worker: index,
                        message: panic_message(&*panic),
                        datagrams: counts.taken - counts.handled,
                    })
                }
            }
        });
    }
}

/// A receiver thread's parts.
pub(crate) struct ReceiverLife<H> {
    pub(crate) index: usize,
    pub(crate) core: usize,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) kind: BackendKind,
    pub(crate) dispatcher: Dispatcher<H>,
    pub(crate) transmitter: Transmitter,
    pub(crate) coalescer: Coalescer,
    pub(crate) links: ReceiverLinks,
    pub(crate) drain_bound_ns: u64,
    /// Descriptors of its sockets that others hold, to be let go when it ends.
    pub(crate) twins: Arc<GroupSockets>,
    /// Told once whether the backend stands and receiving begins.
    pub(crate) ready: Sender<bool>,
}

/// Which backend to build, and how big.
#[derive(Clone, Copy, Debug)]
pub(crate) enum BackendKind {
    IoUring(RingSize),
    Recvmmsg { messages: usize },
}

impl<H: Handler> ReceiverLife<H> {
    pub(crate) fn run(mut self, shared: &Shared) {
        pin(self.core);
        let listeners = std::mem::take(&mut self.listeners);
        let (index, waker) = (self.index, Arc::clone(&self.links.waker));
        let twins = Arc::clone(&self.twins);
        let fail = move |(step, source)| Error::Receiver { receiver: index, step, source };
        // Built here, not by the engine: a SINGLE_ISSUER ring belongs to the thread that made it.
        shared.report(move || {
            let lived = match self.kind {
                BackendKind::IoUring(size) => {
                    self.live(Ring::new(listeners, waker, size).map_err(fail), shared)
                }
                BackendKind::Recvmmsg { messages } => {
                    self.live(Mmsg::new(listeners, waker, messages).map_err(fail), shared)
                }
            };
            let_go(&twins, index);
            lived
        });
    }

    fn live<B: Backend>(self, backend: Result<B, Error>, shared: &Shared) -> Result<Report, Error> {
        let index = self.index;
        // Nobody waits any more if another receiver has failed.
        let _ = self.ready.send(backend.is_ok());
        let backend = backend?;
        let mut receiver =
            Receiver::new(backend, self.dispatcher, self.transmitter, self.coalescer, self.links)
                .with_drain_bound_ns(self.drain_bound_ns);
        let lived = catch_unwind(AssertUnwindSafe(|| receiver.run()));
        shared.rss_bytes.fetch_max(resident_bytes(), Ordering::SeqCst);
        match lived {
            Ok(Ok(left)) => Ok(Report::Receiver(left)),
            Ok(Err(source)) => Err(Error::Receiver { receiver: index, step: "receiving", source }),
            Err(panic) if !receiver.is_in_handler() => {
                Err(Error::Panicked { message: panic_message(&*panic) })
            }
            Err(panic) => Err(Error::HandlerPanicked {
                worker: index,
                message: panic_message(&*panic),
                datagrams: receiver.inline_in_hand(),
            }),
        }
    }
}
