//! Tools that all tests share: an engine with a handler that writes down all that it sees, senders, and the
//! checks that every run must pass.

use std::any::Any;
use std::collections::HashMap;
use std::hash::{DefaultHasher, Hasher};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use ringest::{BackendChoice, Batch, Builder, Datagram, Engine, Replies, Summary, Unit};
use ringest_load::generator;
use ringest_load::generator::Generator;
use ringest_load::spec::{Gso, LoadSpec, Payload};
use ringest_load::stamp;
use ringest_load::stamp::Seen;

/// Only a hung test takes this long.
pub(crate) const DEADLINE: Duration = Duration::from_secs(30);

/// The smallest batch the engine takes, bytes; it holds 256 frames.
pub(crate) const SMALL_BATCH_BYTES: usize = 64 << 10;
/// Frames of such a batch.
pub(crate) const SMALL_BATCH_FRAMES: u64 = 256;

/// Waits until `done`, or fails the test as hung.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + DEADLINE;
    while !done() {
        assert!(Instant::now() < deadline, "hung: waited for {what}");
        std::thread::yield_now();
    }
}

/// A backend and an address family to test on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ground {
    pub(crate) backend: BackendChoice,
    pub(crate) ip: IpAddr,
}

/// Returns both backends on both families. Each is printed as its turn comes, so that a failure shows it.
pub(crate) fn grounds() -> impl Iterator<Item = Ground> {
    let v6 = UdpSocket::bind((Ipv6Addr::LOCALHOST, 0)).is_ok();
    if !v6 {
        println!("skipped for IPv6: this host has no ::1");
    }
    let ips = [IpAddr::V4(Ipv4Addr::LOCALHOST), IpAddr::V6(Ipv6Addr::LOCALHOST)];
    BACKENDS.into_iter().flat_map(move |backend| {
        ips.into_iter().filter(move |ip| v6 || ip.is_ipv4()).map(move |ip| {
            let ground = Ground { backend, ip };
            println!("on {ground:?}");
            ground
        })
    })
}

/// Room for ten thousand small datagrams, where the host grants it.
pub(crate) const ROOMY_RCVBUF_BYTES: usize = 16 << 20;

pub(crate) const BACKENDS: [BackendChoice; 2] = [BackendChoice::IoUring, BackendChoice::Recvmmsg];

impl Ground {
    /// Returns a builder with one receiver and one worker on a free port, small in memory.
    pub(crate) fn builder(self) -> Builder {
        small(self.backend).listen(SocketAddr::new(self.ip, 0))
    }

    pub(crate) fn is_io_uring(self) -> bool {
        self.backend == BackendChoice::IoUring
    }
}

/// Returns a builder with one receiver and one worker, small in memory, listening nowhere yet.
pub(crate) fn small(backend: BackendChoice) -> Builder {
    Engine::builder()
        .backend(backend)
        .receivers(1)
        .workers(1)
        .slots(64)
        .pool_bytes(2 << 20)
        .reply_bytes(1 << 20)
}

/// A closure as a handler. All closures of the tests are of this type, so that the engine is compiled once for them.
pub(crate) type Closure = Box<dyn FnMut(&Batch, &mut Replies) + Send>;

/// Boxes each handler that `make` makes, to be passed to [`Builder::start`].
pub(crate) fn boxed<'a, H: FnMut(&Batch, &mut Replies) + Send + 'static>(
    mut make: impl FnMut(usize) -> H + 'a,
) -> Box<dyn FnMut(usize) -> Closure + 'a> {
    Box::new(move |worker| Box::new(make(worker)))
}

/// One datagram as a handler saw it.
#[derive(Clone, Debug)]
pub(crate) struct Record {
    pub(crate) worker: usize,
    pub(crate) listener: usize,
    pub(crate) peer: SocketAddr,
    pub(crate) local: Option<IpAddr>,
    pub(crate) len: usize,
    digest: u64,
    /// The number a stamped payload carries; `None` if it is too short to.
    pub(crate) number: Option<(u16, u64)>,
    intact: bool,
}

impl Record {
    fn of(worker: usize, datagram: &Datagram<'_>) -> Self {
        let payload = datagram.payload();
        Self {
            worker,
            listener: datagram.listener(),
            peer: datagram.peer(),
            local: datagram.local(),
            len: payload.len(),
            digest: digest(payload),
            number: number(payload),
            intact: stamp::is_intact(payload),
        }
    }
}

