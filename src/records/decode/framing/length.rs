//! Frames behind their length: four bytes, big endian, then as many bytes; several in a datagram. A length
//! past the end of the datagram rejects the rest; the frames before it stand.

use crate::decode::decoder::{Framing, Reject};

/// Cuts a datagram into frames by the lengths in it.
#[derive(Clone, Copy, Debug)]
pub struct LengthPrefixed;

impl Framing for LengthPrefixed {
    fn split<'a>(
        &mut self,
        payload: &'a [u8],
        mut frame: impl FnMut(Result<&'a [u8], Reject<'a>>),
    ) {
        let mut rest = payload;
        while !rest.is_empty() {
            let Some((prefix, after)) = rest.split_first_chunk() else {
                return frame(Err(Reject { bytes: rest, reason: "the length is cut off" }));
            };
            let len = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
            let Some((body, next)) = after.split_at_checked(len) else {
                let reason = "the length goes past the datagram's end";
                return frame(Err(Reject { bytes: rest, reason }));
            };
            frame(Ok(body));
            rest = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::formats::tests::decode;

    #[test]
    fn frames_before_a_wrong_length_stand() {
        let whole = b"\0\0\0\x02hi\0\0\0\0\0\0\0\x01x";
        let records = vec![b"hi".to_vec(), vec![], b"x".to_vec()];
        assert_eq!(decode("length-prefixed", whole), (records.clone(), vec![]));
        for (tail, reason) in [
            (&b"\0\0\0"[..], "the length is cut off"),
            (b"\0\0\0\x03ab", "the length goes past the datagram's end"),
            (b"\xff\xff\xff\xffab", "the length goes past the datagram's end"),
        ] {
            let torn = [whole, tail].concat();
            let (found, rejects) = decode("length-prefixed", &torn);
            assert_eq!((found, rejects), (records.clone(), vec![(tail.to_vec(), reason)]));
        }
        assert_eq!(decode("length-prefixed", b""), (vec![], vec![]));
    }
}
