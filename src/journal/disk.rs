//! What the writer asks of a disk: writes and syncs that go on by themselves. io_uring does it, plain
//! calls where there is no io_uring, and in the tests a model that forgets what was not synced.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::path::Path;

/// A segment being written is one of two: the one records go to, and the one before it, whose last
/// commit may still be on its way.
pub(super) const SLOTS: usize = 2;

/// Something that was begun and has ended.
#[derive(Debug)]
pub(super) enum Done {
    /// The write begun as number so-and-so.
    Write(u64, io::Result<()>),
    /// The sync of a slot.
    Sync(usize, io::Result<()>),
}

/// A write: bytes `from..to` of a buffer, to `offset` of a slot's file.
#[derive(Clone, Copy, Debug)]
pub(super) struct Write {
    pub(super) number: u64,
    pub(super) slot: usize,
    pub(super) buffer: usize,
    pub(super) from: usize,
    pub(super) to: usize,
    pub(super) offset: u64,
}

/// See the module's description.
pub(super) trait Disk {
    /// A buffer to fill. What a write that has not ended covers must not be touched.
    fn buffer(&mut self, index: usize) -> &mut [u8];

    /// Makes `path` the file of a slot.
    fn create(&mut self, slot: usize, path: &Path) -> io::Result<()>;

    /// Begins a write; it ends as [`Done::Write`], whole or failed.
    fn write(&mut self, write: Write) -> io::Result<()>;

    /// Begins fdatasync(2); it covers the writes that have ended.
    fn sync(&mut self, slot: usize) -> io::Result<()>;

    /// Tells what has ended; waits for something to, if asked to and something is under way.
    fn reap(&mut self, wait: bool, done: &mut Vec<Done>) -> io::Result<()>;

    /// Cuts a slot's file where its last committed record ends.
    fn truncate(&mut self, slot: usize, bytes: u64) -> io::Result<()>;
}

/// Creates a segment that must not exist, and makes its name durable.
pub(super) fn create_durably(path: &Path) -> io::Result<File> {
    let file = OpenOptions::new().write(true).create_new(true).mode(0o640).open(path)?;
    if let Some(dir) = path.parent() {
        File::open(dir)?.sync_all()?;
    }
    Ok(file)
}

/// Whether a file still has a name: what is written to one without is gone when it is closed.
///
/// # Errors
/// It has none.
pub(super) fn still_there(file: &File) -> io::Result<()> {
    match file.metadata()?.nlink() {
        0 => Err(io::Error::new(io::ErrorKind::NotFound, "the segment was removed")),
        _ => Ok(()),
    }
}

/// write(2) and fdatasync(2), one after the other: where io_uring cannot be had.
#[derive(Debug)]
pub(super) struct Plain {
    buffers: Vec<Box<[u8]>>,
    files: [Option<File>; SLOTS],
    done: Vec<Done>,
}

impl Plain {
    pub(super) fn new(buffers: Vec<Box<[u8]>>) -> Self {
        Self { buffers, files: [None, None], done: Vec::new() }
    }

    fn file(&self, slot: usize) -> io::Result<&File> {
        self.files[slot].as_ref().ok_or_else(|| io::Error::other("no segment is open"))
    }
}

impl Disk for Plain {
    fn buffer(&mut self, index: usize) -> &mut [u8] {
        &mut self.buffers[index]
    }

    fn create(&mut self, slot: usize, path: &Path) -> io::Result<()> {
        self.files[slot] = Some(create_durably(path)?);
        Ok(())
    }

    fn write(&mut self, write: Write) -> io::Result<()> {
        let bytes = &self.buffers[write.buffer][write.from..write.to];
        let written = self.file(write.slot)?.write_all_at(bytes, write.offset);
        self.done.push(Done::Write(write.number, written));
        Ok(())
    }

    fn sync(&mut self, slot: usize) -> io::Result<()> {
        let file = self.file(slot)?;
        let synced = file.sync_data().and_then(|()| still_there(file));
        self.done.push(Done::Sync(slot, synced));
        Ok(())
    }

    fn reap(&mut self, _: bool, done: &mut Vec<Done>) -> io::Result<()> {
        done.append(&mut self.done);
        Ok(())
    }

    fn truncate(&mut self, slot: usize, bytes: u64) -> io::Result<()> {
        self.file(slot)?.set_len(bytes)
    }
}
