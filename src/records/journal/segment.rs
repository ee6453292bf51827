//! The segment files of a journal directory. The name of a compressed segment ends in `.zst`.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rustix::fs::{CWD, RenameFlags, renameat_with};
use rustix::io::Errno;

use crate::journal::format::HEADER_BYTES;
use crate::journal::names::{is_packed, packed_path, parse};

/// A segment file, described by its name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SegmentFile {
    /// Path of the file.
    pub path: PathBuf,
    /// Index of the worker that wrote it.
    pub worker: u16,
    /// Number of the segment among this worker's, from 1.
    pub sequence: u64,
    /// Size of the file, bytes.
    pub bytes: u64,
}

impl SegmentFile {
    /// Returns whether the segment was created but has no header yet: nothing can be read from it.
    #[must_use]
    pub fn has_no_header(&self) -> bool {
        !is_packed(&self.path) && self.bytes < HEADER_BYTES as u64
    }
}

/// Lists the segments of a journal, sorted by worker and number. A segment that exists both plain and
/// compressed, as while it is being compressed, is listed once, as plain. Other files are ignored.
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

/// Returns the path and size of a listed segment, following its rename if it was compressed meanwhile.
/// Returns `None` if it is not a regular file, or if retention removed it meanwhile.
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

/// Suffix for segments of which nothing can be read.
const BAD: &str = ".bad";

/// Renames a segment of which nothing can be read to `….bad`, and returns the new path. Files of that name
/// are ignored by everything else. Never replaces an existing file: it appends the suffix again instead.
pub(crate) fn set_aside(path: &Path) -> io::Result<PathBuf> {
    let mut name = path.as_os_str().to_owned();
    loop {
        name.push(BAD);
        let target = PathBuf::from(&name);
        match renameat_with(CWD, path, CWD, &target, RenameFlags::NOREPLACE) {
            Err(Errno::EXIST) => {}
            // The file system has no RENAME_NOREPLACE. Two renames never run at once here, so a check
            // before the rename is enough.
            Err(Errno::INVAL | Errno::NOSYS) if target.try_exists()? => {}
            Err(Errno::INVAL | Errno::NOSYS) => {
                fs::rename(path, &target)?;
                return Ok(target);
            }
            renamed => return renamed.map(|()| target).map_err(io::Error::from),
        }
    }
}

/// Lists the segments that were set aside (`….bad`).
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
