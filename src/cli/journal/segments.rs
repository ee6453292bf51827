//! The segments of a journal's directory.

use std::io;
use std::path::Path;

use ringest_records::journal::segment::SegmentFile;

use crate::cli::failure::Failure;

/// Returns the segments of a journal.
pub(crate) fn segments(dir: &Path) -> Result<Vec<SegmentFile>, Failure> {
    ringest_records::journal::segment::list(dir).map_err(|error| unreadable(dir, &error))
}

/// Returns the failure for a directory that cannot be read.
pub(crate) fn unreadable(dir: &Path, error: &io::Error) -> Failure {
    let dir = dir.display();
    Failure::Failed(format!(
        "cannot read {dir}: {error}; give the directory of `--sink journal:DIR`"
    ))
}

/// Returns the name of a segment's file.
pub(crate) fn name(segment: &SegmentFile) -> String {
    segment.path.file_name().unwrap_or_default().to_string_lossy().into_owned()
}
