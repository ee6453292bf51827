//! The slots: memory the kernel picks from and writes frames into (a provided buffer ring,
//! io_uring_register_buf_ring(3), Linux 5.19).
//!
//! ```text
//!  one anonymous mapping
//!  ┌ buffer ring: 16 B a slot, shared tail ┐┌ slot 0 ────────────────────────┐┌ slot 1 …
//!  │ {addr,len,id} {addr,len,id} …         ││ header │ name │ control │ payload ││
//! ```
//!
//! A slot is the kernel's from the moment its entry is published until a completion names it, and
//! ours from then until it is given back. The distance between slots is an odd number of cache
//! lines: at exactly 64 KiB every slot's header would fall into the same cache set.
#![expect(unsafe_code, reason = "memory shared with the kernel")]

use std::io;
use std::num::NonZeroUsize;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU16, Ordering};

use io_uring::types::BufRingEntry;
use nix::sys::mman::{MapFlags, MmapAdvise, ProtFlags, madvise, mmap_anonymous, munmap};

use crate::wire::limits::FRAME_BYTES_MAX;

const PAGE_BYTES: usize = 4096;

/// Returns the bytes from one slot to the next, for slots whose header, name and control take `head_bytes`.
#[must_use]
pub(crate) fn stride_bytes(head_bytes: usize) -> usize {
    let lines = (head_bytes + FRAME_BYTES_MAX).div_ceil(64);
    (lines | 1) * 64
}

/// Returns the memory of `slots` slots, the buffer ring included, bytes.
#[must_use]
pub(crate) fn footprint_bytes(slots: usize, head_bytes: usize) -> usize {
    ring_bytes(slots) + slots * stride_bytes(head_bytes)
}

fn ring_bytes(slots: usize) -> usize {
    (slots * size_of::<BufRingEntry>()).next_multiple_of(PAGE_BYTES)
}

/// The slots of one ring. Unmapped on drop: the ring must be gone by then.
#[derive(Debug)]
pub(crate) struct Slots {
    base: NonNull<u8>,
    mapped: NonZeroUsize,
    data_offset: usize,
    stride: usize,
    count: u16,
    /// Entries published so far; its low 16 bits are the ring's tail.
    tail: u16,
    published: u16,
    /// Slots that are ours now, taken and not given back.
    held: usize,
}

impl Slots {
    /// Maps and touches the memory; every slot starts as the kernel's. `count` is a power of two
    /// of at most 32768, as the kernel wants it.
    pub(crate) fn new(count: u16, head_bytes: usize) -> io::Result<Self> {
        debug_assert!(count.is_power_of_two() && count <= 32_768, "checked by the plan");
        let stride = stride_bytes(head_bytes);
        let data_offset = ring_bytes(count.into());
        let mapped = NonZeroUsize::new(data_offset + usize::from(count) * stride)
            .ok_or(io::ErrorKind::InvalidInput)?;
        // SAFETY: a fresh private mapping at an address of the kernel's choice touches no memory
        // of ours.
        let base = unsafe {
            mmap_anonymous(
                None,
                mapped,
                ProtFlags::PROT_READ | ProtFlags::PROT_WRITE,
                MapFlags::MAP_PRIVATE,
            )
        }?
        .cast::<u8>();
        let mut slots =
            Self { base, mapped, data_offset, stride, count, tail: 0, published: 0, held: 0 };
        slots.prefault();
        for id in 0..count {
            slots.write_entry(id);
        }
        slots.publish();
        Ok(slots)
    }

    /// Touches every page, so that memory in use is decided now. Huge pages, where the host gives
    /// them, spare the TLB: small datagrams use a few lines of each slot.
    fn prefault(&mut self) {
        // SAFETY: the range is exactly our mapping, and MADV_HUGEPAGE changes no contents. It is
        // advice: a kernel without huge pages refuses it, and nothing is lost.
        let _ = unsafe { madvise(self.base.cast(), self.mapped.get(), MmapAdvise::MADV_HUGEPAGE) };
        for offset in (0..self.mapped.get()).step_by(PAGE_BYTES) {
            // SAFETY: offset is inside the mapping, which nobody else refers to yet.
            let page = unsafe { self.base.add(offset) };
            // SAFETY: page is valid for writes, see above.
            unsafe { page.write_volatile(0) };
        }
    }

