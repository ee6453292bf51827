//! No thread of the engine allocates memory while datagrams pass, once it is warm. All tests run with an allocator
//! that counts, on the engine's threads only, while this test's child process asks it to.
#![expect(unsafe_code, reason = "a global allocator, and the name of the calling thread")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use ringest::{BackendChoice, Batch, Dispatch, Engine, Overload, Replies};
use ringest_load::generator;
use ringest_load::generator::Generator;
use ringest_load::spec::{Gso, LoadSpec};

use crate::rigs::child::Child;
use crate::rigs::support::{boxed, until};

/// The system's allocator, which counts calls while [`ARMED`].
struct Counting;

static ARMED: AtomicBool = AtomicBool::new(false);
static COUNT: AtomicU64 = AtomicU64::new(0);

/// Tells whether the calling thread is one of an engine. Only asked when armed, so it may cost a system call.
fn on_engine_thread() -> bool {
    let mut name = [0u8; 16];
    // SAFETY: PR_GET_NAME (prctl(2)) writes at most 16 bytes to its argument.
    let result = unsafe { libc::prctl(libc::PR_GET_NAME, name.as_mut_ptr()) };
    result == 0 && name.starts_with(b"ringest-")
}

fn note() {
    if ARMED.load(Ordering::Relaxed) && on_engine_thread() {
        COUNT.fetch_add(1, Ordering::Relaxed);
    }
}

// SAFETY: every call goes to the system's allocator unchanged; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        note();
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        note();
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, new_size: usize) -> *mut u8 {
        note();
        // SAFETY: as above.
        unsafe { System.realloc(pointer, layout, new_size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn discard(batch: &Batch, _: &mut Replies) {
    assert!(batch.iter().all(|datagram| datagram.payload().len() == 64));
}

fn echo(batch: &Batch, replies: &mut Replies) {
    for datagram in batch {
        replies.send(&datagram, datagram.payload());
    }
}

/// Tells whether every thread of the engine sleeps (proc(5), stat: the state follows the name).
fn asleep() -> bool {
    let threads = std::fs::read_dir("/proc/self/task").unwrap();
    threads
        .filter_map(|entry| std::fs::read_to_string(entry.unwrap().path().join("stat")).ok())
        .all(|stat| {
            let (name, state) = stat.rsplit_once(") ").unwrap();
            !name.contains("(ringest-") || state.starts_with('S')
        })
}

/// Returns how often an engine's threads allocate or free while datagrams pass at full load, and a few alone.
fn allocations(engine: Engine, train: usize) -> u64 {
    // Not by io_uring: its probe runs on a thread of ours, and would be counted.
    let gso = if train == 1 { Gso::Off } else { Gso::Trains(train) };
    let spec = LoadSpec { gso, flows: 4, io_uring: false, ..LoadSpec::new(engine.addresses()[0]) };
    let handled = || engine.stats().ledger.handled;
    let alone = LoadSpec { count: Some(1), gso: Gso::Off, ..spec.clone() };
    let send_alone = || {
        let seen = handled();
        generator::run(&alone).unwrap();
        until("a lone datagram", || handled() > seen);
        until("every thread to sleep", asleep);
    };
    let count = {
        // The first sleep of a thread on a channel allocates its place there.
        (0..20).for_each(|_| send_alone());
        let load = Generator::start(&spec).unwrap();
        until("the warm-up", || handled() >= 10_000);
        ARMED.store(true, Ordering::Relaxed);
        let from = handled();
        until("the run", || handled() >= from + 30_000);
        load.stop();
        load.finish().unwrap();
        // And datagrams that come alone, with sleeps between.
        (0..50).for_each(|_| send_alone());
        ARMED.store(false, Ordering::Relaxed);
        COUNT.swap(0, Ordering::Relaxed)
    };
    let summary = engine.stop().unwrap();
    assert_eq!(summary.ledger.residual, 0, "{summary:#?}");
    count
}

#[test]
fn nothing_on_the_way_of_a_datagram_allocates() {
    Child::new("engine::allocation::child_counts").pass();
}

/// Runs alone in its process, so that no other engine runs while one is counted.
#[test]
#[ignore = "runs in a child process"]
fn child_counts() {
    for backend in [BackendChoice::IoUring, BackendChoice::Recvmmsg] {
        for workers in [0, 1, 2] {
            for (train, overload) in [(1, Overload::Wait), (32, Overload::Drop)] {
                let builder = || {
                    Engine::builder()
                        .listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))
                        .backend(backend)
                        .receivers(1)
                        .workers(workers)
                        .overload(overload)
                        .dispatch(if train == 1 { Dispatch::Flow } else { Dispatch::Spread })
                        .pool_bytes(4 << 20)
                };
                let way = format!("{backend:?}, {workers} workers, trains of {train}");
                let discarding = builder().start(boxed(|_| discard)).unwrap();
                assert_eq!(allocations(discarding, train), 0, "{way}, discarding");
                let echoing = builder().start(boxed(|_| echo)).unwrap();
                assert_eq!(allocations(echoing, train), 0, "{way}, echoing");
            }
        }
    }
    // The count itself works: a thread of that name that allocates is seen.
    ARMED.store(true, Ordering::Relaxed);
    let thread = std::thread::Builder::new().name("ringest-test".to_owned());
    let seen = thread.spawn(|| drop(std::hint::black_box(vec![1u8; 100]))).unwrap();
    seen.join().unwrap();
    ARMED.store(false, Ordering::Relaxed);
    assert!(COUNT.load(Ordering::Relaxed) >= 2);
}
