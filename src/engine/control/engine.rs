//! The running engine: its threads, its state at any moment, and its end.

use std::any::Any;
use std::net::SocketAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crossbeam_channel::Receiver as Inbox;

use crate::batch::arena::Batch;
use crate::batch::pool::Pool;
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
use crate::work::remains::Remains;
use crate::work::worker::WorkerShared;
use ringest_base::host::resources::resident_bytes;
use ringest_base::sys::clock;

/// Time that threads have to notice an abort. A thread that does not end in that time (a handler that never
/// returns) is left running, and the datagrams it holds are reported as queued.
const ABORT_PATIENCE: Duration = Duration::from_secs(1);

/// A running engine. [`stop`](Self::stop) ends it without losing a datagram; dropping it aborts.
#[derive(Debug)]
pub struct Engine {
    parts: Parts,
    threads: Vec<JoinHandle<()>>,
    started: Instant,
}

/// Parts of an engine, apart from its threads.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) shared: Arc<Shared>,
    pub(crate) facts: RunFacts,
    pub(crate) warnings: Vec<String>,
    pub(crate) options: Vec<ReadBack>,
    pub(crate) groups: Groups,
    pub(crate) handles: (Vec<ReceiverHandle>, Vec<WorkerHandle>),
    /// The workers' queues. After an abort the datagrams left in them are counted.
    pub(crate) queues: Vec<Inbox<Batch>>,
    pub(crate) reports: Inbox<Report>,
}

/// A receiver as the engine sees it.
#[derive(Debug)]
pub(crate) struct ReceiverHandle {
    pub(crate) core: usize,
    pub(crate) rcvbuf_bytes: usize,
    pub(crate) published: Arc<PublishedReceiver>,
    pub(crate) arrivals: Vec<Arc<Arrivals>>,
}

/// A worker as the engine sees it.
#[derive(Debug)]
pub(crate) struct WorkerHandle {
    pub(crate) core: usize,
    pub(crate) shared: Arc<WorkerShared>,
}

/// The reports of all threads that ended.
#[derive(Default)]
struct Reports {
    /// The first failure.
    failure: Option<Error>,
    /// Datagrams in batches that were never queued.
    open_datagrams: u64,
    batches_missing: usize,
    reply_pools: Vec<Pool>,
    /// The handlers' remains, each with the index of its worker.
    remains: Vec<(usize, Remains)>,
}

impl Engine {
    pub(crate) fn new(parts: Parts) -> Self {
        Self { parts, threads: Vec::new(), started: Instant::now() }
    }

    /// Starts the clock: all threads are running.
    pub(crate) fn begin(&mut self) {
        self.started = Instant::now();
    }

    /// Spawns a thread. It inherits affinity and signal mask from the caller until it pins itself.
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

    /// Returns the threads' names and kernel ids (gettid(2)). Waits until all have started.
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

