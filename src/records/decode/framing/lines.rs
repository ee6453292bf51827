//! Frames that are lines: each ends with `\n` or `\r\n`, the last one may end with the datagram. An empty
//! line is an empty frame; an empty datagram has none. Nothing is ever rejected.

use crate::decode::decoder::{Framing, Reject};

/// Cuts a datagram into lines, without their ends.
#[derive(Clone, Copy, Debug)]
pub struct Lines;

impl Framing for Lines {
    fn split<'a>(
        &mut self,
        payload: &'a [u8],
        mut frame: impl FnMut(Result<&'a [u8], Reject<'a>>),
    ) {
        for line in payload.split_inclusive(|byte| *byte == b'\n') {
            let line = line
                .strip_suffix(b"\n")
                .map_or(line, |line| line.strip_suffix(b"\r").unwrap_or(line));
            frame(Ok(line));
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::formats::tests::decode;

    #[test]
    fn lines_lose_their_ends_and_nothing_else() {
        let lines = |text: &'static str| -> Vec<String> {
            let (records, rejects) = decode("lines", text.as_bytes());
            assert!(rejects.is_empty());
            records.into_iter().map(|record| String::from_utf8(record).unwrap()).collect()
        };
        assert_eq!(lines("one\ntwo\n"), ["one", "two"]);
        assert_eq!(lines("one\r\n\n two \r"), ["one", "", " two \r"]);
        assert_eq!(lines("\n"), [""]);
        assert!(lines("").is_empty());
    }
}
