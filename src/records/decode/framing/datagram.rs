//! The whole datagram as one frame.

use crate::decode::decoder::{Framing, Reject};

/// Takes a datagram as one frame, an empty one too.
#[derive(Clone, Copy, Debug)]
pub struct Whole;

impl Framing for Whole {
    fn split<'a>(
        &mut self,
        payload: &'a [u8],
        mut frame: impl FnMut(Result<&'a [u8], Reject<'a>>),
    ) {
        frame(Ok(payload));
    }
}
