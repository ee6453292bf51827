//! Reads a file past the places that its disk cannot read.

use std::collections::BTreeSet;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// Size of the blocks in which a disk or file system loses data, bytes.
pub(crate) const BLOCK_BYTES: u64 = 4096;

/// Unreadable blocks of a segment that are skipped at most. More than that is a failed disk, not a bad
/// sector.
const GAPS_MAX: usize = 256;

/// Returns whether an error is EIO: the disk cannot read that place.
pub fn is_eio(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::EIO)
}

/// The places of a file that its disk cannot read.
#[derive(Debug, Default)]
pub(crate) struct Gaps {
    pub(crate) are_skipped: bool,
    /// Block numbers of the unreadable places met so far.
    pub(crate) met: BTreeSet<u64>,
}

impl Gaps {
    pub(crate) fn read_at(
        &mut self,
        file: &File,
        buffer: &mut [u8],
        offset: u64,
    ) -> io::Result<usize> {
        if !self.are_skipped {
            return read_at(file, buffer, offset);
        }
        let bytes = file.metadata()?.len();
        self.fill(buffer, offset, bytes, |buffer, at| file.read_at(buffer, at))
    }

    /// Fills `buffer` like [`read_at`], through `read`, from a file of `bytes` bytes. An unreadable block
    /// is filled with zeros.
    fn fill(
        &mut self,
        buffer: &mut [u8],
        offset: u64,
        bytes: u64,
        read: impl Fn(&mut [u8], u64) -> io::Result<usize>,
    ) -> io::Result<usize> {
        fill(buffer, offset, |buffer, at| match read(buffer, at) {
            Err(error) if is_eio(&error) && at < bytes => {
                let block = at / BLOCK_BYTES;
                self.met.insert(block);
                if self.met.len() > GAPS_MAX {
                    return Err(error);
                }
                let gap = ((block + 1) * BLOCK_BYTES).min(bytes) - at;
                let gap = usize::try_from(gap).unwrap_or(usize::MAX).min(buffer.len());
                buffer[..gap].fill(0);
                Ok(gap)
            }
            got => got,
        })
    }
}

/// Fills `buffer` from `offset` of the file on, as far as the file goes. Returns the bytes read.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    fill(buffer, offset, |buffer, at| file.read_at(buffer, at))
}

fn fill(
    buffer: &mut [u8],
    offset: u64,
    mut read: impl FnMut(&mut [u8], u64) -> io::Result<usize>,
) -> io::Result<usize> {
    let mut filled = 0;
    while filled < buffer.len() {
        match read(&mut buffer[filled..], offset + filled as u64) {
            Ok(0) => break,
            Ok(bytes) => filled += bytes,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(filled)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Reads from a model disk full of ones, on which the blocks in `bad` cannot be read.
    fn read(bad: &[u64], buffer: &mut [u8], at: u64, bytes: u64) -> io::Result<usize> {
        let blocks = at / BLOCK_BYTES..bytes.div_ceil(BLOCK_BYTES);
        let first = blocks.clone().find(|block| bad.contains(block));
        let end = first.map_or(bytes, |block| block * BLOCK_BYTES);
        if end <= at && at < bytes {
            return Err(io::Error::from_raw_os_error(libc::EIO));
        }
        let got = usize::try_from(end.saturating_sub(at)).unwrap().min(buffer.len());
        buffer[..got].fill(1);
        Ok(got)
    }

    #[test]
    fn what_cannot_be_read_costs_its_blocks_and_nothing_before_them() {
        let bytes = 5 * BLOCK_BYTES + 100;
        for (bad, zeros) in [(&[][..], 0), (&[1, 3], 8192), (&[0, 5], 4196), (&[2], 4096)] {
            let mut gaps = Gaps { are_skipped: true, ..Gaps::default() };
            let mut buffer = vec![7; 1 << 16];
            let got = gaps.fill(&mut buffer, 0, bytes, |to, at| read(bad, to, at, bytes)).unwrap();
            assert_eq!(got as u64, bytes);
            assert_eq!(buffer[..got].iter().filter(|byte| **byte == 0).count(), zeros);
            assert!(
                buffer[..got]
                    .iter()
                    .enumerate()
                    .all(|(at, byte)| { (*byte == 0) == bad.contains(&(at as u64 / BLOCK_BYTES)) })
            );
            assert!(gaps.met.iter().eq(bad));
        }
    }

    #[test]
    fn a_disk_that_reads_nothing_is_not_one_with_a_flaw() {
        let bytes = 1 << 30;
        let mut gaps = Gaps { are_skipped: true, ..Gaps::default() };
        let mut buffer = vec![7; 8 << 20];
        let nothing = |_: &mut [u8], _| Err(io::Error::from_raw_os_error(libc::EIO));
        assert!(gaps.fill(&mut buffer, 0, bytes, nothing).is_err());
    }
}
