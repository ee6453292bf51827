//! Records behind their length: four bytes, big endian, then as many bytes; several in a datagram. A
//! length past the datagram's end rejects the rest; the records before it stand.

use crate::decode::{Decoder, Reject};

/// See the module's description.
#[derive(Clone, Copy, Debug)]
pub struct LengthPrefixed;

impl Decoder for LengthPrefixed {
    fn decode<'a>(
        &mut self,
        payload: &'a [u8],
        record: &mut dyn FnMut(&'a [u8]),
        reject: &mut dyn FnMut(Reject<'a>),
    ) {
        let mut rest = payload;
        while !rest.is_empty() {
            let Some((prefix, after)) = rest.split_first_chunk() else {
                return reject(Reject { bytes: rest, reason: "the length is cut off" });
            };
            let len = usize::try_from(u32::from_be_bytes(*prefix)).unwrap_or(usize::MAX);
            let Some((body, next)) = after.split_at_checked(len) else {
                let reason = "the length goes past the datagram's end";
                return reject(Reject { bytes: rest, reason });
            };
            record(body);
            rest = next;
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::Decode;
    use crate::decode::tests::decode;

    #[test]
    fn records_before_a_wrong_length_stand() {
        let whole = b"\0\0\0\x02hi\0\0\0\0\0\0\0\x01x";
        let records = vec![&b"hi"[..], b"", b"x"];
        assert_eq!(decode(Decode::LengthPrefixed, whole), (records.clone(), vec![]));
        for (tail, reason) in [
            (&b"\0\0\0"[..], "the length is cut off"),
            (b"\0\0\0\x03ab", "the length goes past the datagram's end"),
            (b"\xff\xff\xff\xffab", "the length goes past the datagram's end"),
        ] {
            let torn = [whole, tail].concat();
            let (found, rejects) = decode(Decode::LengthPrefixed, &torn);
            assert_eq!((found, rejects), (records.clone(), vec![(tail, reason)]));
        }
        assert_eq!(decode(Decode::LengthPrefixed, b""), (vec![], vec![]));
    }
}
