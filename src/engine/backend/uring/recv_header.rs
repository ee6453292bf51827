//! The layout of a slot after a multishot recvmsg, read as plain bytes.
//!
//! ```text
//!  │ io_uring_recvmsg_out: 4 x u32 │ name room │ control room │ payload … │
//! ```
//!
//! The parser of the io-uring crate lends its parts only as long as it lives itself, which is too short to hand a frame
//! on.

use crate::wire::cmsg;
use crate::wire::cmsg::Asked;
use crate::wire::sockaddr::NAME_ROOM_BYTES;

/// Bytes of `struct io_uring_recvmsg_out`, at the head of every slot.
const OUT_HEADER_BYTES: usize = 16;

/// Returns the bytes of a slot before its payload.
#[must_use]
pub(crate) fn head_bytes(asked: Asked) -> usize {
    OUT_HEADER_BYTES + NAME_ROOM_BYTES + cmsg::receive_room_bytes(asked)
}

/// The parts of a filled slot: `struct io_uring_recvmsg_out`, name room, control room, payload
/// (io_uring_recvmsg_out(3)).
#[derive(Debug)]
pub(crate) struct RecvOut<'a> {
    pub(crate) name: &'a [u8],
    pub(crate) control: &'a [u8],
    pub(crate) payload: &'a [u8],
    /// MSG_TRUNC or MSG_CTRUNC was set.
    pub(crate) truncated: bool,
}

impl<'a> RecvOut<'a> {
    /// Returns the parts, or `None` if the bytes are too short.
    pub(crate) fn parse(bytes: &'a [u8], control_room: usize) -> Option<Self> {
        let (head, rest) = bytes.split_at_checked(OUT_HEADER_BYTES)?;
        let word = |at: usize| head.get(at..)?.first_chunk().map(|raw| u32::from_ne_bytes(*raw));
        let (name_len, control_len) = (word(0)? as usize, word(4)? as usize);
        let (payload_len, flags) = (word(8)? as usize, word(12)?);
        let (name, rest) = rest.split_at_checked(NAME_ROOM_BYTES)?;
        let (control, payload) = rest.split_at_checked(control_room)?;
        // With MSG_TRUNC a length is that of the original, which is longer than the bytes here.
        Some(Self {
            name: &name[..name_len.min(name.len())],
            control: &control[..control_len.min(control.len())],
            payload: &payload[..payload_len.min(payload.len())],
            truncated: flags & (libc::MSG_TRUNC | libc::MSG_CTRUNC).cast_unsigned() != 0,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(name_len: u32, control_len: u32, payload_len: u32, flags: u32) -> Vec<u8> {
        let words = [name_len, control_len, payload_len, flags];
        let mut bytes: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
        bytes.resize(OUT_HEADER_BYTES + NAME_ROOM_BYTES + 24, 0);
        bytes.extend(b"payload");
        bytes
    }

    #[test]
    fn a_record_is_read_part_by_part() {
        let bytes = record(16, 20, 7, 0);
        let out = RecvOut::parse(&bytes, 24).unwrap();
        assert_eq!((out.name.len(), out.control.len(), out.payload), (16, 20, &b"payload"[..]));
        assert!(!out.truncated);
    }

    #[test]
    fn lengths_beyond_the_slot_are_cut_and_truncation_is_told() {
        let bytes = record(999, 999, 999, libc::MSG_CTRUNC.cast_unsigned());
        let out = RecvOut::parse(&bytes, 24).unwrap();
        assert_eq!((out.name.len(), out.control.len(), out.payload.len()), (32, 24, 7));
        assert!(out.truncated);
        assert!(RecvOut::parse(&bytes[..60], 24).is_none());
    }

    proptest! {
        #[test]
        fn any_bytes_parse_without_panic(
            bytes in proptest::collection::vec(any::<u8>(), 0..200), room in 0usize..100,
        ) {
            let _ = RecvOut::parse(&bytes, room);
        }
    }
}
