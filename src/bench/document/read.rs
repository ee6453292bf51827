//! Reads a report that `--json FILE` wrote, on any host and by any version.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use serde::Deserialize;

use crate::document::report::{Report, VERSION};

/// A curve of a thousand trials takes about a megabyte. Lower: long searches are refused. Higher: a
/// wrong file (a capture, a disk image) fills the memory before it is refused.
pub const MOST_BYTES: u64 = 256 << 20;

/// The reason why a file cannot be used as a report.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// The file cannot be opened or read.
    #[error("cannot read {path}: {source}. Name a file that `ringest bench … --json FILE` wrote")]
    Io {
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The file is longer than any report.
    #[error(
        "{path} is longer than {} MiB, so it is not a report. Name a file that `ringest bench … \
         --json FILE` wrote",
        MOST_BYTES >> 20
    )]
    TooLong {
        /// The file.
        path: PathBuf,
    },
    /// Another version of the format.
    #[error(
        "{path} has version {found}, and this ringest reads version {VERSION}. Read it with the \
         ringest that wrote it, or measure again with this one"
    )]
    Version {
        /// The file.
        path: PathBuf,
        /// The version it has.
        found: u64,
    },
    /// Not JSON, or JSON of something else.
    #[error(
        "{path} is not a report of ringest bench: {source}. Name a file that `ringest bench … --json \
         FILE` wrote"
    )]
    Content {
        /// The file.
        path: PathBuf,
        /// The place and the reason.
        source: serde_json::Error,
    },
}

/// The part of a report that never changes. It tells whether the rest can be read.
#[derive(Deserialize)]
struct Versioned {
    version: u64,
}

/// Reads the report in `path`.
///
/// # Errors
/// The file cannot be read, is too long, has another version or is not a report.
pub fn read(path: &Path) -> Result<Report, ReadError> {
    let io = |source| ReadError::Io { path: path.to_owned(), source };
    let mut bytes = Vec::new();
    let file = File::open(path).map_err(io)?;
    file.take(MOST_BYTES + 1).read_to_end(&mut bytes).map_err(io)?;
    if u64::try_from(bytes.len()).is_ok_and(|len| len > MOST_BYTES) {
        return Err(ReadError::TooLong { path: path.to_owned() });
    }
    parse(&bytes, path)
}

/// Parses the report in `bytes`, which came from `path`.
fn parse(bytes: &[u8], path: &Path) -> Result<Report, ReadError> {
    let content = |source| ReadError::Content { path: path.to_owned(), source };
    let Versioned { version } = serde_json::from_slice(bytes).map_err(content)?;
    if version != u64::from(VERSION) {
        return Err(ReadError::Version { path: path.to_owned(), found: version });
    }
    serde_json::from_slice(bytes).map_err(content)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::document::report::Mode;
    use crate::report::{page, sample};

    fn refused(bytes: &[u8]) -> String {
        parse(bytes, Path::new("a.json")).unwrap_err().to_string()
    }

    #[test]
    fn what_was_written_is_read() {
        for (mode, _) in sample::CHARTS {
            let report = sample::report(*mode);
            let text = serde_json::to_vec(&report).unwrap();
            let read = parse(&text, Path::new("a.json")).unwrap();
            // The 17th digit of a number may differ; nothing that is shown does.
            assert!(page(&read) == page(&report), "{mode:?}");
            assert_eq!(read.trials.len(), report.trials.len());
        }
    }

    #[test]
    fn fields_of_a_later_ringest_are_passed_over() {
        let mut json = serde_json::to_value(sample::report(Mode::Ndr)).unwrap();
        json["colour"] = "blue".into();
        json["setting"]["colour"] = "blue".into();
        let read = parse(json.to_string().as_bytes(), Path::new("a.json")).unwrap();
        assert!(page(&read) == page(&sample::report(Mode::Ndr)));
    }

    #[test]
    fn another_version_is_named_before_anything_else_is_read() {
        let text = refused(b"{\"version\": 2, \"mode\": [\"unheard of\"]}");
        assert!(
            text.contains("a.json has version 2") && text.contains("reads version 1"),
            "{text}"
        );
    }

    #[test]
    fn what_is_no_report_is_refused_with_the_reason_and_the_next_move() {
        for bytes in [&b""[..], b"{", b"[]", b"{}", b"\xff\xfe", b"{\"version\": 1}", b"\0\0\0"] {
            let text = refused(bytes);
            assert!(text.contains("a.json is not a report"), "{text}");
            assert!(text.contains("--json FILE"), "{text}");
        }
        // Deep nesting ends in an error, not in a stack overflow.
        let deep = format!("{{\"version\": 1, \"mode\": {}", "[".repeat(100_000));
        assert!(refused(deep.as_bytes()).contains("is not a report"));
        let missing = read(Path::new("/nonexistent/a.json")).unwrap_err().to_string();
        assert!(missing.contains("cannot read /nonexistent/a.json"), "{missing}");
    }

    #[test]
    fn a_device_without_end_is_refused_not_read_forever() {
        let endless = read(Path::new("/dev/zero")).unwrap_err().to_string();
        assert!(endless.contains("longer than 256 MiB"), "{endless}");
    }
}
