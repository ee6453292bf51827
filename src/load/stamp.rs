//! The stamp of a generated datagram. It tells the receiver the run, the number, the times and whether a
//! byte changed on the way.
//!
//! ```text
//!  0          8        12     14      16             24         32              size
//!  │ sequence │ run id │ flow │ magic │ intended, ns │ sent, ns │ filling …      │  little-endian
//! ```
//! A shorter datagram carries the fields that fit whole, sequence first: below 32 bytes it has no send
//! time, below 24 no intended time, below 16 no run and flow, below 8 nothing.
//! The filling is a function of sequence and position, so any datagram can be checked alone.

use ringest_base::sys::chance::GOLDEN;

/// Bytes of a whole stamp.
pub const STAMP_BYTES: usize = 32;

/// The most flows that a stamp can tell apart: its flow field has 16 bits.
pub const FLOWS_MAX: usize = 1 << 16;

/// Marks a stamped datagram, together with the run id ("RI").
const MAGIC: u16 = 0x4952;

/// A stamp to write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// The number in its flow, from 0.
    pub sequence: u64,
    /// The random id of the run.
    pub run: u32,
    /// The flow within the run.
    pub flow: u16,
    /// The intended time, `CLOCK_MONOTONIC` of the sender, ns.
    pub intended_ns: u64,
    /// The time it was given to the kernel, on the same clock.
    pub sent_ns: u64,
}

impl Stamp {
    /// Writes the fields that fit into `payload`. Returns the number of bytes written.
    pub fn write(&self, payload: &mut [u8]) -> usize {
        let mut bytes = [0; STAMP_BYTES];
        bytes[..8].copy_from_slice(&self.sequence.to_le_bytes());
        bytes[8..12].copy_from_slice(&self.run.to_le_bytes());
        bytes[12..14].copy_from_slice(&self.flow.to_le_bytes());
        bytes[14..16].copy_from_slice(&MAGIC.to_le_bytes());
        bytes[16..24].copy_from_slice(&self.intended_ns.to_le_bytes());
        bytes[24..].copy_from_slice(&self.sent_ns.to_le_bytes());
        let whole = payload.len().min(STAMP_BYTES) / 8 * 8;
        payload[..whole].copy_from_slice(&bytes[..whole]);
        whole
    }
}

/// The stamp of a received datagram; `None` for fields that do not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The number in its flow.
    pub sequence: Option<u64>,
    /// Run and flow; `None` also without the magic number.
    pub origin: Option<(u32, u16)>,
    /// The intended time, ns.
    pub intended_ns: Option<u64>,
    /// The send time, ns.
    pub sent_ns: Option<u64>,
}

impl Seen {
    /// Reads the stamp of any payload.
    #[must_use]
    #[inline]
    pub fn read(payload: &[u8]) -> Self {
        let word = |at: usize| {
            payload.get(at..)?.first_chunk().map(|raw: &[u8; 8]| u64::from_le_bytes(*raw))
        };
        let origin = |word: u64| {
            let [a, b, c, d, e, f, g, h] = word.to_le_bytes();
            (u16::from_le_bytes([g, h]) == MAGIC)
                .then(|| (u32::from_le_bytes([a, b, c, d]), u16::from_le_bytes([e, f])))
        };
        Self {
            sequence: word(0),
            origin: word(8).and_then(origin),
            intended_ns: word(16),
            sent_ns: word(24),
        }
    }
}

/// Fills the bytes after the stamp.
pub fn fill(payload: &mut [u8], sequence: u64) {
    for (index, byte) in payload.iter_mut().enumerate().skip(STAMP_BYTES) {
        *byte = filling(sequence, index);
    }
}

/// Returns whether the filling matches the stamped sequence. A payload too short for one is intact.
#[must_use]
pub fn is_intact(payload: &[u8]) -> bool {
    let Some(sequence) = Seen::read(payload).sequence else { return true };
    payload.iter().enumerate().skip(STAMP_BYTES).all(|(i, byte)| *byte == filling(sequence, i))
}

fn filling(sequence: u64, index: usize) -> u8 {
    let mixed = (sequence ^ (index as u64) << 40).wrapping_mul(GOLDEN);
    mixed.to_be_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    const STAMP: Stamp =
        Stamp { sequence: 7, run: 0xdead_beef, flow: 9, intended_ns: 98, sent_ns: 99 };

    #[test]
    fn a_changed_byte_is_seen() {
        let mut payload = [0; 40];
        assert_eq!(STAMP.write(&mut payload), STAMP_BYTES);
        fill(&mut payload, 7);
        assert!(is_intact(&payload));
        payload[39] ^= 1;
        assert!(!is_intact(&payload));
    }

    #[test]
    fn short_payloads_say_what_fits_whole() {
        for size in 0..=64 {
            let mut payload = vec![0xaa; size];
            assert_eq!(STAMP.write(&mut payload), size.min(STAMP_BYTES) / 8 * 8);
            let wanted = Seen {
                sequence: (size >= 8).then_some(7),
                origin: (size >= 16).then_some((0xdead_beef, 9)),
                intended_ns: (size >= 24).then_some(98),
                sent_ns: (size >= 32).then_some(99),
            };
            assert_eq!(Seen::read(&payload), wanted, "{size}");
        }
    }

    #[test]
    fn without_the_magic_it_is_not_ours() {
        let mut payload = [0; 40];
        STAMP.write(&mut payload);
        payload[15] ^= 1;
        assert_eq!(Seen::read(&payload).origin, None);
        assert_eq!(Seen::read(b"<34>Oct 11 22:14:15 su: 'su root' failed").origin, None);
    }
}
