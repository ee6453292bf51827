//! The engine: the only place that makes threads, and the one that ends them.

use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver as Inbox;

use crate::batch::arena::Batch;
use crate::bpf::arrivals::Arrivals;
use crate::control::shared::{Report, Shared};
use crate::control::sockets::{GroupSockets, Groups};
use crate::count::counters::PublishedReceiver;
use crate::count::latency::Percentiles;
use crate::count::ledger::Ended;
use crate::count::summary::{ReceiverRow, RunFacts, Summary, WorkerRow, summarize};
use crate::error::{Error, Result};
use crate::socket::multicast::Group;
use crate::socket::read_back::ReadBack;
use crate::sync::stop::StopKind;
use crate::work::worker::WorkerShared;
use ringest_base::host::resources::resident_bytes;
use ringest_base::sys::clock;

/// How long threads may take to notice an abort. One that does not (a handler that never returns)
/// is left behind, and what it held is reported as queued.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);

/// A running engine. Dropping it aborts; [`stop`](Self::stop) ends it without losing anything.
#[derive(Debug)]
pub struct Engine {
    parts: Parts,
    threads: Vec<JoinHandle<()>>,
    started: Instant,
}

/// What an engine is made of, apart from its threads.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) facts: RunFacts,
    pub(crate) warnings: Vec<String>,
    pub(crate) options: Vec<ReadBack>,
    pub(crate) groups: Groups,
    pub(crate) handles: (Vec<ReceiverHandle>, Vec<WorkerHandle>),
    /// The workers' queues, to count what an abort leaves in them.
    pub(crate) queues: Vec<Inbox<Batch>>,
    pub(crate) reports: Inbox<Report>,
}

/// What the engine keeps of a receiver.
#[derive(Debug)]
pub(crate) struct ReceiverHandle {
    pub(crate) core: usize,
    pub(crate) rcvbuf_bytes: usize,
    pub(crate) published: Arc<PublishedReceiver>,
    pub(crate) arrivals: Vec<Arc<Arrivals>>,
}

/// What the engine keeps of a worker.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) core: usize,
    pub(crate) shared: Arc<WorkerShared>,
}

