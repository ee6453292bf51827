//! The bodies of an engine's threads: a receiver or a worker, pinned to its core, from start to end.
//! [`crate::control::engine`] spawns them and joins them.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crossbeam_channel::{Receiver as Inbox, Sender};
use ringest_base::sys::threads::pin;

use crate::backend::kind::{BackendKind, BuildError, RunOn};
use crate::backend::rx::Rx;
use crate::backend::sockets::Sockets;
use crate::backend::tx::Tx;
use crate::backend::uring::setup::RingSize;
use crate::batch::arena::Batch;
use crate::control::shared::{Report, Shared, panic_message};
use crate::control::sockets::{GroupSockets, close_group_sockets};
use crate::error::Error;
use crate::receive::coalesce::Coalescer;
use crate::receive::dispatch::Dispatcher;
use crate::receive::receiver::{Receiver, ReceiverLinks};
use crate::send::transmitter::Transmitter;
use crate::socket::listener::Listener;
use crate::work::handler::Handler;
use crate::work::worker::Worker;
use ringest_base::host::resources::resident_bytes;

/// Everything a worker thread needs.
pub(crate) struct WorkerThread<H> {
    pub(crate) index: usize,
    pub(crate) core: usize,
    pub(crate) worker: Worker<H>,
    pub(crate) queue: Inbox<Batch>,
    /// Ways back to the receivers' pools, by receiver.
    pub(crate) homes: Vec<Sender<Batch>>,
}

impl<H: Handler> WorkerThread<H> {
    /// Pins the thread and works until the queue is closed and empty, or until an abort.
    pub(crate) fn run(mut self, shared: &Shared) {
        pin(self.core);
        let index = self.index;
        shared.report(move || {
            let worker = &mut self.worker;
            let ended = catch_unwind(AssertUnwindSafe(|| {
                worker.run(&self.queue, &self.homes, &shared.wakers, &shared.stop);
            }));
            match ended {
                Ok(()) => {
                    let (replies, remains) = ask_handler(index, || self.worker.into_parts())?;
                    Ok(Report::Worker { replies, index, remains })
                }
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

/// Calls a handler that has no batch, and blames a panic on the handler.
fn ask_handler<T>(worker: usize, call: impl FnOnce() -> T) -> Result<T, Error> {
    catch_unwind(AssertUnwindSafe(call)).map_err(|panic| Error::HandlerPanicked {
        worker,
        message: panic_message(&*panic),
        datagrams: 0,
    })
}

/// Everything a receiver thread needs.
pub(crate) struct ReceiverThread<H> {
    pub(crate) index: usize,
    pub(crate) core: usize,
    pub(crate) listeners: Vec<Listener>,
    pub(crate) kind: BackendKind,
    pub(crate) size: RingSize,
    pub(crate) dispatcher: Dispatcher<H>,
    pub(crate) transmitter: Transmitter,
    pub(crate) coalescer: Coalescer,
    pub(crate) links: ReceiverLinks,
    pub(crate) drain_bound_ns: u64,
    /// Duplicated descriptors of this receiver's sockets, which the engine uses to join groups. The
    /// thread closes its own when it ends; otherwise the ports would stay taken.
    pub(crate) group_sockets: Arc<GroupSockets>,
    /// Told once: `true` when the backend is set up and receiving begins, `false` when setup failed.
    pub(crate) ready: Sender<bool>,
}

impl<H: Handler> ReceiverThread<H> {
    /// Pins the thread, builds the backend, and receives until a stop.
    pub(crate) fn run(mut self, shared: &Shared) {
        pin(self.core);
        let listeners = std::mem::take(&mut self.listeners);
        let (index, waker) = (self.index, Arc::clone(&self.links.waker));
        let group_sockets = Arc::clone(&self.group_sockets);
        // Built on this thread: only the thread that made a SINGLE_ISSUER ring may use it.
        shared.report(move || {
            let (kind, size) = (self.kind, self.size);
            let on = ReceiverRun { thread: self, shared };
            let ended = kind.build(listeners, Some(waker), size, on);
            close_group_sockets(&group_sockets, index);
            ended
        });
    }
}

/// A receiver's thread, which lacks only its backend.
struct ReceiverRun<'a, H> {
    thread: ReceiverThread<H>,
    shared: &'a Shared,
}

impl<H: Handler> RunOn<Listener> for ReceiverRun<'_, H> {
    type Output = Result<Report, Error>;

    fn run<B: Rx + Tx + Sockets<Socket = Listener>>(
        self,
        built: Result<B, BuildError>,
    ) -> Self::Output {
        let Self { thread, shared } = self;
        let index = thread.index;
        // Fails if another receiver's setup has failed: the engine then waits no longer.
        let _ = thread.ready.send(built.is_ok());
        let fail = |(step, source)| Error::Receiver { receiver: index, step, source };
        let backend = built.map_err(fail)?;
        let mut receiver = Receiver::new(
            backend,
            thread.dispatcher,
            thread.transmitter,
            thread.coalescer,
            thread.links,
        )
        .with_drain_bound_ns(thread.drain_bound_ns);
        let ended = catch_unwind(AssertUnwindSafe(|| receiver.run()));
        shared.rss_bytes.fetch_max(resident_bytes(), Ordering::SeqCst);
        match ended {
            Ok(Ok(left)) => {
                let remains = ask_handler(index, || receiver.into_remains())?;
                Ok(Report::Receiver { left, index, remains })
            }
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
