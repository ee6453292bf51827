//! The bookkeeping that follows each receive call, the same for every rival.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

/// Bytes for a sender's address; `sockaddr_in6` has 28.
pub(super) const NAME_BYTES: usize = 32;
/// The same in the kernel's type.
pub(super) const NAME_LEN: libc::socklen_t = 32;
/// Bytes for the only control message that is asked for: the segment size of a train.
pub(super) const CONTROL_BYTES: usize = 24;
/// `UDP_GRO` in linux/udp.h.
const UDP_GRO: i32 = 104;
/// Size of the copy buffer. The same as the engine's batches, so that both use as much cache.
const ARENA_BYTES: usize = 128 << 10;

/// Returns the bytes of a slot: an Ethernet frame's payload, or a whole train with UDP_GRO. The number of
/// cache lines is odd: at a power of two the first lines of all slots would share a few cache sets.
pub(super) fn slot_bytes(gro: bool, size_max: usize) -> usize {
    let bytes = if gro { 65_535 } else { size_max.clamp(2048, 65_535) };
    let lines = bytes.div_ceil(64);
    (lines | 1) * 64
}

/// The size of a rival's slots.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotSpec {
    pub(super) gro: bool,
    pub(super) bytes: usize,
}

/// The counts of a rival.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RivalCounts {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
}

/// State that the receiving thread shares with the measuring thread.
#[derive(Debug, Default)]
pub(super) struct SharedState {
    /// Datagrams so far; one plain store a call.
    pub(super) datagrams: AtomicU64,
    pub(super) stop: AtomicBool,
    /// Kernel id of the receiving thread; 0 before it runs.
    pub(super) thread: AtomicI32,
}

/// The buffer that payloads are copied to: dense, and reused from the start when full.
#[derive(Debug)]
struct Arena {
    bytes: Box<[u8]>,
    used: usize,
}

impl Arena {
    fn new() -> Self {
        // Written to once, so that no page fault happens during the trial. black_box keeps the compiler
        // from removing the copies.
        let bytes = black_box(vec![1; ARENA_BYTES]).into_boxed_slice();
        Self { bytes, used: 0 }
    }

    #[inline]
    fn push(&mut self, payload: &[u8]) {
        if self.used + payload.len() > self.bytes.len() {
            black_box(&self.bytes[..self.used]);
            self.used = 0;
        }
        let end = self.used + payload.len();
        self.bytes[self.used..end].copy_from_slice(payload);
        self.used = end;
    }
}

/// Counts and copies the datagrams of a receive call.
#[derive(Debug)]
pub(super) struct Counter {
    pub(super) tally: RivalCounts,
    arena: Arena,
    copies: bool,
    shared: Arc<SharedState>,
}

impl Counter {
    pub(super) fn new(copies: bool, shared: Arc<SharedState>) -> Self {
        Self { tally: RivalCounts::default(), arena: Arena::new(), copies, shared }
    }

    #[inline]
    pub(super) fn take(&mut self, payload: &[u8], control: &[u8]) {
        self.tally.datagrams += match segment_bytes(control) {
            0 => 1,
            size => payload.len().div_ceil(size) as u64,
        };
        self.tally.bytes += payload.len() as u64;
        if self.copies {
            self.arena.push(payload);
        }
    }

    #[inline]
    pub(super) fn publish(&self) {
        self.shared.datagrams.store(self.tally.datagrams, Ordering::Relaxed);
    }

    /// Returns whether the socket is empty after a stop: a read of 0 bytes after the shutdown.
    pub(super) fn is_over(&self, read_bytes: usize) -> bool {
        read_bytes == 0 && self.shared.stop.load(Ordering::Acquire)
    }
}

/// Returns the size of each datagram of a train, or 0 without the control message. Only one kind of
/// message was asked for, so it is the first.
#[inline]
fn segment_bytes(control: &[u8]) -> usize {
    let word = |at: usize| control.get(at..)?.first_chunk().map(|raw| i32::from_ne_bytes(*raw));
    match (word(8), word(12), word(16)) {
        (Some(libc::SOL_UDP), Some(UDP_GRO), Some(size)) => usize::try_from(size).unwrap_or(0),
        _ => 0,
    }
}
