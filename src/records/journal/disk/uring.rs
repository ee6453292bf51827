//! Files, writes and syncs by io_uring: begun here, ended by the kernel's own threads where they would
//! wait.
//!
//! ```text
//!  create:  open the segment ─► open its directory ─► sync the directory ─► the writes held meanwhile
//! ```
#![expect(unsafe_code, reason = "submission entries carry raw pointers")]

use std::ffi::CString;
use std::fs::File;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, Probe, opcode, squeue};

use crate::journal::disk::interface::{Disk, Done, SLOTS, Write, is_on, still_there};

/// Entries are submitted one by one; it is full only while the kernel takes none.
const ENTRIES: u32 = 256;
/// More than can be under way when a disk stalls: a write or two for each buffer (1024 at most), and a
/// sync and a step of a creation for each slot. What does not fit is not lost, but seen too late.
const COMPLETIONS: u32 = 4096;
/// Marks a sync among the numbers of writes.
const SYNC: u64 = 1 << 63;
/// Marks a step of a creation.
const STEP: u64 = 1 << 62;
/// Marks what nobody waits for: closing a file.
const CLOSE: u64 = 1 << 61;

/// A slot's file that is being made.
#[derive(Debug)]
struct Creation {
    path: CString,
    dir: CString,
    file: Option<File>,
    dir_file: Option<File>,
}

impl Creation {
    fn of(path: &Path) -> io::Result<Self> {
        let text = |path: &Path| CString::new(path.as_os_str().as_bytes());
        let dir = path.parent().filter(|dir| !dir.as_os_str().is_empty());
        Ok(Self {
            path: text(path)?,
            dir: text(dir.unwrap_or_else(|| Path::new(".")))?,
            file: None,
            dir_file: None,
        })
    }

    /// What is to be done next.
    fn entry(&self) -> squeue::Entry {
        let here = Fd(libc::AT_FDCWD);
        match (&self.file, &self.dir_file) {
            (None, _) => opcode::OpenAt::new(here, self.path.as_ptr())
                .flags(libc::O_WRONLY | libc::O_CREAT | libc::O_EXCL | libc::O_CLOEXEC)
                .mode(0o640)
                .build(),
            (Some(_), None) => opcode::OpenAt::new(here, self.dir.as_ptr())
                .flags(libc::O_RDONLY | libc::O_DIRECTORY | libc::O_CLOEXEC)
                .build(),
            (Some(_), Some(dir)) => opcode::Fsync::new(Fd(dir.as_raw_fd())).build(),
        }
    }
}