/// Returns flow and number of a stamped datagram: a flow's own stay in order.
fn number(payload: &[u8]) -> Option<(u16, u64)> {
    let seen = Seen::read(payload);
    Some((seen.origin.map_or(0, |(_, flow)| flow), seen.sequence?))
}

fn digest(payload: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    hasher.write(payload);
    hasher.write_usize(payload.len());
    hasher.finish()
}

/// Holds handlers back for as long as a test wants. Dropping it opens it.
#[derive(Debug)]
struct Gate {
    state: Mutex<GateState>,
    changed: Condvar,
}

#[derive(Debug)]
struct GateState {
    open: bool,
    held: usize,
}

impl Gate {
    fn new(open: bool) -> Arc<Self> {
        Arc::new(Self { state: Mutex::new(GateState { open, held: 0 }), changed: Condvar::new() })
    }

    fn state(&self) -> MutexGuard<'_, GateState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits at the gate until it is open. A handler calls this.
    fn pass(&self) {
        let mut state = self.state();
        state.held += 1;
        self.changed.notify_all();
        let closed = |state: &mut GateState| !state.open;
        let mut state =
            self.changed.wait_while(state, closed).unwrap_or_else(PoisonError::into_inner);
        state.held -= 1;
    }

    fn open(&self) {
        self.state().open = true;
        self.changed.notify_all();
    }

    fn held(&self) -> usize {
        self.state().held
    }
}

/// Opens a gate at the end of a test, however it ends.
#[derive(Debug)]
struct OpenAtEnd(Arc<Gate>);

impl Drop for OpenAtEnd {
    fn drop(&mut self) {
        self.0.open();
    }
}

/// A running engine whose handlers write down every datagram and answer nothing.
#[derive(Debug)]
pub(crate) struct Rig {
    // First, so that handlers are let go before the engine is dropped.
    gate: OpenAtEnd,
    pub(crate) engine: Engine,
    book: Arc<Mutex<Vec<Record>>>,
}

impl Rig {
    /// Handlers run freely.
    pub(crate) fn start(builder: Builder) -> Self {
        Self::with_gate(builder, Gate::new(true))
    }

    /// Handlers are held at their first batch until [`Self::open`].
    pub(crate) fn start_held(builder: Builder) -> Self {
        Self::with_gate(builder, Gate::new(false))
    }

    fn with_gate(builder: Builder, gate: Arc<Gate>) -> Self {
        let book = Arc::new(Mutex::new(Vec::new()));
        let engine = builder
            .start(boxed(|worker| {
                let (book, gate) = (Arc::clone(&book), Arc::clone(&gate));
                move |batch: &Batch, _: &mut Replies| {
                    gate.pass();
                    let mut book = book.lock().unwrap();
                    book.extend(batch.iter().map(|datagram| Record::of(worker, &datagram)));
                }
            }))
            .unwrap();
        Self { gate: OpenAtEnd(gate), engine, book }
    }

    pub(crate) fn target(&self) -> SocketAddr {
        self.engine.addresses()[0]
    }

    /// Lets the handlers go.
    pub(crate) fn open(&self) {
        self.gate.0.open();
    }

    /// Waits until `count` handlers are held at the gate.
    pub(crate) fn await_held(&self, count: usize) {
        let what = format!("{count} handlers at the gate");
        self.await_stats(&what, |_| {
            assert!(!self.engine.has_ended(), "the engine has ended: {:?}", self.engine);
            self.gate.0.held() >= count
        });
    }

