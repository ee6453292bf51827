//! From a datagram to its records: one file per format.
//!
//! ```text
//!  datagram  │ record │ record │ rest that is none │
//!                ▼        ▼            ▼
//!             each one, in order    Reject: counted, sampled
//! ```
//! A record never spans datagrams: UDP may have lost the next one.

pub mod lines;
pub mod length_prefixed;
pub mod json;
pub mod stage;
pub mod rejects;

use std::fmt::Debug;

/// Finds the records of a datagram. One decoder serves one worker, so it may keep what it likes between
/// calls.
pub trait Decoder: Debug + Send {
    /// Calls `record` for each record of `payload`, in order, and `reject` for each part that is none.
    fn decode<'a>(
        &mut self,
        payload: &'a [u8],
        record: &mut dyn FnMut(&'a [u8]),
        reject: &mut dyn FnMut(Reject<'a>),
    );
}

/// A part of a datagram that is not of its format.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reject<'a> {
    /// The bytes refused.
    pub bytes: &'a [u8],
    /// Why, in a few words.
    pub reason: &'static str,
}

/// The formats there are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Decode {
    /// A datagram is a record, whatever it holds.
    #[default]
    Raw,
    /// Lines: see [`lines`].
    Lines,
    /// Length and bytes: see [`length_prefixed`].
    LengthPrefixed,
    /// JSON objects: see [`json`].
    Json,
}

impl Decode {
    /// A decoder of this format, for one worker.
    #[must_use]
    pub fn decoder(self) -> Box<dyn Decoder> {
        match self {
            Self::Raw => Box::new(Raw),
            Self::Lines => Box::new(lines::Lines),
            Self::LengthPrefixed => Box::new(length_prefixed::LengthPrefixed),
            Self::Json => Box::new(json::Json),
        }
    }
}

/// The datagram as it came, an empty one too.
#[derive(Clone, Copy, Debug)]
struct Raw;

impl Decoder for Raw {
    fn decode<'a>(
        &mut self,
        payload: &'a [u8],
        record: &mut dyn FnMut(&'a [u8]),
        _: &mut dyn FnMut(Reject<'a>),
    ) {
        record(payload);
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Records, and what was rejected with its reason.
    pub(crate) type Decoded<'a> = (Vec<&'a [u8]>, Vec<(&'a [u8], &'static str)>);

    pub(crate) fn decode(format: Decode, payload: &[u8]) -> Decoded<'_> {
        let (mut records, mut rejects) = (Vec::new(), Vec::new());
        format.decoder().decode(payload, &mut |record| records.push(record), &mut |reject| {
            rejects.push((reject.bytes, reject.reason));
        });
        (records, rejects)
    }

    #[test]
    fn raw_takes_all_there_is() {
        assert_eq!(decode(Decode::Raw, b"a\nb"), (vec![&b"a\nb"[..]], vec![]));
        assert_eq!(decode(Decode::Raw, b""), (vec![&b""[..]], vec![]));
    }

    proptest! {
        /// Whatever comes: no panic, nothing twice, nothing out of order, nothing beyond the datagram.
        #[test]
        fn parts_lie_in_order_in_the_datagram(
            payload in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'{'), Just(b'}'), Just(0u8), any::<u8>()], 0..200),
        ) {
            for format in [Decode::Raw, Decode::Lines, Decode::LengthPrefixed, Decode::Json] {
                let (mut end, mut order) = (0, true);
                let base = payload.as_ptr().addr();
                let mut place = |part: &[u8]| {
                    let start = part.as_ptr().addr() - base;
                    order &= start >= end && start + part.len() <= payload.len();
                    end = start + part.len();
                };
                let place = std::cell::RefCell::new(&mut place);
                format.decoder().decode(
                    &payload,
                    &mut |record| place.borrow_mut()(record),
                    &mut |reject| place.borrow_mut()(reject.bytes),
                );
                prop_assert!(order, "{format:?}");
            }
        }
    }
}