    /// Returns the listen addresses in the order given, with the ports that the kernel chose.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.parts.facts.listen
    }

    /// Returns warnings for the operator about this host and these settings.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.parts.warnings
    }

    /// Returns the socket options that were asked for, with the values that the kernel set.
    #[must_use]
    pub fn socket_options(&self) -> &[ReadBack] {
        &self.parts.options
    }

    /// Joins a multicast group on every listen address that can take it.
    ///
    /// # Errors
    /// [`Error::Setting`] if no listen address can take the group, or if it is joined already;
    /// [`Error::Option`] if the kernel refused.
    pub fn join(&self, group: &Group) -> Result<()> {
        self.parts.groups.join(group)
    }

    /// Leaves a multicast group on every listen address. `group` must equal the group that was joined.
    ///
    /// # Errors
    /// [`Error::Setting`] if it was not joined; [`Error::Option`] if the kernel refused.
    pub fn leave(&self, group: &Group) -> Result<()> {
        self.parts.groups.leave(group)
    }

    /// Returns the state of this moment. Its ledger balances: datagrams on the way count as queued.
    #[must_use]
    pub fn stats(&self) -> Summary {
        self.summary(None)
    }

    /// Returns the time since the last datagram was taken, or since the start if none was.
    #[must_use]
    pub fn idle_for(&self) -> Duration {
        let last =
            self.parts.handles.0.iter().map(|handle| handle.published.read().last_received_ns);
        let since_last = clock::monotonic_ns().saturating_sub(last.max().unwrap_or(0));
        self.started.elapsed().min(Duration::from_nanos(since_last))
    }

    /// Begins a stop and returns at once. Sockets accept no new datagrams; those already received are handled.
    /// The engine's descriptor becomes readable as its threads end.
    pub fn request_stop(&self) {
        self.parts.shared.stop.begin(StopKind::Drain);
        self.parts.shared.wake_all();
    }

    /// Makes every thread end at once. Datagrams on the way are reported as queued.
    pub fn abort(&self) {
        self.parts.shared.stop.begin(StopKind::Abort);
        self.parts.shared.wake_all();
    }

    /// Returns whether a stop has begun: by request, by the limit, or because a thread failed.
    #[must_use]
    pub fn is_stopping(&self) -> bool {
        self.parts.shared.stop.has_begun()
    }

    /// Returns whether all threads have ended. If so, [`stop`](Self::stop) does not wait.
    #[must_use]
    pub fn has_ended(&self) -> bool {
        self.parts.shared.alive.load(Ordering::SeqCst) == 0
    }

    /// Makes the engine's descriptor unreadable until the next event. A caller that polls the descriptor calls
    /// this before [`has_ended`](Self::has_ended).
    pub fn clear_event(&self) {
        self.parts.shared.clear_event();
    }

    /// Waits until the engine has ended by itself (the limit was reached, or a thread failed), for at most
    /// `timeout`. Returns whether it has ended.
    pub fn wait(&self, timeout: Duration) -> bool {
        // A time that the clock cannot represent is no deadline.
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
            // After EINTR or the timeout, the loop checks again.
            let _ = nix::poll::poll(&mut [fd], left);
            self.clear_event();
        }
        true
    }

    /// Stops: closes the sockets to new datagrams, reads each until it is empty, waits until queues, handlers and
    /// replies are done, and joins the threads. Returns the final summary.
    ///
    /// # Errors
    /// [`Error::HandlerPanicked`] or [`Error::Receiver`] if a thread had failed; [`Error::BatchesMissing`].
    pub fn stop(self) -> Result<Summary> {
        self.end().map(|(summary, _)| summary)
    }

    /// Stops like [`stop`](Self::stop), and returns what the handlers leave
    /// ([`Handler::into_remains`](crate::work::handler::Handler::into_remains)): those of type `T`, in the order of
    /// the workers. A handler that an abort left behind leaves nothing.
    ///
    /// # Errors
    /// As for [`stop`](Self::stop).
    pub fn stop_with_remains<T: Any>(self) -> Result<(Summary, Vec<T>)> {
        let (summary, mut remains) = self.end()?;
        remains.sort_by_key(|(worker, _)| *worker);
        Ok((summary, remains.into_iter().filter_map(|(_, left)| left.into_value()).collect()))
    }

    fn end(mut self) -> Result<(Summary, Vec<(usize, Remains)>)> {
        self.request_stop();
        let mut reports = self.await_threads();
        let elapsed = self.started.elapsed();
        if let Some(failure) = reports.failure {
            return Err(failure);
        }
        let in_queues: u64 =
            self.parts.queues.iter().flat_map(|queue| queue.try_iter()).map(|b| b.len()).sum();
        let ended = Ended { abandoned: in_queues + reports.open_datagrams };
        let missing = reports.batches_missing
            + reports.reply_pools.iter_mut().map(|pool| pool.missing()).sum::<usize>();
        if missing > 0 && !self.parts.shared.stop.is_abort() {
            return Err(Error::BatchesMissing { missing });
        }
        let mut summary = self.summary(Some(ended));
        summary.elapsed = elapsed;
        Ok((summary, reports.remains))
    }

    /// Collects the reports of all threads, and joins the threads.
    fn await_threads(&mut self) -> Reports {
        let mut reports = Reports::default();
        let mut running = self.threads.len();
        while running > 0 {
            let report = if self.parts.shared.stop.is_abort() {
                self.parts.reports.recv_timeout(ABORT_PATIENCE).ok()
            } else {
                self.parts.reports.recv().ok()
            };
            match report {
                Some(Report::Receiver { left, index, remains }) => {
                    reports.open_datagrams += left.open_datagrams;
                    reports.batches_missing += left.batches_missing;
                    reports.remains.extend(remains.map(|remains| (index, remains)));
                }
                Some(Report::Worker { replies, index, remains }) => {
                    reports.reply_pools.push(replies);
                    reports.remains.push((index, remains));
                }
                Some(Report::Failed(error)) => {
                    reports.failure.get_or_insert(error);
                }
                None => break,
            }
            running -= 1;
        }
        let threads = std::mem::take(&mut self.threads);
        if running == 0 {
            for thread in threads {
                // Cannot fail: the thread itself caught and reported any panic.
                let _ = thread.join();
            }
        }
        reports
    }

    fn summary(&self, ended: Option<Ended>) -> Summary {
        let (receivers, workers) = &self.parts.handles;
        // Workers are read first, so that no more is handled than was queued.
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

/// Returns the arrivals at all sockets of a receiver, or `None` if any socket's are not counted.
fn arrived(arrivals: &[Arc<Arrivals>]) -> Option<u64> {
    if arrivals.is_empty() {
        return None;
    }
    arrivals.iter().map(|arrivals| arrivals.arrived().ok()).sum()
}

impl AsFd for Engine {
    /// Returns a descriptor that is readable when a thread has ended. Reaching the limit ends all threads.
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
