//! The frame as it is.

use crate::decode::decoder::{Decoded, Format, Records};
use ringest_engine::batch::arena::Datagram;

/// Takes each frame as one record, an empty one too.
#[derive(Clone, Copy, Debug)]
pub struct Raw;

impl Format for Raw {
    fn decode(&mut self, frame: &[u8], _: &Datagram<'_>, out: &mut dyn Records) -> Decoded {
        out.record(frame);
        Decoded::Whole
    }
}

#[cfg(test)]
mod tests {
    use crate::decode::formats::tests::decode;

    #[test]
    fn raw_takes_all_there_is() {
        assert_eq!(decode("raw", b"a\nb"), (vec![b"a\nb".to_vec()], vec![]));
        assert_eq!(decode("raw", b""), (vec![vec![]], vec![]));
    }
}