    /// Returns the address of the buffer ring, for its registration.
    pub(crate) fn ring_address(&self) -> u64 {
        self.base.as_ptr().expose_provenance() as u64
    }

    pub(crate) fn count(&self) -> u16 {
        self.count
    }

    /// Returns how many slots are the kernel's, or on their way back to it.
    pub(crate) fn free(&self) -> usize {
        usize::from(self.count) - self.held
    }

    /// Notes that the kernel handed over one slot: a completion named it.
    pub(crate) fn taken(&mut self) {
        self.held += 1;
    }

    /// Returns the first `len` bytes of slot `id`, which a completion has named and which was not given back since.
    pub(crate) fn bytes(&self, id: u16, len: usize) -> &[u8] {
        let id = id.min(self.count - 1);
        let len = len.min(self.stride);
        // SAFETY: id < count, so the slot lies inside the mapping.
        let start = unsafe { self.base.add(self.data_offset + usize::from(id) * self.stride) };
        // SAFETY: len is at most the stride; the slot is ours until it is given back, which takes
        // `&mut self`; the mapping was zero-filled, so every byte is initialised.
        unsafe { std::slice::from_raw_parts(start.as_ptr(), len) }
    }

    /// Gives slot `id` back; the kernel sees it after [`publish`](Self::publish).
    pub(crate) fn give_back(&mut self, id: u16) {
        self.held = self.held.saturating_sub(1);
        self.write_entry(id);
    }

    fn write_entry(&mut self, id: u16) {
        let address = self.base.as_ptr().addr() + self.data_offset + usize::from(id) * self.stride;
        let index = usize::from(self.tail & (self.count - 1));
        // SAFETY: index < count, so the entry lies in the ring at the head of the mapping.
        let mut entry = unsafe { self.base.cast::<BufRingEntry>().add(index) };
        // SAFETY: the mapping is page-aligned and so aligned for entries, and zero-filled. The
        // kernel never writes here, and of entries at or past the published tail it reads nothing
        // but the tail itself, which lies in the reserved field of entry 0 and is not touched.
        let entry = unsafe { entry.as_mut() };
        entry.set_addr(address as u64);
        entry.set_len(u32::try_from(self.stride).unwrap_or(u32::MAX));
        entry.set_bid(id);
        self.tail = self.tail.wrapping_add(1);
    }

    /// Makes the slots given back visible to the kernel, with one store for all of them.
    pub(crate) fn publish(&mut self) {
        if self.tail == self.published {
            return;
        }
        // SAFETY: base is the address of the ring's first entry, which is initialised.
        let tail = unsafe { BufRingEntry::tail(self.base.cast::<BufRingEntry>().as_ptr()) };
        // SAFETY: the tail is an aligned u16 inside the mapping; both sides access it atomically.
        let tail = unsafe { AtomicU16::from_ptr(tail.cast_mut()) };
        tail.store(self.tail, Ordering::Release);
        self.published = self.tail;
    }
}

impl Drop for Slots {
    fn drop(&mut self) {
        // SAFETY: base and mapped are what mmap returned, and no reference into the mapping
        // outlives self. The kernel no longer writes here: the owner closes the ring first.
        let unmapped = unsafe { munmap(self.base.cast(), self.mapped.get()) };
        debug_assert!(unmapped.is_ok(), "munmap of our own mapping: {unmapped:?}");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_do_not_share_a_cache_set() {
        for head in [48, 72, 112, 176] {
            assert!(stride_bytes(head) >= head + FRAME_BYTES_MAX);
            assert_eq!(stride_bytes(head) / 64 % 2, 1);
            assert_eq!(stride_bytes(head) % 64, 0);
        }
    }

    #[test]
    fn slots_are_counted_as_they_move() {
        let mut slots = Slots::new(4, 72).unwrap();
        assert_eq!(slots.free(), 4);
        slots.taken();
        assert_eq!(slots.free(), 3);
        assert_eq!(slots.bytes(3, 100).len(), 100);
        slots.give_back(3);
        assert_eq!(slots.free(), 4);
        slots.publish();
    }
}
