//! Creates, writes, syncs and closes files through io_uring. Operations that would block run on the
//! kernel's own threads.
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
use ringest_base::sys::uring;

use crate::journal::disk::interface::{Disk, Done, SLOTS, Write, is_on, still_there};

/// Submission entries are submitted one by one, so the queue is full only while the kernel accepts none.
const ENTRIES: u32 = 256;
/// Completion entries: more than can be under way when a disk stalls (one or two writes for each of at most
/// 1024 buffers, and a sync and a creation step for each slot). A completion that does not fit is not lost,
/// but seen late.
const COMPLETIONS: u32 = 4096;
/// Bit in `user_data` that marks a sync. Writes use their plain number.
const SYNC: u64 = 1 << 63;
/// Bit in `user_data` that marks a step of a creation.
const STEP: u64 = 1 << 62;
/// Bit in `user_data` that marks a close, which only the drop waits for.
const CLOSE: u64 = 1 << 61;

/// A slot's file that is being created.
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

    /// Returns the submission entry of the next step.
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

/// A disk on io_uring. Field order matters: the ring is dropped before the buffers, and [`Drop`] waits
/// until no operation reads from them.
pub(crate) struct Uring {
    ring: IoUring,
    buffers: Vec<Box<[u8]>>,
    /// Whether the buffers are registered, so that the kernel need not map them for each write.
    registered: bool,
    /// Device number of the file system that segments must be on.
    device: u64,
    files: [Option<File>; SLOTS],
    creations: [Option<Creation>; SLOTS],
    /// Writes under way, kept to continue a short write.
    writes: Vec<Write>,
    /// Writes that wait until their slot's file is created.
    held: Vec<Write>,
    syncs: usize,
    /// Number of files being closed. Only the drop waits for them: dropping the ring would cancel the
    /// close, and a file that stays open keeps its file system from being unmounted.
    closes: usize,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl Uring {
    /// Sets up a ring over `buffers`. Returns the buffers as the error where io_uring is not available.
    pub(crate) fn new(buffers: Vec<Box<[u8]>>, device: u64) -> Result<Self, Vec<Box<[u8]>>> {
        let ring = uring::build(ENTRIES, |builder| {
            builder.setup_cqsize(COMPLETIONS);
        });
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

    /// Submits the queued entries. On a temporary error they stay in the queue and are submitted later, so
    /// that is not a failure.
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

    /// Closes a file that has no operation under way. The last close(2) of a written file may wait for its
    /// disk, so it is forced onto a kernel thread.
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

    /// Continues a slot's creation after a step that ended with `result`. Returns the outcome when it is
    /// complete, `None` while it goes on.
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

    /// Ends a slot's creation: writes held for it are started, or fail if it failed.
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

    /// Handles the end of a write with `result`. Returns its completion, or `None` if the rest of a short
    /// write goes on.
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
        // Stored first: the kernel reads the paths until the step has ended.
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

/// Returns whether an error of io_uring_enter(2) is temporary. The entries then stay in the queue.
fn passes(error: &io::Error) -> bool {
    [libc::EINTR, libc::EAGAIN, libc::EBUSY]
        .iter()
        .any(|errno| error.raw_os_error() == Some(*errno))
}

/// Returns whether the kernel supports every operation, and the sandbox allows it. A sandbox can refuse
/// each of the three io_uring system calls by itself.
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
    /// Waits for the operations under way, which read from the buffers.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.under_way() + self.closes > 0 && self.reap(true, &mut done).is_ok() {}
    }
}
