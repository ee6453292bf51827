//! The segments of a journal as files. One that was compressed has `.zst` behind its name.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::journal::format::HEADER_BYTES;
use crate::journal::names::{is_packed, packed_path, parse};

/// A segment by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Where it is.
    pub path: PathBuf,
    /// Whose it is.
    pub worker: u16,
    /// Its number among that worker's.
    pub sequence: u64,
    /// Its size, bytes.
    pub bytes: u64,
}

impl SegmentFile {
    /// Whether it was begun, and its header is not there yet: there is nothing to read.
    #[must_use]
    pub fn is_unborn(&self) -> bool {
        !is_packed(&self.path) && self.bytes < HEADER_BYTES as u64
    }
}

/// The segments of a journal, each worker's in their order. One that is there plain and compressed, as
/// while it is being compressed, counts once, plain. Other files are left alone.
///
/// # Errors
/// The directory cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((worker, sequence)) = name.to_str().and_then(parse) else { continue };
        if let Some((path, bytes)) = measured(entry.path())? {
            found.push(SegmentFile { path, worker, sequence, bytes });
        }
    }
    found.sort_by_key(|one| (one.worker, one.sequence, is_packed(&one.path)));
    found.dedup_by_key(|one| (one.worker, one.sequence));
    Ok(found)
}

/// The size of what a directory lists, by its name now: it may have been compressed since. `None`: it is no file, or
/// retention took it meanwhile.
fn measured(path: PathBuf) -> io::Result<Option<(PathBuf, u64)>> {
    match fs::symlink_metadata(&path) {
        Ok(facts) => Ok(facts.is_file().then_some((path, facts.len()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => match packed_path(&path) {
            Some(packed) => measured(packed),
            None => Ok(None),
        },
        Err(error) => Err(error),
    }
}

/// Behind the name of a segment of which nothing can be read.
const BAD: &str = ".bad";

/// Gives a segment of which nothing can be read another name, which it returns: what is under that name is left
/// alone by everybody, and replaces no other.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    loop {
        name.push(BAD);
        let target = PathBuf::from(&name);
        match renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            // A file system that cannot do that: two at once are not renamed here.
            Err(Errno::INVAL | Errno::NOSYS) if target.try_exists()? => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::rename(path, &target)?;
                return Ok(target);
            }
            renamed => return renamed.map(|()| target).map_err(io::Error::from),
        }
    }
}

/// Segments that were set aside.
///
/// # Errors
/// The directory cannot be read.
pub fn aside(dir: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(whole) = name.to_str().filter(|name| name.ends_with(BAD)) else { continue };
        let Some((worker, sequence)) = parse(whole.trim_end_matches(BAD)) else { continue };
        let bytes = entry.metadata().map_or(0, |facts| facts.len());
        found.push(SegmentFile { path: entry.path(), worker, sequence, bytes });
    }
    found.sort_by_key(|one| (one.worker, one.sequence));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::journal::names::path_of;

    #[test]
    fn one_that_is_compressed_while_it_is_looked_for_is_found() {
        let dir = tempfile::tempdir().unwrap();
        let plain = path_of(dir.path(), 0, 1);
        let packed = packed_path(&plain).unwrap();
        fs::write(&packed, b"12345").unwrap();
        let found = measured(plain.clone()).unwrap();
        fs::remove_file(&packed).unwrap();
        let gone = measured(plain).unwrap();
        assert_eq!((found, gone), (Some((packed, 5)), None));
    }
}