/// What the threads of an engine left when they had ended.
#[derive(Default)]
struct Remains {
    failure: Option<Error>,
    open_datagrams: u64,
    batches_missing: usize,
    reply_pools: Vec<crate::batch::pool::Pool>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, threads: Vec::new(), started: Instant::now() }
    }

    /// The engine stands: time counts from here.
    pub(crate) fn begin(&mut self) {
        self.started = Instant::now();
    }

    /// Starts a thread. Its affinity and signal mask are inherited until it pins itself.
    pub(crate) fn spawn(
        &mut self,
        name: String,
        body: impl FnOnce(&Shared) + Send + 'static,
    ) -> Result<()> {
        let shared = Arc::clone(&self.parts.shared);
        shared.alive.fetch_add(1, Ordering::SeqCst);
        let own_name = name.clone();
        let begin = move || {
            shared.register_thread(own_name);
            body(&shared);
        };
        match ringest_base::sys::threads::spawn(name, begin) {
            Ok(thread) => self.threads.push(thread),
            Err(error) => {
                self.parts.shared.alive.fetch_sub(1, Ordering::SeqCst);
                return Err(error.into());
            }
        }
        Ok(())
    }

    pub(crate) fn worker_shared(&self, index: usize) -> Arc<WorkerShared> {
        Arc::clone(&self.parts.handles.1[index].shared)
    }

    pub(crate) fn group_sockets(&self) -> Arc<GroupSockets> {
        self.parts.groups.sockets()
    }

    pub(crate) fn receiver_published(&self, index: usize) -> Arc<PublishedReceiver> {
        Arc::clone(&self.parts.handles.0[index].published)
    }

    /// Names and kernel ids (gettid(2)) of the threads, once all have started.
    pub fn thread_ids(&self) -> Vec<(String, i32)> {
        loop {
            let started = self.parts.shared.thread_ids();
            if started.len() >= self.threads.len() {
                return started.clone();
            }
            drop(started);
            std::thread::yield_now();
        }
    }

    /// The addresses listened on, in the order given, with the ports the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.parts.facts.listen
    }

    /// What the operator should know about this host and these settings.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.parts.warnings
    }

    /// The socket options that were asked for, as the kernel has them.
    #[must_use]
    pub fn socket_options(&self) -> &[ReadBack] {
        &self.parts.options
    }

    /// Joins a multicast group on every listen address that can take it.
    ///
    /// # Errors
    /// No address can, it is joined already ([`Error::Setting`]), or the kernel refused
    /// ([`Error::Option`]).
    pub fn join(&self, group: &Group) -> Result<()> {
        self.parts.groups.join(group)
    }

    /// Leaves a multicast group wherever it was joined, written as it was then.
    ///
    /// # Errors
    /// It was not joined ([`Error::Setting`]), or the kernel refused ([`Error::Option`]).
    pub fn leave(&self, group: &Group) -> Result<()> {
        self.parts.groups.leave(group)
    }

    /// The state of this moment. Its ledger balances too: what is on the way counts as queued.
    #[must_use]
    pub fn stats(&self) -> Summary {
        self.summary(None)
    }

    /// How long nothing has come: since the last datagram was taken, or since the start.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        let last =
            self.parts.handles.0.iter().map(|handle| handle.published.read().last_received_ns);
        let since_last = clock::monotonic_ns().saturating_sub(last.max().unwrap_or(0));
        self.started.elapsed().min(Duration::from_nanos(since_last))
    }

    /// Begins a stop and returns at once: nothing new is taken, what is here is finished. The
    /// engine's descriptor becomes readable as its threads end.
    pub fn request_stop(&self) {
        self.parts.shared.stop.begin(StopKind::Drain);
        self.parts.shared.wake_all();
    }

    /// Makes every thread leave at once. What was on the way is reported as queued.
    pub fn abort(&self) {
        self.parts.shared.stop.begin(StopKind::Abort);
        self.parts.shared.wake_all();
    }

    /// Whether a stop has begun: asked for, by the limit, or because a thread failed.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.parts.shared.stop.has_begun()
    }

    /// Whether all threads have ended; [`stop`](Self::stop) will not wait then.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.parts.shared.alive.load(Ordering::SeqCst) == 0
    }

    /// Makes the engine's descriptor unreadable until the next event. For those who poll it
    /// themselves; call it before looking at [`has_ended`](Self::has_ended).
    pub fn clear_event(&self) {
        self.parts.shared.clear_event();
    }

    /// Waits until the engine has ended by itself (the limit was reached, or a thread failed) or
    /// the time is up. Returns whether it has ended.
    pub fn wait(&self, timeout: Duration) -> bool {
        // A time beyond all clocks is no deadline.
        let deadline = Instant::now().checked_add(timeout);
        while !self.has_ended() {
            let left =
                deadline.map_or(Duration::MAX, |at| at.saturating_duration_since(Instant::now()));
            if left.is_zero() {
                return false;
            }
            let fd = nix::poll::PollFd::new(self.as_fd(), nix::poll::PollFlags::POLLIN);
            let left = nix::poll::PollTimeout::try_from(left.min(Duration::from_secs(60)))
                .unwrap_or(nix::poll::PollTimeout::ZERO);
            // EINTR and the timeout lead back to the checks above.
            let _ = nix::poll::poll(&mut [fd], left);
            self.clear_event();
        }
        true
    }

    /// Stops: shuts the doors, reads every socket to its end, lets queues, handlers and replies
    /// run empty, joins the threads. Returns the final accounts.
    ///
    /// # Errors
    /// A thread had failed ([`Error::HandlerPanicked`], [`Error::Receiver`]), or a batch is missing.
    pub fn stop(mut self) -> Result<Summary> {
        self.request_stop();
        let mut remains = self.await_threads();
        let elapsed = self.started.elapsed();
        if let Some(failure) = remains.failure {
            return Err(failure);
        }
        let in_queues: u64 =
            self.parts.queues.iter().flat_map(|queue| queue.try_iter()).map(|b| b.len()).sum();
        let ended = Ended { abandoned: in_queues + remains.open_datagrams };
        let missing = remains.batches_missing
            + remains.reply_pools.iter_mut().map(|pool| pool.missing()).sum::<usize>();
        if missing > 0 && !self.parts.shared.stop.is_abort() {
            return Err(Error::BatchesMissing { missing });
        }
        let mut summary = self.summary(Some(ended));
        summary.elapsed = elapsed;
        Ok(summary)
    }

    /// Collects how every thread ended, and joins it.
    fn await_threads(&mut self) -> Remains {
        let mut remains = Remains::default();
        let mut left = self.threads.len();
        while left > 0 {
            let report = if self.parts.shared.stop.is_abort() {
                self.parts.reports.recv_timeout(ABORT_PATIENCE).ok()
            } else {
                self.parts.reports.recv().ok()
            };
            match report {
                Some(Report::Receiver(behind)) => {
                    remains.open_datagrams += behind.open_datagrams;
                    remains.batches_missing += behind.batches_missing;
                }
                Some(Report::Worker(pool)) => remains.reply_pools.push(pool),
                Some(Report::Failed(error)) => {
                    remains.failure.get_or_insert(error);
                }
                None => break,
            }
            left -= 1;
        }
        let threads = std::mem::take(&mut self.threads);
        if left == 0 {
            for thread in threads {
                // Panics were caught and reported on the thread itself.
                let _ = thread.join();
            }
        }
        remains
    }

    fn summary(&self, ended: Option<Ended>) -> Summary {
        let (receivers, workers) = &self.parts.handles;
        // Workers first: what they handled was queued before.
        let worker_rows: Vec<_> = workers
            .iter()
            .map(|handle| WorkerRow { core: handle.core, counts: handle.shared.counts.read() })
            .collect();
        let receiver_rows: Vec<_> = receivers
            .iter()
            .map(|handle| ReceiverRow {
                core: handle.core,
                rcvbuf_bytes: handle.rcvbuf_bytes,
                counts: handle.published.read(),
                arrived: arrived(&handle.arrivals),
            })
            .collect();
        let latency = Percentiles::merge(workers.iter().map(|handle| &handle.shared.queue_latency));
        let when = (self.started.elapsed(), ended);
        let mut summary = summarize(&self.parts.facts, &receiver_rows, &worker_rows, latency, when);
        summary.rss_bytes = match ended {
            Some(_) => self.parts.shared.rss_bytes.load(Ordering::SeqCst),
            None => resident_bytes(),
        };
        summary
    }
}

/// The sum over a receiver's sockets, or `None` if any is not counted.
fn arrived(arrivals: &[Arc<Arrivals>]) -> Option<u64> {
    if arrivals.is_empty() {
        return None;
    }
    arrivals.iter().map(|arrivals| arrivals.arrived().ok()).sum()
}

impl AsFd for Engine {
    /// Readable when a thread has ended; reaching the limit ends them all.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.parts.shared.event().as_fd()
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.abort();
            let _ = self.await_threads();
        }
    }
}
