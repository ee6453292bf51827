//! The bytes of a segment, however they are kept.

use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

use super::packed::{Packed, is_packed};

/// A segment's file.
#[derive(Debug)]
pub(super) enum Bytes {
    /// As it was written.
    Plain(File),
    /// Compressed after it was sealed.
    Packed(Box<Packed>),
}

impl Bytes {
    /// `packed`: it is known to be, whatever its first bytes say.
    pub(super) fn open(file: File, packed: bool) -> io::Result<Self> {
        let mut head = [0; 4];
        let got = read_at(&file, &mut head, 0)?;
        if packed || is_packed(&head[..got]) {
            return Ok(Self::Packed(Box::new(Packed::open(file)?)));
        }
        Ok(Self::Plain(file))
    }

    /// As much of `buffer` as there is from `offset` on.
    pub(super) fn read_at(&mut self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match self {
            Self::Plain(file) => read_at(file, buffer, offset),
            Self::Packed(packed) => packed.read_at(buffer, offset),
        }
    }

    /// How many there are by now.
    pub(super) fn len(&self) -> io::Result<u64> {
        match self {
            Self::Plain(file) => Ok(file.metadata()?.len()),
            Self::Packed(packed) => Ok(packed.len()),
        }
    }

    /// Whether the file still has a name.
    pub(super) fn is_linked(&self) -> bool {
        match self {
            Self::Plain(file) => file.metadata().is_ok_and(|facts| facts.nlink() > 0),
            Self::Packed(_) => true,
        }
    }

    pub(super) fn packed(&self) -> Option<&Packed> {
        match self {
            Self::Plain(_) => None,
            Self::Packed(packed) => Some(packed),
        }
    }
}

/// As much of `buffer` as the file has from `offset` on.
pub(super) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}
