//! The bytes of a segment, however they are kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;

use crate::journal::read::gaps::{BLOCK_BYTES, Gaps, read_at};
use crate::journal::read::packed::{Packed, is_packed};

/// A segment's file.
#[derive(Debug)]
pub(crate) enum Bytes {
    /// As it was written.
    Plain(File, Gaps),
    /// Compressed after it was sealed.
    Packed(Box<Packed>),
}

impl Bytes {
    /// `packed`: it is known to be, whatever its first bytes say.
    pub(crate) fn open(file: File, packed: bool) -> io::Result<Self> {
        let mut head = [0; 4];
        let got = read_at(&file, &mut head, 0)?;
        if packed || is_packed(&head[..got]) {
            return Ok(Self::Packed(Box::new(Packed::open(file)?)));
        }
        Ok(Self::Plain(file, Gaps::default()))
    }

    /// As much of `buffer` as there is from `offset` on.
    pub(crate) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file, gaps) => gaps.read_at(file, buffer, offset),
            Self::Packed(packed) => packed.read_at(buffer, offset),
        }
    }

    /// How many there are by now.
    pub(crate) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file, _) => Ok(file.metadata()?.len()),
            Self::Packed(packed) => Ok(packed.len()),
        }
    }

    /// Whether the file still has a name.
    pub(crate) fn is_linked(&self) -> bool {
        match self {
            Self::Plain(file, _) => file.metadata().is_ok_and(|facts| facts.nlink() > 0),
            Self::Packed(_) => true,
        }
    }

    /// From here on, what the disk cannot read is zeros: it costs the records in it and no other.
    pub(crate) fn pass_gaps(&mut self) {
        match self {
            Self::Plain(_, gaps) => gaps.are_passed = true,
            Self::Packed(packed) => packed.pass_gaps(),
        }
    }

    /// Where the last place that could not be read ends; 0: there was none. Of a compressed file its flaws tell.
    pub(crate) fn gaps_end(&self) -> u64 {
        match self {
            Self::Plain(_, gaps) => gaps.met.last().map_or(0, |block| (block + 1) * BLOCK_BYTES),
            Self::Packed(_) => 0,
        }
    }

    /// Whether a place was met that could not be read.
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
