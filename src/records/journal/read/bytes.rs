//! The bytes of a segment, whether the file is plain or compressed.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::journal::read::gaps::{BLOCK_BYTES, Gaps, read_at};
use crate::journal::read::packed::{Packed, is_packed};

/// The file of a segment.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// The segment as it was written.
    Plain(File, Gaps),
    /// The segment compressed, after it was sealed.
    Packed(Box<Packed>),
}

impl Bytes {
    /// Opens a segment's file. With `packed` it is treated as compressed whatever its first bytes are.
    pub(crate) fn open(file: File, packed: bool) -> io::Result<Self> {
        let mut head = [0; 4];
        let got = read_at(&file, &mut head, 0)?;
        if packed || is_packed(&head[..got]) {
            return Ok(Self::Packed(Box::new(Packed::open(file)?)));
        }
        Ok(Self::Plain(file, Gaps::default()))
    }

    /// Fills `buffer` from `offset` of the segment on, as far as it goes. Returns the bytes read.
    pub(crate) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file, gaps) => gaps.read_at(file, buffer, offset),
            Self::Packed(packed) => packed.read_at(buffer, offset),
        }
    }

    /// Returns the current length of the segment, bytes.
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file, _) => Ok(file.metadata()?.len()),
            Self::Packed(packed) => Ok(packed.len()),
        }
    }

    /// Returns whether the file still has a name.
    pub(crate) fn is_linked(&self) -> bool {
        match self {
            Self::Plain(file, _) => file.metadata().is_ok_and(|facts| facts.nlink() > 0),
            Self::Packed(_) => true,
        }
    }

    /// From now on, reads places that the disk cannot read as zeros. That costs only the records in them.
    pub(crate) fn skip_gaps(&mut self) {
        match self {
            Self::Plain(_, gaps) => gaps.are_skipped = true,
            Self::Packed(packed) => packed.skip_gaps(),
        }
    }

    /// Returns where the last unreadable place ends (offset, bytes), or 0 if there was none. A compressed
    /// file reports flaws instead.
    pub(crate) fn gaps_end(&self) -> u64 {
        match self {
            Self::Plain(_, gaps) => gaps.met.last().map_or(0, |block| (block + 1) * BLOCK_BYTES),
            Self::Packed(_) => 0,
        }
    }

    /// Returns whether `place` is in a block that could not be read.
    pub(crate) fn is_gap(&self, place: u64) -> bool {
        matches!(self, Self::Plain(_, gaps) if gaps.met.contains(&(place / BLOCK_BYTES)))
    }

    pub(crate) fn packed(&self) -> Option<&Packed> {
        match self {
            Self::Plain(..) => None,
            Self::Packed(packed) => Some(packed),
        }
    }
}
