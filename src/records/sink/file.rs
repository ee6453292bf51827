//! A file: one line a record, appended, by a thread that all workers share.
//!
//! Delivered means that write(2) took all lines of the datagram, as when stdout goes to a file: the kernel
//! writes them to disk later. When the file cannot be written (the disk is full, the directory was removed),
//! datagrams are undelivered, and each further chunk tries again. The file can be renamed at any time, and is
//! created anew by `FileSink::reopen`, as logrotate has it.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

use crate::settle::notices::Notices;
use crate::settle::run::Run;
use crate::sink::lines::Format;
use crate::sink::writer_thread::{QueuedPrinter, WriteLines, WriterThread};

/// Why a file cannot be a sink.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum FileError {
    /// The file cannot be opened.
    #[error("cannot write {path}: {source}{}", next_move(source))]
    Open {
        /// The file.
        path: PathBuf,
        /// The error of open(2).
        source: io::Error,
    },
    /// The thread cannot be started.
    #[error(transparent)]
    Thread(#[from] ringest_engine::error::Error),
}

fn next_move(error: &io::Error) -> &'static str {
    match error.raw_os_error() {
        Some(libc::ENXIO) => "; nobody reads this pipe: start its reader first",
        Some(libc::ENOENT) => "; create its directory first",
        _ => "",
    }
}

/// A file that all workers append to. See the module's description.
#[derive(Debug)]
pub struct FileSink {
    thread: WriterThread,
}

impl FileSink {
    /// Opens the file, or creates it with mode 0640, and starts the thread that writes it. Trouble goes to
    /// `notices`.
    ///
    /// # Errors
    /// The file cannot be opened, or the thread cannot be started.
    pub fn open(path: &Path, format: Format, notices: &Arc<Notices>) -> Result<Self, FileError> {
        let file =
            open(path).map_err(|source| FileError::Open { path: path.to_owned(), source })?;
        let name = path.display().to_string();
        let writer = LineFile { path: path.to_owned(), name: name.clone(), file, is_torn: false };
        let thread = WriterThread::start("ringest-file", writer, format, &name, notices)?;
        Ok(Self { thread })
    }

    /// Makes one worker's end.
    #[must_use]
    pub fn printer(&self) -> QueuedPrinter {
        self.thread.printer()
    }

    /// Opens the file anew by its name, after the lines that were handed over before. Does not wait for it.
    /// If that fails the old file is written further, and a notice says so.
    pub fn reopen(&self) {
        self.thread.reopen();
    }
}

/// Opens a file to append to, with mode 0640: payloads are not for everyone to read. Does not wait for the
/// reader of a pipe.
fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let mut options = OpenOptions::new();
    let file = options.append(true).create(true).mode(0o640).custom_flags(flags).open(path)?;
    fcntl_setfl(&file, fcntl_getfl(&file)? - OFlags::NONBLOCK)?;
    Ok(file)
}

/// The file, on the thread that writes it.
#[derive(Debug)]
struct LineFile {
    path: PathBuf,
    /// The path, as notices name it.
    name: String,
    file: File,
    /// The file ends with a part of a line that could not be cut off.
    is_torn: bool,
}

impl WriteLines for LineFile {
    fn write(&mut self, lines: &[u8], ends: &[usize], notices: &Notices) -> [Run; 2] {
        let (written, error) = match self.exist() {
            Ok(()) => self.append(lines),
            Err(error) => (0, Some(error)),
        };
        let whole = ends.partition_point(|end| *end <= written);
        let lost = (ends.len() - whole) as u64;
        match error {
            Some(error) => {
                let torn = written - whole.checked_sub(1).map_or(0, |last| ends[last]);
                self.cut(torn as u64);
                notices.failed(&self.name, &error, lost);
            }
            None => notices.resumed(&self.name),
        }
        [Run { datagrams: whole as u64, lost: false }, Run { datagrams: lost, lost: true }]
    }

    fn reopen(&mut self, notices: &Notices) {
        match open(&self.path) {
            Ok(file) => {
                self.file = file;
                self.is_torn = false;
            }
            Err(error) => notices.repeated(&format!("reopen {}", self.name), || {
                format!(
                    "cannot open {} again: {error}; the file that was open is written further",
                    self.name
                )
            }),
        }
    }
}

impl LineFile {
    /// Makes sure that the file has a name: lines in a file that was removed are lost. A file that was renamed
    /// has one.
    fn exist(&mut self) -> io::Result<()> {
        if self.file.metadata()?.nlink() == 0 {
            self.file = open(&self.path)?;
            self.is_torn = false;
        }
        Ok(())
    }

    /// Appends lines. Returns the bytes that were written, and the error that stopped it.
    fn append(&mut self, lines: &[u8]) -> (usize, Option<io::Error>) {
        if self.is_torn {
            match self.file.write_all(b"\n") {
                Ok(()) => self.is_torn = false,
                Err(error) => return (0, Some(error)),
            }
        }
        let mut written = 0;
        while written < lines.len() {
            match self.file.write(&lines[written..]) {
                Ok(0) => return (written, Some(io::ErrorKind::WriteZero.into())),
                Ok(bytes) => written += bytes,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return (written, Some(error)),
            }
        }
        (written, None)
    }

    /// Cuts the last `bytes` off: lines of a datagram that counts as undelivered.
    fn cut(&mut self, bytes: u64) {
        if bytes == 0 {
            return;
        }
        let cut = self
            .file
            .metadata()
            .and_then(|file| self.file.set_len(file.len().saturating_sub(bytes)));
        // A pipe or a device cannot be cut. The next line begins on a line of its own then.
        self.is_torn = cut.is_err();
    }
}
