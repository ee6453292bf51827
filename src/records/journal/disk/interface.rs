//! What the writer asks of a disk: files, writes and syncs that go on by themselves, because a disk may
//! stall for seconds and the worker must not. io_uring does it, a thread where there is no io_uring, and
//! in the tests a model that forgets what was not synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;

use rustix::fs::{AtFlags, StatxFlags, makedev, statx};

/// A segment being written is one of two: the one records go to, and the one before it, whose last
/// commit may still be on its way.
pub(crate) const SLOTS: usize = 2;

/// Something that was begun and has ended.
#[derive(Debug)]
pub(crate) enum Done {
    /// The creation of a slot's file.
    Created(usize, io::Result<()>),
    /// The write begun as number so-and-so.
    Write(u64, io::Result<()>),
    /// The sync of a slot.
    Sync(usize, io::Result<()>),
}

/// A write: bytes `from..to` of a buffer, to `offset` of a slot's file.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Write {
    pub(crate) number: u64,
    pub(crate) slot: usize,
    pub(crate) buffer: usize,
    pub(crate) from: usize,
    pub(crate) to: usize,
    pub(crate) offset: u64,
}

/// See the module's description.
pub(crate) trait Disk {
    /// A buffer to fill. What a write that has not ended covers must not be touched.
    fn buffer(&mut self, index: usize) -> &mut [u8];

    /// Begins to make `path` the file of a slot, its name durable; it ends as [`Done::Created`]. What is
    /// begun on the slot meanwhile waits for it, and fails if it does.
    fn create(&mut self, slot: usize, path: &Path) -> io::Result<()>;

    /// Begins a write; it ends as [`Done::Write`], whole or failed.
    fn write(&mut self, write: Write) -> io::Result<()>;

    /// Begins fdatasync(2); it covers the writes that have ended.
    fn sync(&mut self, slot: usize) -> io::Result<()>;

    /// Nothing more comes to a slot, and nothing is under way: its file is closed, or would keep its room on
    /// the disk after it was removed.
    fn release(&mut self, slot: usize);

    /// Tells what has ended; waits for something to, if asked to and something is under way.
    fn reap(&mut self, wait: bool, done: &mut Vec<Done>) -> io::Result<()>;
}

/// Creates a segment that must not exist, on the file system `device`, and makes its name durable.
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

/// What the kernel knows of a file without asking its disk or server: that may take as long as a write.
/// Before Linux 4.11 it is asked.
fn known(file: &File) -> io::Result<(u64, u64)> {
    let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
    match statx(file, "", flags, StatxFlags::NLINK) {
        Ok(facts) => {
            Ok((makedev(facts.stx_dev_major, facts.stx_dev_minor), facts.stx_nlink.into()))
        }
        Err(_) => file.metadata().map(|facts| (facts.dev(), facts.nlink())),
    }
}

/// Whether a file still has a name: what is written to one without is gone when it is closed.
///
/// # Errors
/// It has none.
pub(crate) fn still_there(file: &File) -> io::Result<()> {
    match known(file)? {
        (_, 0) => Err(io::Error::new(io::ErrorKind::NotFound, "the segment was removed")),
        _ => Ok(()),
    }
}

/// Whether a directory is on the file system it should be on: where a disk was taken away, there is another
/// one below its mount point, and what is written to it nobody finds when the disk is back.
///
/// # Errors
/// It is not.
pub(crate) fn is_on(dir: &File, device: u64) -> io::Result<()> {
    match known(dir)? {
        (on, _) if on == device => Ok(()),
        _ => Err(io::Error::other("the file system it was on is not there any more")),
    }
}
