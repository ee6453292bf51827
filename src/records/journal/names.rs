//! File names of segments: `WWW-NNNNNNNNNN.seg`, with `.zst` appended once the segment is compressed.

use std::path::{Path, PathBuf};

/// Returns the path of a plain segment: `DIR/WWW-NNNNNNNNNN.seg`.
#[must_use]
pub fn path_of(dir: &Path, worker: u16, sequence: u64) -> PathBuf {
    dir.join(format!("{worker:03}-{sequence:010}.seg"))
}

/// File extension of compressed segments.
const PACKED: &str = "zst";

/// Returns the path that a plain segment gets when it is compressed. Returns `None` if `path` is compressed
/// already.
#[must_use]
pub fn packed_path(path: &Path) -> Option<PathBuf> {
    (!is_packed(path)).then(|| path.with_added_extension(PACKED))
}

/// Returns whether a segment is compressed, judged by its name.
#[must_use]
pub fn is_packed(path: &Path) -> bool {
    path.extension().is_some_and(|extension| extension == PACKED)
}

/// Returns whether `path` has the name of a segment.
pub(crate) fn is_segment(path: &Path) -> bool {
    number_of(path).is_some()
}

/// Reads worker and number from a segment's file name. Returns `None` if it is not the name of a segment.
pub(crate) fn number_of(path: &Path) -> Option<(u16, u64)> {
    path.file_name().and_then(|name| name.to_str()).and_then(parse)
}

pub(crate) fn parse(name: &str) -> Option<(u16, u64)> {
    let plain = name.strip_suffix(".zst").unwrap_or(name);
    let (worker, sequence) = plain.strip_suffix(".seg")?.split_once('-')?;
    Some((worker.parse().ok()?, sequence.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_back() {
        let path = path_of(Path::new("/j"), 3, 17);
        assert_eq!(path, Path::new("/j/003-0000000017.seg"));
        assert_eq!(parse("003-0000000017.seg"), Some((3, 17)));
        assert_eq!(parse("003-0000000017.seg.zst"), Some((3, 17)));
        let packed = packed_path(&path).unwrap();
        assert_eq!(packed, Path::new("/j/003-0000000017.seg.zst"));
        assert_eq!((packed_path(&packed), is_packed(&path)), (None, false));
        for name in
            ["", "lock", "003-17", "x-1.seg", "003.seg", "-1-2.seg", "1-2.seg.zst.tmp", "1-2.zst"]
        {
            assert_eq!(parse(name), None, "{name}");
        }
    }
}
