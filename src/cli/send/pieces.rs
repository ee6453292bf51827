//! Divides a stream into lines, or into frames with a length before them.

use std::io::{self, BufRead, Read};

use ringest_client::PAYLOAD_BYTES_MAX;

/// A part of a stream: a line or a frame.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Piece {
    /// It is in the buffer.
    Whole,
    /// It has this many bytes, and was skipped.
    TooLong(usize),
    /// The stream ended within it.
    Torn {
        /// Bytes that the length announces.
        wanted: usize,
        /// Bytes that were read.
        got: usize,
    },
    /// The stream ended before it.
    End,
}

/// Reads a line without its end. Never keeps more than `room` bytes and its line end; skips a longer line.
pub(crate) fn read_line(
    input: &mut impl BufRead,
    line: &mut Vec<u8>,
    room: usize,
) -> io::Result<Piece> {
    line.clear();
    // One byte for the line end, and one to see that the line is too long.
    let limit = u64::try_from(room).unwrap_or(u64::MAX).saturating_add(2);
    if input.by_ref().take(limit).read_until(b'\n', line)? == 0 {
        return Ok(Piece::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > room {
        let rest = skip_line(input)?;
        return Ok(Piece::TooLong(line.len() + rest));
    }
    if line.len() > room {
        return Ok(Piece::TooLong(line.len()));
    }
    Ok(Piece::Whole)
}

/// Skips to the end of the line. Returns how many bytes were skipped.
fn skip_line(input: &mut impl BufRead) -> io::Result<usize> {
    let mut skipped = 0;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (line, used) = match end {
            Some(end) => (end, end + 1),
            None => (buffer.len(), buffer.len()),
        };
        input.consume(used);
        skipped += line;
        if end.is_some() || used == 0 {
            return Ok(skipped);
        }
    }
}

/// Reads a frame: 4 bytes of length, big endian, and as many bytes.
pub(crate) fn read_frame(input: &mut impl BufRead, frame: &mut Vec<u8>) -> io::Result<Piece> {
    frame.clear();
    input.by_ref().take(4).read_to_end(frame)?;
    if frame.is_empty() {
        return Ok(Piece::End);
    }
    let Ok(prefix) = <[u8; 4]>::try_from(frame.as_slice()) else {
        return Ok(Piece::Torn { wanted: 4, got: frame.len() });
    };
    frame.clear();
    let length = u32::from_be_bytes(prefix);
    let wanted = usize::try_from(length).unwrap_or(usize::MAX);
    let mut body = input.by_ref().take(u64::from(length));
    let got = if wanted > PAYLOAD_BYTES_MAX {
        usize::try_from(io::copy(&mut body, &mut io::sink())?).unwrap_or(usize::MAX)
    } else {
        body.read_to_end(frame)?
    };
    if got < wanted {
        return Ok(Piece::Torn { wanted, got });
    }
    Ok(if wanted > PAYLOAD_BYTES_MAX { Piece::TooLong(wanted) } else { Piece::Whole })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::BufReader;

    fn pieces(
        text: &[u8],
        read: impl Fn(&mut BufReader<&[u8]>, &mut Vec<u8>) -> io::Result<Piece>,
    ) -> Vec<Result<Vec<u8>, Piece>> {
        let mut input = BufReader::with_capacity(1000, text);
        let (mut buffer, mut pieces) = (Vec::new(), Vec::new());
        loop {
            match read(&mut input, &mut buffer).unwrap() {
                Piece::Whole => pieces.push(Ok(buffer.clone())),
                Piece::End => return pieces,
                torn @ Piece::Torn { .. } => {
                    pieces.push(Err(torn));
                    return pieces;
                }
                other @ Piece::TooLong(_) => pieces.push(Err(other)),
            }
        }
    }

    fn lines(text: &[u8]) -> Vec<Result<Vec<u8>, Piece>> {
        pieces(text, |input, line| read_line(input, line, PAYLOAD_BYTES_MAX))
    }

    fn frames(bytes: &[u8]) -> Vec<Result<Vec<u8>, Piece>> {
        pieces(bytes, |input, frame| read_frame(input, frame))
    }

    fn framed(payload: &[u8]) -> Vec<u8> {
        [&u32::try_from(payload.len()).unwrap().to_be_bytes(), payload].concat()
    }

    #[test]
    fn lines_lose_their_end_and_nothing_else() {
        let lines = lines(b"one\n\n two \r\n\xff\x00\nlast");
        let wanted: [&[u8]; 5] = [b"one", b"", b" two \r", b"\xff\x00", b"last"];
        assert_eq!(lines, wanted.map(|line| Ok(line.to_vec())));
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_whole() {
        for over in [0, 1, 2, 3, 5000] {
            for end in ["\n", ""] {
                let long = "x".repeat(PAYLOAD_BYTES_MAX + over);
                let text = format!("a\n{long}\nb\n{long}{end}");
                let long = || match over {
                    0 => Ok(long.clone().into_bytes()),
                    _ => Err(Piece::TooLong(long.len())),
                };
                let wanted = [Ok(b"a".to_vec()), long(), Ok(b"b".to_vec()), long()];
                assert_eq!(lines(text.as_bytes()), wanted, "{over} {end:?}");
            }
        }
    }

    #[test]
    fn frames_are_as_long_as_they_say() {
        let long = vec![7; PAYLOAD_BYTES_MAX + 1];
        let most = vec![8; PAYLOAD_BYTES_MAX];
        let all = [framed(b"one"), framed(b""), framed(&long), framed(&most), framed(b"\n")];
        let wanted = [
            Ok(b"one".to_vec()),
            Ok(Vec::new()),
            Err(Piece::TooLong(long.len())),
            Ok(most),
            Ok(b"\n".to_vec()),
        ];
        assert_eq!(frames(&all.concat()), wanted);
        assert!(frames(b"").is_empty());
    }

    #[test]
    fn a_torn_frame_is_told_from_an_end() {
        let whole = framed(b"payload");
        for cut in 1..whole.len() {
            let (wanted, got) = if cut < 4 { (4, cut) } else { (7, cut - 4) };
            assert_eq!(frames(&whole[..cut]), [Err(Piece::Torn { wanted, got })]);
        }
        // A file of another format.
        let text = frames(b"GET / HTTP/1.1\r\n");
        assert_eq!(text, [Err(Piece::Torn { wanted: 0x4745_5420, got: 12 })]);
    }

    proptest! {
        #[test]
        fn no_bytes_make_a_reader_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let _ = (lines(&bytes), frames(&bytes));
        }

        #[test]
        fn what_is_framed_comes_back(
            payloads in proptest::collection::vec(
                proptest::collection::vec(any::<u8>(), 0..50), 0..20),
        ) {
            let bytes: Vec<u8> = payloads.iter().flat_map(|payload| framed(payload)).collect();
            let back: Vec<_> = frames(&bytes).into_iter().map(Result::unwrap).collect();
            prop_assert_eq!(back, payloads);
        }
    }
}
