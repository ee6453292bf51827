//! Writes and syncs by io_uring: begun here, ended by the kernel's own threads where they would wait.
#![expect(unsafe_code, reason = "submission entries carry raw pointers")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::path::Path;

use io_uring::types::{Fd, FsyncFlags};
use io_uring::{IoUring, opcode, squeue};

use super::disk::{Disk, Done, SLOTS, Write, create_durably, still_there};

/// More than the writer has under way at once: a write for each buffer, twice, and a sync a slot.
const ENTRIES: u32 = 256;
/// Marks a sync among the numbers of writes.
const SYNC: u64 = 1 << 63;

/// See the module's description. The ring goes first: nothing is under way when the buffers go,
/// because the drop awaits it.
pub(super) struct Uring {
    ring: IoUring,
    buffers: Vec<Box<[u8]>>,
    /// The buffers are registered: the kernel need not map them for each write.
    registered: bool,
    files: [Option<File>; SLOTS],
    /// Writes under way, to write again what a short one left.
    writes: Vec<Write>,
    syncs: usize,
}

impl std::fmt::Debug for Uring {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Uring").field("writes", &self.writes).finish_non_exhaustive()
    }
}

impl Uring {
    /// Sets up a ring over `buffers`; gives them back where there is no io_uring.
    pub(super) fn new(buffers: Vec<Box<[u8]>>) -> Result<Self, Vec<Box<[u8]>>> {
        let Ok(ring) = IoUring::builder().dontfork().build(ENTRIES) else { return Err(buffers) };
        let iovecs: Vec<_> = buffers
            .iter()
            .map(|buffer| libc::iovec {
                iov_base: buffer.as_ptr().cast_mut().cast(),
                iov_len: buffer.len(),
            })
            .collect();
        // SAFETY: the buffers are boxed, never grow, and outlive the ring, which is dropped first.
        let registered = unsafe { ring.submitter().register_buffers(&iovecs) }.is_ok();
        let writes = Vec::with_capacity(64);
        Ok(Self { ring, buffers, registered, files: [None, None], writes, syncs: 0 })
    }

    fn push(&mut self, entry: &squeue::Entry) -> io::Result<()> {
        // SAFETY: the entry points into a buffer that stays in place, and is not written to where the
        // entry covers it, until the write has ended.
        if unsafe { self.ring.submission().push(entry) }.is_err() {
            self.ring.submit()?;
            // SAFETY: as above.
            unsafe { self.ring.submission().push(entry) }.map_err(io::Error::other)?;
        }
        self.ring.submit().map(drop)
    }

    fn fd(&self, slot: usize) -> io::Result<Fd> {
        let file = self.files[slot].as_ref();
        file.map(|file| Fd(file.as_raw_fd())).ok_or_else(|| io::Error::other("no segment is open"))
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
        self.files[slot] = Some(create_durably(path)?);
        Ok(())
    }

    fn write(&mut self, write: Write) -> io::Result<()> {
        self.start(write)?;
        self.writes.push(write);
        Ok(())
    }

    fn sync(&mut self, slot: usize) -> io::Result<()> {
        let fsync = opcode::Fsync::new(self.fd(slot)?).flags(FsyncFlags::DATASYNC).build();
        self.push(&fsync.user_data(SYNC | slot as u64))?;
        self.syncs += 1;
        Ok(())
    }

    fn reap(&mut self, wait: bool, done: &mut Vec<Done>) -> io::Result<()> {
        let under_way = self.syncs + self.writes.len();
        if wait && under_way > 0 && self.ring.completion().is_empty() {
            match self.ring.submit_and_wait(1) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                waited => drop(waited?),
            }
        }
        while let Some(cqe) = { self.ring.completion().next() } {
            let (number, result) = (cqe.user_data(), cqe.result());
            if number & SYNC == 0 {
                done.extend(self.ended(number, result));
                continue;
            }
            self.syncs -= 1;
            let slot = usize::try_from(number & !SYNC).unwrap_or(0);
            let synced = match (result, &self.files[slot]) {
                (..0, _) => Err(io::Error::from_raw_os_error(-result)),
                (_, Some(file)) => still_there(file),
                (_, None) => Ok(()),
            };
            done.push(Done::Sync(slot, synced));
        }
        Ok(())
    }

    fn truncate(&mut self, slot: usize, bytes: u64) -> io::Result<()> {
        let file = self.files[slot].as_ref();
        file.map_or(Ok(()), |file| file.set_len(bytes))
    }
}

impl Drop for Uring {
    /// What is under way reads from the buffers: it is awaited before they go.
    fn drop(&mut self) {
        let mut done = Vec::new();
        while self.syncs + self.writes.len() > 0 && self.reap(true, &mut done).is_ok() {}
    }
}
