//! A disk that can be filled, frozen, broken and cut off: ext4 in a file, by a loop device. Root only.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use tempfile::TempDir;

use crate::journal::rig::temp_dir;
use crate::rigs::support::until;
use crate::sockets::network::run;

/// Shuts a file system down as a power cut does: nothing that is not on the disk gets there any more
/// (EXT4_IOC_SHUTDOWN, EXT4_GOING_FLAGS_NOLOGFLUSH).
const GOING_DOWN: &str = "import fcntl, os, struct, sys
fcntl.ioctl(os.open(sys.argv[1], os.O_RDONLY), 0x8004587d, struct.pack('I', 2))";

/// A mounted file system. It is gone when dropped, in whatever state it is.
#[derive(Debug)]
pub(crate) struct LoopDisk {
    place: TempDir,
}

impl LoopDisk {
    /// Makes it, or returns `None`, with a printed reason, where it cannot be had.
    pub(crate) fn make(mebibytes: u64) -> Option<Self> {
        Self::make_in(temp_dir(), mebibytes)
    }

    /// Makes a disk whose image is on this one: it stalls when this one is frozen.
    pub(crate) fn make_upon(&self, mebibytes: u64) -> Option<Self> {
        Self::make_in(tempfile::tempdir_in(self.path()).unwrap(), mebibytes)
    }

    /// Makes a disk with Btrfs, which refuses to read bytes that are not as they were written.
    pub(crate) fn make_checked(mebibytes: u64) -> Option<Self> {
        Self::make_with(temp_dir(), mebibytes, "mkfs.btrfs", "-q -f --data single")
    }

    fn make_in(place: TempDir, mebibytes: u64) -> Option<Self> {
        // lazy_itable_init: nothing writes to it by itself.
        let options = "-q -F -E lazy_itable_init=0,lazy_journal_init=0";
        Self::make_with(place, mebibytes, "mkfs.ext4", options)
    }

    fn make_with(place: TempDir, mebibytes: u64, mkfs: &str, options: &str) -> Option<Self> {
        let image = place.path().join("image");
        File::create(&image).unwrap().set_len(mebibytes << 20).unwrap();
        fs::create_dir(place.path().join("mount")).unwrap();
        let disk = Self { place };
        let made = run(mkfs, &format!("{options} {}", image.display()));
        match made.and_then(|()| disk.mount()) {
            Ok(()) => Some(disk),
            Err(reason) => {
                println!("skipped: no loop device can be mounted here (not root?): {reason}");
                None
            }
        }
    }

    /// Returns where it is mounted.
    pub(crate) fn path(&self) -> PathBuf {
        self.place.path().join("mount")
    }

    /// Changes all bytes on the disk that equal `found`, also those that no file uses. It must not be
    /// mounted.
    pub(crate) fn damage(&self, found: &[u8]) {
        let image = self.place.path().join("image");
        let mut bytes = fs::read(&image).unwrap();
        let here = |(at, window): (usize, &[u8])| (window == found).then_some(at);
        let places: Vec<_> = bytes.windows(found.len()).enumerate().filter_map(here).collect();
        assert!(!places.is_empty());
        places.into_iter().for_each(|at| bytes[at] ^= 1);
        fs::write(&image, bytes).unwrap();
    }

    pub(crate) fn mount(&self) -> Result<(), String> {
        let image = self.place.path().join("image");
        run("mount", &format!("-o loop {} {}", image.display(), self.path().display()))
    }

    pub(crate) fn umount(&self) {
        // A ring that was just closed lets go of its files a moment later.
        until("it to be unmounted", || run("umount", &self.path().display().to_string()).is_ok());
    }

    /// Cuts the power.
    pub(crate) fn cut_power(&self) {
        let output = std::process::Command::new("python3")
            .args(["-c", GOING_DOWN])
            .arg(self.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }

    /// Stops writes to the disk: they wait until the returned value is dropped.
    pub(crate) fn freeze(&self) -> Frozen {
        run("fsfreeze", &format!("-f {}", self.path().display())).unwrap();
        Frozen(self.path())
    }

    /// Makes the disk read-only, as the kernel does to a broken disk.
    pub(crate) fn make_read_only(&self) {
        run("mount", &format!("-o remount,abort {}", self.path().display())).unwrap();
    }

    /// Leaves so many bytes free; the answer is the file that takes the rest.
    pub(crate) fn fill(&self, left_bytes: u64) -> PathBuf {
        let facts = nix::sys::statvfs::statvfs(&self.path()).unwrap();
        let free = facts.blocks_available() * facts.fragment_size();
        let filler = self.path().join("filler");
        let bytes = free - left_bytes;
        run("fallocate", &format!("-l {bytes} {}", filler.display())).unwrap();
        filler
    }
}

impl Drop for LoopDisk {
    fn drop(&mut self) {
        let path = self.path();
        // A test that failed may have left a process on it: it goes when that does.
        if is_mount(&path) && run("umount", &path.display().to_string()).is_err() {
            let _ = run("umount", &format!("-l {}", path.display()));
        }
    }
}

fn is_mount(path: &Path) -> bool {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    mounts.lines().any(|line| line.split(' ').nth(1) == path.to_str())
}

/// A disk that stalls. It goes on when dropped.
#[derive(Debug)]
pub(crate) struct Frozen(PathBuf);

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = run("fsfreeze", &format!("-u {}", self.0.display()));
    }
}
