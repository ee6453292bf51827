//! The bookkeeping that follows each receive call, the same for every rival.

use std::hint::black_box;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};

/// Room for a peer's address: `sockaddr_in6` is 28 bytes.
pub(super) const NAME_BYTES: usize = 32;
/// The same, as the kernel wants it said.
pub(super) const NAME_LEN: libc::socklen_t = 32;
/// Room for the one control message that can come: the segment size of a train.
pub(super) const CONTROL_BYTES: usize = 24;
/// `UDP_GRO` in linux/udp.h.
const UDP_GRO: i32 = 104;
/// As large as the engine's batches, so that both write through equally much cache.
const ARENA_BYTES: usize = 128 << 10;

/// Bytes of a slot. Without trains a lean program takes what an Ethernet frame can hold; with them
/// a slot must hold a whole train. An odd number of cache lines: at a power of two the first lines
/// of all slots would fall into the same few cache sets.
pub(super) fn slot_bytes(gro: bool, size_max: usize) -> usize {
    let bytes = if gro { 65_535 } else { size_max.clamp(2048, 65_535) };
    let lines = bytes.div_ceil(64);
    (lines | 1) * 64
}

/// How large a peer's slots are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct SlotSpec {
    pub(super) gro: bool,
    pub(super) bytes: usize,
}

/// What a peer counted.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tally {
    pub(crate) datagrams: u64,
    pub(crate) bytes: u64,
}

/// What the receiving thread shares with the one that measures it.
#[derive(Debug, Default)]
pub(super) struct Shared {
    /// Datagrams so far: one plain store a call.
    pub(super) datagrams: AtomicU64,
    pub(super) stop: AtomicBool,
    /// Kernel id of the receiving thread; 0 before it runs.
    pub(super) thread: AtomicI32,
}

/// Where payloads are copied to: as the engine's batches, dense, and begun anew when full.
#[derive(Debug)]
struct Arena {
    bytes: Box<[u8]>,
    used: usize,
}

impl Arena {
    fn new() -> Self {
        // Touched, so that no page fault falls into the measured window; seen by black_box, so that
        // the copies are not optimised away.
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

/// What follows a receive call: the same for both calls.
#[derive(Debug)]
pub(super) struct Desk {
    pub(super) tally: Tally,
    arena: Arena,
    copies: bool,
    shared: Arc<Shared>,
}

impl Desk {
    pub(super) fn new(copies: bool, shared: Arc<Shared>) -> Self {
        Self { tally: Tally::default(), arena: Arena::new(), copies, shared }
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

    /// An empty read after the shutdown: there is nothing left, and nothing will come.
    pub(super) fn is_over(&self, read_bytes: usize) -> bool {
        read_bytes == 0 && self.shared.stop.load(Ordering::Acquire)
    }
}

/// The size of each datagram of a train, 0 without the control message. Only one kind was asked
/// for, so there is nothing to walk.
#[inline]
fn segment_bytes(control: &[u8]) -> usize {
    let word = |at: usize| control.get(at..)?.first_chunk().map(|raw| i32::from_ne_bytes(*raw));
    match (word(8), word(12), word(16)) {
        (Some(libc::SOL_UDP), Some(UDP_GRO), Some(size)) => usize::try_from(size).unwrap_or(0),
        _ => 0,
    }
}
