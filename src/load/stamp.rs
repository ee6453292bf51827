//! What a generated datagram carries, so that its receiver can tell whose it is, which one it is, how
//! long it took and whether a byte of it changed.
//!
//! ```text
//!  0          8        12     14      16             24         32              size
//!  │ sequence │ run id │ flow │ magic │ intended, ns │ sent, ns │ filling …      │  little-endian
//! ```
//! A datagram shorter than that carries the fields that fit whole, sequence first: below 32 bytes it is
//! not known when it was sent, below 24 when it should have been, below 16 whose it is, below 8 nothing.
//! The filling is a function of sequence and position, so any datagram can be checked alone.

/// Bytes of a whole stamp.
pub const STAMP_BYTES: usize = 32;

/// The most flows that a stamp can tell apart: its flow field has 16 bits.
pub const FLOWS_MAX: usize = 1 << 16;

/// Marks a datagram as one of ours, together with the run id ("RI").
const MAGIC: u16 = 0x4952;

/// A stamp to be written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Stamp {
    /// Its number in its flow, from 0.
    pub sequence: u64,
    /// Which run it belongs to, drawn by lot.
    pub run: u32,
    /// Which of the run's flows.
    pub flow: u16,
    /// When it was due, `CLOCK_MONOTONIC` of its sender, ns.
    pub intended_ns: u64,
    /// When it was given to the kernel, on the same clock.
    pub sent_ns: u64,
}

impl Stamp {
    /// Writes the fields that fit `payload`; returns how many bytes that is.
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

/// What a received datagram says of itself; `None` where it is too short to say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// Its number in its flow.
    pub sequence: Option<u64>,
    /// Run and flow; `None` also where the magic is missing: not one of ours.
    pub origin: Option<(u32, u16)>,
    /// When it was due.
    pub intended_ns: Option<u64>,
    /// When it was given to the kernel.
    pub sent_ns: Option<u64>,
}

impl Seen {
    /// Reads the stamp of a payload, which may be anything.
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

/// Fills what follows the stamp.
pub fn fill(payload: &mut [u8], sequence: u64) {
    for (index, byte) in payload.iter_mut().enumerate().skip(STAMP_BYTES) {
        *byte = filling(sequence, index);
    }
}

/// Whether the filling is that of the stamped sequence. A payload too short for one is intact.
#[must_use]
pub fn is_intact(payload: &[u8]) -> bool {
    let Some(sequence) = Seen::read(payload).sequence else { return true };
    payload.iter().enumerate().skip(STAMP_BYTES).all(|(i, byte)| *byte == filling(sequence, i))
}

fn filling(sequence: u64, index: usize) -> u8 {
    let mixed = (sequence ^ (index as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
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