/// See the module's description. The ring goes first: nothing is under way when the buffers go,
/// because the drop awaits it.
pub(crate) struct Uring {
    ring: IoUring,
    buffers: Vec<Box<[u8]>>,
    /// The buffers are registered: the kernel need not map them for each write.
    registered: bool,
    /// The file system segments are to be on.
    device: u64,
    files: [Option<File>; SLOTS],
    creations: [Option<Creation>; SLOTS],
    /// Writes under way, to write again what a short one left.
    writes: Vec<Write>,
    /// Writes that wait until their slot has its file.
    held: Vec<Write>,
    syncs: usize,
    /// Files being closed. Nobody waits for them but the drop: a ring that goes cancels them, and a file that is
    /// never closed keeps its disk from being unmounted.
    closes: usize,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl Uring {
    /// Sets up a ring over `buffers`; gives them back where there is no io_uring.
    pub(crate) fn new(buffers: Vec<Box<[u8]>>, device: u64) -> Result<Self, Vec<Box<[u8]>>> {
        let ring = IoUring::builder().dontfork().setup_cqsize(COMPLETIONS).build(ENTRIES);
        let Ok(mut ring) = ring else { return Err(buffers) };
        if !works(&mut ring) {
            return Err(buffers);
        }
        let iovecs: Vec<_> = buffers
            .iter()
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_ptr().cast_mut().cast(),
                iov_len: buffer.len(),
            })
            .collect();
        // SAFETY: the buffers are boxed, never grow, and outlive the ring, which is dropped first.
        let registered = unsafe { ring.submitter().register_buffers(&iovecs) }.is_ok();
        Ok(Self {
            ring,
            buffers,
            registered,
            device,
            files: [None, None],
            creations: [None, None],
            writes: Vec::with_capacity(64),
            held: Vec::new(),
            syncs: 0,
            closes: 0,
        })
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the entry points into a buffer that stays in place, and is not written to where the
        // entry covers it, until the write has ended.
        if unsafe { self.ring.submission().push(entry) }.is_err() {
            self.submit()?;
            // SAFETY: as above.
            unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)?;
        }
        self.submit()
    }

    /// Hands the kernel what was pushed. What it cannot take now stays in the queue: it would write it
    /// later, too, if that were called a failure.
    fn submit(&mut self) -> io::Result<()> {
        match self.ring.submit() {
            Err(error) if passes(&error) => Ok(()),
            submitted => submitted.map(drop),
        }
    }

    fn under_way(&self) -> usize {
        self.syncs + self.writes.len() + self.creations.iter().flatten().count()
    }

    fn fd(&self, slot: usize) -> io::Result<Fd> {
        let file = self.files[slot].as_ref();
        file.map(|file| Fd(file.as_raw_fd())).ok_or_else(|| io::Error::other("no segment is open"))
    }

    /// Closes a file that nothing is under way of: the last close(2) of one that was written to may wait
    /// for its disk. By a thread of the kernel's in any case, or it would end on this one.
    fn close(&mut self, file: File) {
        let fd = file.into_raw_fd();
        let entry = opcode::Close::new(Fd(fd)).build().flags(squeue::Flags::ASYNC);
        if self.push(&entry.user_data(CLOSE)).is_ok() {
            self.closes += 1;
        } else {
            // SAFETY: it was this file's just now, and the kernel has not been told to close it.
            drop(unsafe { File::from_raw_fd(fd) });
        }
    }

    /// Goes on with a slot's creation, whose last step ended with `result`; `None`: it is not done yet.
    fn stepped(&mut self, slot: usize, result: i32) -> Option<io::Result<()>> {
        let creation = self.creations[slot].as_mut()?;
        if result < 0 {
            return Some(Err(io::Error::from_raw_os_error(-result)));
        }
        if creation.dir_file.is_some() {
            step!("directory-synced");
            self.files[slot] = creation.file.take();
            return Some(Ok(()));
        }
        // SAFETY: the kernel has just opened it for this creation, and nobody else knows of it.
        let opened = Some(unsafe { File::from_raw_fd(result) });
        if creation.file.is_some() {
            creation.dir_file = opened;
            let dir = creation.dir_file.as_ref();
            if let Some(Err(error)) = dir.map(|dir| is_on(dir, self.device)) {
                return Some(Err(error));
            }
        } else {
            creation.file = opened;
            step!("segment-made");
        }
        let entry = creation.entry();
        self.push(&entry.user_data(STEP | slot as u64)).err().map(Err)
    }

    /// A slot's creation has ended: what was held for it begins, or fails with it.
    fn created(&mut self, slot: usize, result: io::Result<()>, done: &mut Vec<Done>) {
        self.creations[slot] = None;
        done.push(Done::Created(slot, result));
        for write in std::mem::take(&mut self.held) {
            if write.slot != slot {
                self.held.push(write);
            } else if let Err(error) = self.start(write) {
                self.writes.retain(|other| other.number != write.number);
                done.push(Done::Write(write.number, Err(error)));
            }
        }
    }

    fn start(&mut self, write: Write) -> io::Result<()> {
        let fd = self.fd(write.slot)?;
        let bytes = &self.buffers[write.buffer][write.from..write.to];
        let len = u32::try_from(bytes.len()).map_err(io::Error::other)?;
        let entry = if self.registered {
            let index = u16::try_from(write.buffer).map_err(io::Error::other)?;
            opcode::WriteFixed::new(fd, bytes.as_ptr(), len, index).offset(write.offset).build()
        } else {
            opcode::Write::new(fd, bytes.as_ptr(), len).offset(write.offset).build()
        };
        self.push(&entry.user_data(write.number))
    }

    /// What became of a write that ended with `result`; `None`: it goes on with the rest.
    fn ended(&mut self, number: u64, result: i32) -> Option<Done> {
        let place = self.writes.iter().position(|write| write.number == number)?;
        let mut write = self.writes.swap_remove(place);
        let ended = match usize::try_from(result) {
            Err(_) if [-libc::EINTR, -libc::EAGAIN].contains(&result) => self.start(write),
            Err(_) => Err(io::Error::from_raw_os_error(-result)),
            Ok(bytes) if write.from + bytes >= write.to => {
                return Some(Done::Write(number, Ok(())));
            }
            Ok(0) => Err(io::ErrorKind::WriteZero.into()),
            Ok(bytes) => {
                write.from += bytes;
                write.offset += bytes as u64;
                self.start(write)
            }
        };
        match ended {
            Ok(()) => {
                self.writes.push(write);
                None
            }
            Err(error) => Some(Done::Write(number, Err(error))),
        }
    }
}

