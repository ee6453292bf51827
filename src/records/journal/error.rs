//! Why a journal cannot be opened.

use std::io;
use std::path::PathBuf;

/// Why a journal cannot be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum JournalError {
    /// The file system said no.
    #[error("journal {dir}: {step}: {source}")]
    Io {
        /// The directory.
        dir: PathBuf,
        /// What was tried.
        step: &'static str,
        /// What the kernel said.
        source: io::Error,
    },
    /// Somebody writes it.
    #[error(
        "journal {dir}: another process writes it (it holds {dir}/lock); give each its own directory"
    )]
    Taken {
        /// The directory.
        dir: PathBuf,
    },
    /// A newer program wrote to it.
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
    /// A segment cannot be read, though its disk can: it would be taken for one that was sent.
    #[error(
        "journal {dir}: cannot read {segment}: {source}; make it readable, or move it elsewhere if it is not to be \
         carried on"
    )]
    Unreadable {
        /// The directory.
        dir: PathBuf,
        /// The segment's file.
        segment: String,
        /// What the kernel said.
        source: io::Error,
    },
    /// The janitor could not be started.
    #[error(transparent)]
    Thread(#[from] ringest_base::sys::threads::ThreadError),
}
