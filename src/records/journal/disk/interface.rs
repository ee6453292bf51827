//! The operations that a writer needs from a disk. All are asynchronous, because a disk may stall for
//! seconds and the worker must not. Implementations: io_uring, a thread where there is no io_uring, and in
//! tests a model that forgets what was not synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags, makedev, statx};

/// Number of segments a writer has open: the one that records are appended to, and the one before it, whose
/// last commit may still be under way.
pub(crate) const SLOTS: usize = 2;

/// The completion of an operation.
#[derive(Debug)]
pub(crate) enum Done {
    /// The file of a slot was created, or could not be.
    Created(usize, io::Result<()>),
    /// The write with this number has ended.
    Write(u64, io::Result<()>),
    /// The sync of a slot has ended.
    Sync(usize, io::Result<()>),
}

/// A write: bytes `from..to` of buffer `buffer`, to `offset` of the slot's file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) number: u64,
    pub(crate) slot: usize,
    pub(crate) buffer: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) offset: u64,
}

/// A disk. See the module's description.
pub(crate) trait Disk {
    /// Returns a buffer to fill. The caller must not touch bytes that a write under way covers.
    fn buffer(&mut self, index: usize) -> &mut [u8];

    /// Starts creating `path` for `slot`, and syncing the directory so that the name is durable. Completes
    /// as [`Done::Created`]. Operations queued on the slot meanwhile wait, and fail if the creation fails.
    fn create(&mut self, slot: usize, path: &Path) -> io::Result<()>;

    /// Starts a write. Completes as [`Done::Write`]: all bytes are written, or it failed.
    fn write(&mut self, write: Write) -> io::Result<()>;

    /// Starts fdatasync(2) on the slot's file. It covers the writes that have ended before. Completes as
    /// [`Done::Sync`].
    fn sync(&mut self, slot: usize) -> io::Result<()>;

    /// Closes the slot's file. No operation may be under way on it. An open file would keep its disk space
    /// after it was removed.
    fn release(&mut self, slot: usize);

    /// Appends completions to `done`. If `wait`, and something is under way, waits for at least one.
    fn reap(&mut self, wait: bool, done: &mut Vec<Done>) -> io::Result<()>;
}

/// Creates a segment file, which must not exist yet, on the file system `device`, and makes its name
/// durable.
pub(crate) fn create_durably(path: &Path, device: u64) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    step!("segment-made");
    if let Some(dir) = path.parent() {
        let dir = File::open(dir)?;
        is_on(&dir, device)?;
        dir.sync_all()?;
    }
    step!("directory-synced");
    Ok(file)
}

/// Returns device and link count of a file as the kernel has them cached: asking the disk or server may
/// take as long as a write. Before Linux 4.11 it does ask.
fn known(file: &File) -> io::Result<(u64, u64)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    match statx(file, "", flags, StatxFlags::NLINK) {
        Ok(facts) => {
            Ok((makedev(facts.stx_dev_major, facts.stx_dev_minor), facts.stx_nlink.into()))
        }
        Err(_) => file.metadata().map(|facts| (facts.dev(), facts.nlink())),
    }
}

/// Checks that a file still has a name: data written to a file without one is lost when it is closed.
///
/// # Errors
/// The file was removed.
pub(crate) fn still_there(file: &File) -> io::Result<()> {
    match known(file)? {
        (_, 0) => Err(io::Error::new(io::ErrorKind::NotFound, "the segment was removed")),
        _ => Ok(()),
    }
}

/// Checks that a directory is on the file system `device`. When a disk is unmounted, the directory below
/// its mount point appears, and files written there cannot be found when the disk is back.
///
/// # Errors
/// The directory is on another file system.
pub(crate) fn is_on(dir: &File, device: u64) -> io::Result<()> {
    match known(dir)? {
        (on, _) if on == device => Ok(()),
        _ => Err(io::Error::other("the file system it was on is not there any more")),
    }
}
