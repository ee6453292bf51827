//! What a generated datagram carries, so that its receiver can tell which one it is, how long it
//! took and whether a byte of it changed.
//!
//! ```text
//!  0        8           16              size
//!  │ number │ sent at ns │ filling …     │     little-endian; cut off where the size ends
//! ```
//! The filling is a function of number and position, so any datagram can be checked alone.

/// Bytes of a whole stamp.
pub const STAMP_BYTES: usize = 16;

/// What a datagram says of itself; `None` where it is too short to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Its number in its run, from 0.
    pub number: Option<u64>,
    /// `CLOCK_MONOTONIC` at its sender, ns.
    pub sent_at_ns: Option<u64>,
}

impl Stamp {
    /// Reads the stamp of a payload.
    #[must_use]
    pub fn read(payload: &[u8]) -> Self {
        let word = |at: usize| {
            payload.get(at..)?.first_chunk().map(|raw: &[u8; 8]| u64::from_le_bytes(*raw))
        };
        Self { number: word(0), sent_at_ns: word(8) }
    }
}

/// Writes number and time at the head of `payload`, as much as fits.
pub fn write(payload: &mut [u8], number: u64, sent_at_ns: u64) {
    let mut stamp = [0; STAMP_BYTES];
    stamp[..8].copy_from_slice(&number.to_le_bytes());
    stamp[8..].copy_from_slice(&sent_at_ns.to_le_bytes());
    let len = payload.len().min(STAMP_BYTES);
    payload[..len].copy_from_slice(&stamp[..len]);
}

/// Fills what follows the stamp.
pub fn fill(payload: &mut [u8], number: u64) {
    for (index, byte) in payload.iter_mut().enumerate().skip(STAMP_BYTES) {
        *byte = filling(number, index);
    }
}

/// Whether the filling is that of the stamped number. A payload too short for a number is intact.
#[must_use]
pub fn is_intact(payload: &[u8]) -> bool {
    let Some(number) = Stamp::read(payload).number else { return true };
    payload.iter().enumerate().skip(STAMP_BYTES).all(|(i, byte)| *byte == filling(number, i))
}

fn filling(number: u64, index: usize) -> u8 {
    let mixed = (number ^ (index as u64) << 40).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    mixed.to_be_bytes()[0]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_changed_byte_is_seen_and_short_payloads_say_what_they_can() {
        let mut payload = [0; 40];
        write(&mut payload, 7, 99);
        fill(&mut payload, 7);
        assert_eq!(Stamp::read(&payload), Stamp { number: Some(7), sent_at_ns: Some(99) });
        assert!(is_intact(&payload));
        payload[39] ^= 1;
        assert!(!is_intact(&payload));
        write(&mut payload[..10], 8, 0);
        assert_eq!(Stamp::read(&payload[..10]), Stamp { number: Some(8), sent_at_ns: None });
        assert_eq!(Stamp::read(&[1, 2]), Stamp { number: None, sent_at_ns: None });
    }
}