    /// Waits until the engine's own figures satisfy `done`; every snapshot must balance.
    pub(crate) fn await_stats(&self, what: &str, mut done: impl FnMut(&Summary) -> bool) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let stats = self.engine.stats();
            assert_eq!(stats.ledger.residual, 0, "a live snapshot balances: {stats:?}");
            if done(&stats) {
                return;
            }
            assert!(Instant::now() < deadline, "hung: waited for {what}: {stats:#?}");
            std::thread::yield_now();
        }
    }

    pub(crate) fn await_handled(&self, count: u64) {
        let what = format!("{count} datagrams to be handled");
        self.await_stats(&what, |stats| stats.ledger.handled >= count);
    }

    /// Stops and returns the final accounts with what the handlers saw.
    pub(crate) fn stop(self) -> (Summary, Vec<Record>) {
        self.engine.request_stop();
        self.gate.0.open();
        let summary = stop(self.engine);
        let records = std::mem::take(&mut *self.book.lock().unwrap());
        assert_eq!(summary.ledger.handled, records.len() as u64, "handled is what handlers saw");
        (summary, records)
    }

    /// Stops while the handlers are still held, as only an aborted engine can.
    pub(crate) fn stop_held(self) -> Summary {
        let Self { gate: _gate, engine, .. } = self;
        engine.stop().unwrap()
    }
}

/// Stops an engine, and fails the test if that hangs.
pub(crate) fn stop(engine: Engine) -> Summary {
    await_end(&engine);
    engine.stop().unwrap()
}

/// Stops an engine, and returns what its handlers leave. Fails the test if that hangs.
pub(crate) fn stop_with_remains<T: Any>(engine: Engine) -> (Summary, Vec<T>) {
    await_end(&engine);
    engine.stop_with_remains().unwrap()
}

fn await_end(engine: &Engine) {
    engine.request_stop();
    assert!(engine.wait(DEADLINE), "hung: waited for the engine to end: {:?}", engine.stats());
}

/// Checks a summary after any stop, whatever was sent: every line of the ledger, and the threads' rows beside
/// it.
pub(crate) fn consistent(summary: &Summary) {
    let ledger = &summary.ledger;
    assert_eq!(ledger.residual, 0, "{summary:#?}");
    assert_eq!(
        ledger.received,
        ledger.dropped.after_receive() + ledger.queued + ledger.handled,
        "{summary:#?}"
    );
    assert_eq!(
        ledger.handled,
        ledger.rejected + ledger.delivered + ledger.undelivered + ledger.pending,
        "{summary:#?}"
    );
    assert_eq!(ledger.received, summary.receivers.iter().map(|r| r.received).sum::<u64>());
    assert_eq!(ledger.handled, summary.workers.iter().map(|w| w.handled).sum::<u64>());
    assert_eq!(
        ledger.dropped.kernel,
        summary.receivers.iter().map(|r| r.dropped_kernel).sum::<u64>()
    );
    assert_eq!(ledger.dropped.truncated, 0, "nothing is ever truncated: {summary:#?}");
    if let (Some(arrived), Unit::Datagrams) = (ledger.arrived, ledger.kernel_unit) {
        assert_eq!(
            arrived,
            ledger.received + ledger.dropped.kernel + ledger.unread_at_stop,
            "{summary:#?}"
        );
    }
}

/// Checks conservation: all of the `sent` datagrams, sent before the stop, are in the ledger.
pub(crate) fn balance(summary: &Summary, sent: u64) {
    consistent(summary);
    let ledger = &summary.ledger;
    assert_eq!(ledger.queued, 0, "a stop leaves nothing on the way: {summary:#?}");
    assert!(
        ledger.kernel_unit == Unit::Datagrams || ledger.dropped.kernel == 0,
        "the kernel's drops must be datagrams here: {summary:#?}"
    );
    assert_eq!(
        sent,
        ledger.received + ledger.dropped.kernel + ledger.unread_at_stop,
        "sent = received + kernel + unread: {summary:#?}"
    );
    assert_eq!(ledger.arrived, Some(sent), "{summary:#?}");
}

/// Checks as [`balance`] does, and that nothing was lost anywhere.
pub(crate) fn all_handled(summary: &Summary, sent: u64) {
    balance(summary, sent);
    assert_eq!(summary.ledger.handled, sent, "{summary:#?}");
}

/// Checks that every record is a whole datagram of a load run that sent `sent`, and none came twice.
pub(crate) fn intact_and_distinct(records: &[Record], sent: u64) {
    let mut numbers: Vec<(u16, u64)> = records
        .iter()
        .map(|record| {
            assert!(record.intact, "a byte changed: {record:?}");
            record.number.unwrap()
        })
        .collect();
    numbers.sort_unstable();
    assert!(numbers.iter().all(|(_, number)| *number < sent), "a number that was never sent");
    let count = numbers.len();
    numbers.dedup();
    assert_eq!(numbers.len(), count, "no datagram comes twice");
}