impl Disk for Uring {
    fn buffer(&mut self, index: usize) -> &mut [u8] {
        &mut self.buffers[index]
    }

    fn create(&mut self, slot: usize, path: &Path) -> io::Result<()> {
        let creation = Creation::of(path)?;
        let entry = creation.entry();
        // Its paths stay where they are for as long as the kernel may read them.
        self.creations[slot] = Some(creation);
        let begun = self.push(&entry.user_data(STEP | slot as u64));
        if begun.is_err() {
            self.creations[slot] = None;
        }
        begun
    }

    fn write(&mut self, write: Write) -> io::Result<()> {
        if self.creations[write.slot].is_some() {
            self.held.push(write);
        } else {
            self.start(write)?;
        }
        self.writes.push(write);
        Ok(())
    }

    fn sync(&mut self, slot: usize) -> io::Result<()> {
        let fsync = opcode::Fsync::new(self.fd(slot)?).flags(FsyncFlags::DATASYNC).build();
        self.push(&fsync.user_data(SYNC | slot as u64))?;
        self.syncs += 1;
        Ok(())
    }

    fn release(&mut self, slot: usize) {
        if let Some(file) = self.files[slot].take() {
            self.close(file);
        }
    }

    fn reap(&mut self, wait: bool, done: &mut Vec<Done>) -> io::Result<()> {
        if wait && self.under_way() + self.closes > 0 && self.ring.completion().is_empty() {
            match self.ring.submit_and_wait(1) {
                Err(error) if passes(&error) => {}
                waited => drop(waited?),
            }
        } else if !self.ring.submission().is_empty() {
            self.submit()?;
        }
        while let Some(cqe) = { self.ring.completion().next() } {
            let (number, result) = (cqe.user_data(), cqe.result());
            if number == CLOSE {
                self.closes -= 1;
                continue;
            }
            if number & (SYNC | STEP) == 0 {
                done.extend(self.ended(number, result));
                continue;
            }
            let slot = usize::try_from(number & !(SYNC | STEP)).unwrap_or(0);
            if number & STEP != 0 {
                if let Some(result) = self.stepped(slot, result) {
                    self.created(slot, result, done);
                }
                continue;
            }
            self.syncs -= 1;
            let synced = match (result, &self.files[slot]) {
                (..0, _) => Err(io::Error::from_raw_os_error(-result)),
                (_, Some(file)) => still_there(file),
                (_, None) => Ok(()),
            };
            done.push(Done::Sync(slot, synced));
        }
        Ok(())
    }
}

/// Whether an error of io_uring_enter(2) passes: the entries stay in the queue.
fn passes(error: &io::Error) -> bool {
    [libc::EINTR, libc::EAGAIN, libc::EBUSY]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno))
}

/// Whether the kernel does all that is asked of it, and lets a sandbox do so: each of the three calls
/// can be refused by itself.
fn works(ring: &mut IoUring) -> bool {
    let mut probe = Probe::new();
    let needed =
        [opcode::OpenAt::CODE, opcode::Write::CODE, opcode::Fsync::CODE, opcode::Close::CODE];
    if ring.submitter().register_probe(&mut probe).is_err()
        || !needed.iter().all(|code| probe.is_supported(*code))
    {
        return false;
    }
    // SAFETY: it does nothing.
    let pushed = unsafe { ring.submission().push(&opcode::Nop::new().build()) };
    pushed.is_ok() && ring.submit_and_wait(1).is_ok() && ring.completion().next().is_some()
}

impl Drop for Uring {
    /// What is under way reads from the buffers: it is awaited before they go.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.under_way() + self.closes > 0 && self.reap(true, &mut done).is_ok() {}
    }
}
