//! The segments of a journal as files.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

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

/// `DIR/WWW-NNNNNNNNNN.seg`.
#[must_use]
pub fn path_of(dir: &Path, worker: u16, sequence: u64) -> PathBuf {
    dir.join(format!("{worker:03}-{sequence:010}.seg"))
}

fn parse(name: &str) -> Option<(u16, u64)> {
    let (worker, sequence) = name.strip_suffix(".seg")?.split_once('-')?;
    Some((worker.parse().ok()?, sequence.parse().ok()?))
}

/// The segments of a journal, each worker's in their order. Other files are left alone.
///
/// # Errors
/// The directory cannot be read.
pub fn list(dir: &Path) -> io::Result<Vec<SegmentFile>> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some((worker, sequence)) = name.to_str().and_then(parse) else { continue };
        match entry.metadata() {
            Ok(facts) if facts.is_file() => {
                found.push(SegmentFile {
                    path: entry.path(),
                    worker,
                    sequence,
                    bytes: facts.len(),
                });
            }
            Ok(_) => {}
            // Retention took it meanwhile.
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
    }
    found.sort_by_key(|segment| (segment.worker, segment.sequence));
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let path = path_of(Path::new("/j"), 3, 17);
        assert_eq!(path, Path::new("/j/003-0000000017.seg"));
        assert_eq!(parse("003-0000000017.seg"), Some((3, 17)));
        for name in ["", "lock", "003-17", "x-1.seg", "003.seg", "-1-2.seg"] {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
