//! The directory of a journal: creates it, locks it against other writers, and creates it again if it was
//! removed.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use nix::fcntl::{Flock, FlockArg};

use crate::journal::disk::interface::is_on;
use crate::journal::error::JournalError;

/// The directory of a journal, and the file system it is on. Readers beside the writer use it too.
#[derive(Clone, Debug)]
pub struct JournalDir {
    dir: PathBuf,
    /// Device number of the file system that the directory is on.
    device: u64,
}

impl JournalDir {
    /// Returns the location of a journal in the existing directory `dir`.
    ///
    /// # Errors
    /// stat(2) failed.
    pub fn at(dir: &Path) -> io::Result<Self> {
        Ok(Self { dir: dir.to_owned(), device: fs::metadata(dir)?.dev() })
    }

    /// Returns the path of the directory.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Checks that the directory exists on its file system. While its disk is absent, none of its files can
    /// be found; all are back when the disk is.
    ///
    /// # Errors
    /// The directory does not exist, or a different file system is mounted there.
    pub fn check(&self) -> io::Result<()> {
        is_on(&File::open(&self.dir)?, self.device)
    }
}

/// The locked directory of an open journal. The lock is held as long as this value lives.
#[derive(Debug)]
pub(crate) struct DirLock {
    home: JournalDir,
    lock: Mutex<Flock<File>>,
}

impl DirLock {
    /// Creates the directory if it does not exist, and locks it.
    pub(crate) fn take(dir: &Path) -> Result<Self, JournalError> {
        fs::create_dir_all(dir).map_err(failed(dir, "mkdir"))?;
        let device = fs::metadata(dir).map_err(failed(dir, "stat(2)"))?.dev();
        let home = JournalDir { dir: dir.to_owned(), device };
        Ok(Self { home, lock: Mutex::new(lock(dir)?) })
    }

    pub(crate) fn journal_dir(&self) -> &JournalDir {
        &self.home
    }

    /// Device number of the file system that the directory is on.
    pub(crate) fn device(&self) -> u64 {
        self.home.device
    }

    /// Creates the directory again if it was removed, and locks it again if the lock file was removed.
    /// Returns whether the directory was created. Refuses on another file system: a disk that was unmounted
    /// is not an empty one.
    pub(crate) fn restore(&self) -> Result<bool, JournalError> {
        let JournalDir { dir, device } = &self.home;
        let fail = |step| failed(dir, step);
        let mut held = self.lock.lock().unwrap_or_else(PoisonError::into_inner);
        let own = held.metadata().map_err(fail("lock"))?;
        let there = fs::metadata(dir.join("lock"));
        if there.is_ok_and(|there| (there.dev(), there.ino()) == (own.dev(), own.ino())) {
            return Ok(false);
        }
        let is_gone = !dir.try_exists().map_err(fail("stat(2)"))?;
        let parent = dir.parent().filter(|parent| !parent.as_os_str().is_empty());
        let parent = parent.unwrap_or_else(|| Path::new("."));
        let place = File::open(if is_gone { parent } else { dir }).map_err(fail("open(2)"))?;
        is_on(&place, *device).map_err(fail("stat(2)"))?;
        if is_gone {
            fs::create_dir(dir).map_err(fail("mkdir"))?;
        }
        *held = lock(dir)?;
        Ok(is_gone)
    }
}

fn lock(dir: &Path) -> Result<Flock<File>, JournalError> {
    let mut options = File::options();
    options.write(true).create(true).truncate(true).mode(0o640);
    let file = options.open(dir.join("lock")).map_err(failed(dir, "lock"))?;
    match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => Ok(lock),
        Err((_, nix::Error::EWOULDBLOCK)) => Err(JournalError::Taken { dir: dir.to_owned() }),
        Err((_, errno)) => Err(failed(dir, "flock(2)")(errno.into())),
    }
}

/// Returns a function that turns the error of `step` into a [`JournalError`].
fn failed(dir: &Path, step: &'static str) -> impl FnOnce(io::Error) -> JournalError + use<> {
    let dir = dir.to_owned();
    move |source| JournalError::Io { dir, step, source }
}
