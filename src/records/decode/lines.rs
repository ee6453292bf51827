//! Lines: each ends with `\n` or `\r\n`, the last one may end with the datagram. An empty line is an
//! empty record; an empty datagram has none. Nothing is ever rejected.

use crate::decode::{Decoder, Reject};

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub struct Lines;

impl Decoder for Lines {
    fn decode<'a>(
        &mut self,
        payload: &'a [u8],
        record: &mut dyn FnMut(&'a [u8]),
        _: &mut dyn FnMut(Reject<'a>),
    ) {
        for line in payload.split_inclusive(|byte| *byte == b'\n') {
            let line = line
                .strip_suffix(b"\n")
                .map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
            record(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::Decode;
    use crate::decode::tests::decode;

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        let lines = |text: &'static str| -> Vec<&'static str> {
            let (records, rejects) = decode(Decode::Lines, text.as_bytes());
            assert!(rejects.is_empty());
            records.into_iter().map(|record| str::from_utf8(record).unwrap()).collect()
        };
        assert_eq!(lines("one\ntwo\n"), ["one", "two"]);
        assert_eq!(lines("one\r\n\n two \r"), ["one", "", " two \r"]);
        assert_eq!(lines("\n"), [""]);
        assert!(lines("").is_empty());
    }
}
