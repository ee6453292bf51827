//! Criterion: the cost of a batch to its two users. The receiver copies frames in, the worker takes datagrams out of
//! trains.
//!
//! Goals: the price per datagram of `Batch::push` from 64 B to 9 kB, and of splitting trains.
//! Non-goals: the kernel, queues, cache misses of a slot the kernel has just written.

use std::hint::black_box;
use std::net::SocketAddr;

use criterion::{BenchmarkId, Criterion, Throughput};
use ringest_engine::batch::arena::{Batch, Frame};

/// As the engine makes them by default.
const ARENA_BYTES: usize = 128 << 10;
const ENTRIES_MAX: usize = 512;

fn frame(payload: &[u8], segment_bytes: u16) -> Frame<'_> {
    Frame::datagram(SocketAddr::from(([192, 0, 2, 1], 514)), payload).in_segments(segment_bytes)
}

/// Pushes until the batch is full. Returns how many frames fitted.
fn fill(batch: &mut Batch, frame: &Frame<'_>) -> u64 {
    batch.clear();
    let mut frames = 0;
    while batch.push(black_box(frame), 1) {
        frames += 1;
    }
    frames
}

fn copy(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch: copy in, per datagram");
    let mut batch = Batch::new(ARENA_BYTES, ENTRIES_MAX, 0);
    for size in [64, 256, 1400, 4096, 9000] {
        let payload = vec![7; size];
        let frame = frame(&payload, 0);
        group.throughput(Throughput::Elements(fill(&mut batch, &frame)));
        group.bench_function(BenchmarkId::from_parameter(format!("{size} B")), |bencher| {
            bencher.iter(|| fill(&mut batch, &frame));
        });
    }
    group.finish();
}

fn split(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("batch: take out, per datagram");
    let mut batch = Batch::new(ARENA_BYTES, ENTRIES_MAX, 0);
    for (train, size) in [(1, 64_u16), (8, 64), (32, 64), (64, 64), (32, 1400)] {
        let payload = vec![7; train * usize::from(size)];
        fill(&mut batch, &frame(&payload, if train > 1 { size } else { 0 }));
        group.throughput(Throughput::Elements(batch.len()));
        let name = BenchmarkId::from_parameter(format!("{train} x {size} B"));
        group.bench_function(name, |bencher| {
            // The first byte of each, so that every payload has been found.
            let first = |payload: &[u8]| payload.first().copied().unwrap_or(0);
            bencher.iter(|| {
                black_box(&batch).iter().fold(0_u8, |sum, d| sum.wrapping_add(first(d.payload())))
            });
        });
    }
    group.finish();
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    copy(&mut criterion);
    split(&mut criterion);
    criterion.final_summary();
}
