//! Why a journal cannot be opened.

use std::io;
use std::path::PathBuf;

/// Errors of opening a journal.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// A file system operation failed.
    #[error("journal {dir}: {step}: {source}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// The operation that failed.
        step: &'static str,
        /// The operating system's error.
        source: io::Error,
    },
    /// Another process writes to the journal.
    #[error(
        "journal {dir}: another process writes it (it holds {dir}/lock); give each its own directory"
    )]
    Taken {
        /// The directory.
        dir: PathBuf,
    },
    /// A newer version of the program wrote a segment in a format that this one does not know.
    #[error(
        "journal {dir}: {segment} is of another version than this program knows; use the program that wrote it, or \
         give this one a directory of its own"
    )]
    OtherVersion {
        /// The directory.
        dir: PathBuf,
        /// The segment's file.
        segment: String,
    },
    /// A segment cannot be read although its disk works (permissions, for example). Opening the journal
    /// anyway would count its records as sent.
    #[error(
        "journal {dir}: cannot read {segment}: {source}; make it readable, or move it elsewhere if its records are \
         not to be shipped"
    )]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// The segment's file.
        segment: String,
        /// The operating system's error.
        source: io::Error,
    },
    /// The background thread could not be started.
    #[error(transparent)]
    Thread(#[from] ringest_base::sys::threads::ThreadError),
}