/// Checks that the records are these payloads, each as often as it was sent.
pub(crate) fn same_payloads(records: &[Record], payloads: &[Vec<u8>]) {
    let mut balance: HashMap<(usize, u64), i64> = HashMap::new();
    for payload in payloads {
        *balance.entry((payload.len(), digest(payload))).or_default() += 1;
    }
    for record in records {
        *balance.entry((record.len, record.digest)).or_default() -= 1;
    }
    balance.retain(|_, count| *count != 0);
    assert!(balance.is_empty(), "(length, digest): sent less seen: {balance:?}");
}

/// Makes a payload of any size that differs for every index.
pub(crate) fn payload(index: usize, size: usize) -> Vec<u8> {
    let mut state = (index as u64 + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    std::iter::repeat_with(|| {
        // xorshift64
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state.to_be_bytes()[0]
    })
    .take(size)
    .collect()
}

/// Returns one payload per size.
pub(crate) fn payloads(sizes: &[usize]) -> Vec<Vec<u8>> {
    sizes.iter().enumerate().map(|(index, &size)| payload(index, size)).collect()
}

/// Returns a socket on the loopback address of `target`'s family. Receiving on it fails rather than hangs,
/// and it has room for a few thousand small datagrams.
pub(crate) fn client(target: SocketAddr) -> UdpSocket {
    let socket = if target.is_ipv4() {
        UdpSocket::bind((Ipv4Addr::LOCALHOST, 0))
    } else {
        UdpSocket::bind((Ipv6Addr::LOCALHOST, 0))
    }
    .unwrap();
    socket.set_read_timeout(Some(DEADLINE)).unwrap();
    socket2::SockRef::from(&socket).set_recv_buffer_size(4 << 20).unwrap();
    socket
}

/// Sends each payload as one datagram.
pub(crate) fn send_each(target: SocketAddr, payloads: &[Vec<u8>]) {
    let socket = client(target);
    for payload in payloads {
        assert_eq!(socket.send_to(payload, target).unwrap(), payload.len());
    }
}

/// Sends `bytes` as one train of `segment_bytes` datagrams (UDP_SEGMENT).
pub(crate) fn send_train(socket: &UdpSocket, target: SocketAddr, bytes: &[u8], segment_bytes: u16) {
    use nix::sys::socket::{ControlMessage, MsgFlags, SockaddrStorage, sendmsg};
    use std::os::fd::AsRawFd;
    let sent = sendmsg(
        socket.as_raw_fd(),
        &[std::io::IoSlice::new(bytes)],
        &[ControlMessage::UdpGsoSegments(&segment_bytes)],
        MsgFlags::empty(),
        Some(&SockaddrStorage::from(target)),
    );
    assert_eq!(sent.unwrap(), bytes.len());
}

/// Returns the load that tests send unless they say otherwise.
pub(crate) fn load_spec(target: SocketAddr) -> LoadSpec {
    LoadSpec { payload: Payload::Random, ..LoadSpec::new(target) }
}

/// Trains of so many, or each alone.
pub(crate) fn gso(train: usize) -> Gso {
    if train == 1 { Gso::Off } else { Gso::Trains(train) }
}

/// Sends a counted load and returns how many datagrams the kernel took: all of them.
pub(crate) fn send_load(spec: &LoadSpec) -> u64 {
    let report = generator::run(spec).unwrap();
    assert_eq!((report.send_failed, report.qdisc_dropped, report.unsent), (0, 0, 0), "{report:?}");
    assert_eq!(Some(report.sent), spec.count);
    report.sent
}

/// A load that runs beside the test.
#[derive(Debug)]
pub(crate) struct Load(Generator);

impl Load {
    pub(crate) fn start(spec: &LoadSpec) -> Self {
        Self(Generator::start(spec).unwrap())
    }

    /// Ends the load and returns how many datagrams the kernel took.
    pub(crate) fn finish(self) -> u64 {
        self.0.stop();
        let report = self.0.finish().unwrap();
        assert_eq!((report.send_failed, report.qdisc_dropped), (0, 0), "{report:?}");
        report.sent
    }
}
