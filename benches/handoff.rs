//! Criterion: the cost of handing datagrams to another thread, by how many a batch holds.
//!
//! ```text
//!  this thread: pool ─► push n ─► queue ══► other thread: empty it ══► home ─► pool
//! ```
//!
//! Goals: the price per datagram of the whole round, 1, 8, 64 and 256 a batch, with the engine's
//! own pool, batch and queue sizes. Non-goals: the split of that price between the two sides, wakers
//! (`scripts/bench` shows receiver and worker apart).

use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion, Throughput};
use crossbeam_channel::bounded;
use ringest_engine::batch::arena::{Batch, Frame};
use ringest_engine::batch::pool::Pool;

/// The engine's defaults.
const QUEUE_BATCHES: usize = 32;
const POOL_BATCHES: usize = 128;
const ARENA_BYTES: usize = 128 << 10;
const ENTRIES_MAX: usize = 512;

fn handoff(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("hand-off, per datagram");
    for datagrams in [1, 8, 64, 256_u64] {
        group.throughput(Throughput::Elements(datagrams));
        let name = BenchmarkId::from_parameter(format!("{datagrams} a batch"));
        let (mut pool, home) = Pool::new(POOL_BATCHES, || Batch::new(ARENA_BYTES, ENTRIES_MAX, 0));
        let (queue, inbox) = bounded::<Batch>(QUEUE_BATCHES);
        std::thread::scope(|scope| {
            scope.spawn(move || {
                for mut batch in inbox {
                    std::hint::black_box(batch.len());
                    batch.clear();
                    if home.send(batch).is_err() {
                        return;
                    }
                }
            });
            group.bench_function(name, |bencher| {
                bencher.iter(|| {
                    let Some(mut batch) = pool.take_waiting() else { return };
                    batch.open(0, 0);
                    for _ in 0..datagrams {
                        let fits = batch.push(&frame(), 1);
                        debug_assert!(fits, "a batch holds 512 of them");
                    }
                    // The other side ends only after this one.
                    let _ = queue.send(batch);
                });
            });
            drop(queue);
        });
    }
    group.finish();
}

fn frame() -> Frame<'static> {
    Frame::datagram(SocketAddr::from(([192, 0, 2, 1], 514)), &[7; 64])
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    handoff(&mut criterion);
    criterion.final_summary();
}
