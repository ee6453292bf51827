//! The table of formats by name. `--decode`, its help and the property test of decoders read it.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;

use crate::decode::decoder::{Decoder, Framed};
use crate::decode::format::json::Json;
use crate::decode::format::raw::Raw;
use crate::decode::framing::datagram::Whole;
use crate::decode::framing::length::LengthPrefixed;
use crate::decode::framing::lines::Lines;

/// A row of the table of formats.
#[derive(Debug)]
pub struct FormatRow {
    /// The name on the command line.
    pub name: &'static str,
    /// Contents of a datagram of this format, for the help: a few words, or none where the name says it.
    pub help: &'static str,
    /// Makes a decoder, for one listen address of one worker.
    pub make: fn() -> Box<dyn Decoder>,
}

/// All formats. The first is the default.
pub const FORMATS: &[FormatRow] = &[
    FormatRow { name: "raw", help: "one record", make: || Box::new(Framed(Whole, Raw)) },
    FormatRow { name: "lines", help: "", make: || Box::new(Framed(Lines, Raw)) },
    FormatRow {
        name: "length-prefixed",
        help: "4 bytes big endian",
        make: || Box::new(Framed(LengthPrefixed, Raw)),
    },
    FormatRow { name: "json", help: "objects", make: || Box::new(Framed(Whole, Json)) },
];

/// A format of the table, by its place there. Made by [`FromStr`] from its name.
#[derive(Clone, Copy)]
pub struct Decode(&'static FormatRow);

impl Decode {
    /// Returns all formats.
    pub fn all() -> impl Iterator<Item = Self> {
        FORMATS.iter().map(Self)
    }

    /// Returns its name.
    #[must_use]
    pub fn name(self) -> &'static str {
        self.0.name
    }

    /// Returns whether a datagram is one record, whatever it holds.
    #[must_use]
    pub fn is_raw(self) -> bool {
        self == Self::default()
    }

    /// Makes a decoder, for one listen address of one worker.
    #[must_use]
    pub fn decoder(self) -> Box<dyn Decoder> {
        (self.0.make)()
    }

    /// Returns the formats with what they hold, for a help text: `raw (one record), lines, … or json
    /// (objects)`.
    #[must_use]
    pub fn help() -> String {
        let entry = |entry: &FormatRow| match entry.help {
            "" => entry.name.to_owned(),
            help => format!("{} ({help})", entry.name),
        };
        let entries: Vec<_> = FORMATS.iter().map(entry).collect();
        let (last, others) = entries.split_last().map_or(("", &[][..]), |(l, o)| (l.as_str(), o));
        format!("{}, or {last}", others.join(", "))
    }
}

/// A name that is not in the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnknownFormat;

impl fmt::Display for UnknownFormat {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str("expected ")?;
        for (place, entry) in FORMATS.iter().enumerate() {
            let joint = match FORMATS.len() - place {
                1 => "",
                2 => " or ",
                _ => ", ",
            };
            write!(out, "{}{joint}", entry.name)?;
        }
        Ok(())
    }
}

impl std::error::Error for UnknownFormat {}

impl FromStr for Decode {
    type Err = UnknownFormat;

    fn from_str(name: &str) -> Result<Self, UnknownFormat> {
        Self::all().find(|format| format.name() == name).ok_or(UnknownFormat)
    }
}

impl Default for Decode {
    fn default() -> Self {
        Self(&FORMATS[0])
    }
}

impl PartialEq for Decode {
    fn eq(&self, other: &Self) -> bool {
        self.name() == other.name()
    }
}

impl Eq for Decode {}

impl Hash for Decode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.name().hash(state);
    }
}

impl fmt::Debug for Decode {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.name())
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::decode::decoder::{Decoded, Later, Records, Reject};
    use crate::decode::held::HeldDatagram;
    use proptest::prelude::*;
    use ringest_engine::batch::arena::Batch;

    use crate::sink::stdout::tests::batch;

    /// Collects records and rejects by their places in the payload.
    #[derive(Debug, Default)]
    struct Places {
        base: usize,
        records: Vec<(usize, Vec<u8>)>,
        rejects: Vec<(usize, Vec<u8>, &'static str)>,
        /// Start and length of each part, in the order they came.
        parts: Vec<(usize, usize)>,
    }

    impl Records for Places {
        fn record(&mut self, record: &[u8]) {
            let start = record.as_ptr().addr().wrapping_sub(self.base);
            self.parts.push((start, record.len()));
            self.records.push((start, record.to_vec()));
        }

        fn reject(&mut self, reject: Reject<'_>) {
            let start = reject.bytes.as_ptr().addr().wrapping_sub(self.base);
            self.parts.push((start, reject.bytes.len()));
            self.rejects.push((start, reject.bytes.to_vec(), reject.reason));
        }

        fn join(&mut self, _: u64) {}
    }

    impl Later for Places {
        fn release(&mut self, _: &HeldDatagram, _: &mut dyn FnMut(&mut dyn Records)) {}
        fn refuse(&mut self, _: &HeldDatagram, _: u64, _: &'static str) {}
    }

    fn places(format: Decode, batch: &Batch) -> Places {
        let datagram = batch.iter().next().unwrap();
        let mut places = Places { base: datagram.payload().as_ptr().addr(), ..Places::default() };
        assert_eq!(format.decoder().decode(&datagram, &mut places), Decoded::Whole);
        places
    }

    /// Records, and what was rejected with its reason.
    pub(crate) type Found = (Vec<Vec<u8>>, Vec<(Vec<u8>, &'static str)>);

    pub(crate) fn decode(format: &str, payload: &[u8]) -> Found {
        let places = places(format.parse().unwrap(), &batch(&[payload]));
        (
            places.records.into_iter().map(|(_, record)| record).collect(),
            places.rejects.into_iter().map(|(_, bytes, reason)| (bytes, reason)).collect(),
        )
    }

    #[test]
    fn names_are_parsed_and_an_unknown_one_is_told_which_there_are() {
        for format in Decode::all() {
            assert_eq!(format.name().parse(), Ok(format));
        }
        assert!(Decode::default().is_raw());
        let refused = "xml".parse::<Decode>().unwrap_err().to_string();
        assert_eq!(refused, "expected raw, lines, length-prefixed or json");
        let help =
            "raw (one record), lines, length-prefixed (4 bytes big endian), or json (objects)";
        assert_eq!(Decode::help(), help);
    }

    proptest! {
        /// Whatever comes: no panic, nothing twice, nothing out of order, nothing beyond the datagram.
        #[test]
        fn parts_lie_in_order_in_the_datagram(
            payload in proptest::collection::vec(
                prop_oneof![Just(b'\n'), Just(b'{'), Just(b'}'), Just(0u8), any::<u8>()], 0..200),
        ) {
            for format in Decode::all() {
                let mut end = 0;
                for (start, len) in places(format, &batch(&[&payload])).parts {
                    prop_assert!(start >= end && start + len <= payload.len(), "{format:?}");
                    end = start + len;
                }
            }
        }
    }
}
