//! The table of sinks by name, and the description of a sink that is not open yet. `--sink` and its help read
//! the table.

use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

use crate::journal::open::{Journal, JournalSpec};
use crate::settle::notices::Notices;
use crate::sink::file::FileSink;
use crate::sink::lines::Format;
use crate::sink::open::OpenSink;
use crate::sink::writer_thread::ROOM_BYTES;
use ringest_engine::control::plan::BillLine;

/// A row of the table of sinks.
#[derive(Debug)]
pub struct SinkKind {
    /// The name before the colon.
    pub name: &'static str,
    /// The form of the argument, such as `file:PATH`.
    pub form: &'static str,
    /// Describes the treatment of datagrams by such a sink, for the help.
    pub help: &'static str,
    /// Checks the whole argument. Returns the reason why it is wrong, or `None` as the reason if the form says
    /// enough.
    pub parse: fn(argument: &str) -> Result<(), Option<String>>,
}

/// The sinks of this crate. The crate for brokers has more.
pub const KINDS: &[SinkKind] = &[
    SinkKind {
        name: "discard",
        form: "discard",
        help: "counts them",
        parse: |argument| alone(argument, "discard"),
    },
    SinkKind {
        name: "stdout",
        form: "stdout",
        help: "prints them",
        parse: |argument| alone(argument, "stdout"),
    },
    SinkKind {
        name: "file",
        form: "file:PATH",
        help: "appends them to a file",
        parse: |argument| path(argument, "file:").map(drop),
    },
    SinkKind {
        name: "journal",
        form: "journal:DIR",
        help: "puts them on disk",
        parse: |argument| path(argument, "journal:").map(drop),
    },
];

fn alone(argument: &str, name: &str) -> Result<(), Option<String>> {
    if argument == name { Ok(()) } else { Err(None) }
}

/// Returns the path behind a prefix such as `file:`.
///
/// # Errors
/// There is no such prefix, or no path behind it.
pub fn path(argument: &str, prefix: &str) -> Result<PathBuf, Option<String>> {
    match argument.strip_prefix(prefix) {
        Some(path) if !path.is_empty() => Ok(path.into()),
        _ => Err(None),
    }
}

/// Finds the row that an argument such as `file:/tmp/x` is of, and checks the argument.
///
/// # Errors
/// There is no such row, or the argument is wrong. The text lists the forms, or gives the reason.
pub fn find<'a>(
    kinds: impl Iterator<Item = &'a SinkKind> + Clone,
    argument: &str,
) -> Result<&'a SinkKind, String> {
    let name = argument.split_once(':').map_or(argument, |(name, _)| name);
    let Some(kind) = kinds.clone().find(|kind| kind.name == name) else {
        return Err(expected(kinds));
    };
    match (kind.parse)(argument) {
        Ok(()) => Ok(kind),
        Err(reason) => Err(reason.unwrap_or_else(|| expected(kinds))),
    }
}

fn expected<'a>(kinds: impl Iterator<Item = &'a SinkKind>) -> String {
    let forms: Vec<_> = kinds.map(|kind| kind.form).collect();
    let (last, others) = forms.split_last().map_or(("", &[][..]), |(l, o)| (l, o));
    format!("expected {} or {last}", others.join(", "))
}

/// Describes a sink that is not open yet.
pub trait SinkSpec: Debug + Send {
    /// Returns the memory that the sink takes for `workers` workers, for the plan's bill, or `None` if it is
    /// not worth a line.
    fn memory(&self, _workers: usize) -> Option<BillLine> {
        None
    }

    /// Opens the sink. Trouble while it runs goes to `notices`.
    ///
    /// # Errors
    /// The text of the error says what failed, and the next move.
    fn open(
        self: Box<Self>,
        notices: &Arc<Notices>,
    ) -> Result<Box<dyn OpenSink>, Box<dyn std::error::Error + Send + Sync>>;
}

/// Describes a [`FileSink`].
#[derive(Clone, Debug)]
pub struct FileSpec {
    /// The file.
    pub path: PathBuf,
    /// The format of its lines.
    pub format: Format,
}

impl SinkSpec for FileSpec {
    fn memory(&self, _: usize) -> Option<BillLine> {
        let holder = format!("{}: lines that wait to be written", self.path.display());
        Some(BillLine { holder, bytes: ROOM_BYTES, kernel: false })
    }

    fn open(
        self: Box<Self>,
        notices: &Arc<Notices>,
    ) -> Result<Box<dyn OpenSink>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Box::new(FileSink::open(&self.path, self.format, notices)?))
    }
}

impl SinkSpec for JournalSpec {
    fn memory(&self, workers: usize) -> Option<BillLine> {
        let range = Journal::buffer_bytes(workers);
        let bytes = self.buffer_bytes.clamp(*range.start(), *range.end());
        let holder = "journal: what the disk has not taken yet (--journal-buffer)".to_owned();
        Some(BillLine { holder, bytes, kernel: false })
    }

    fn open(
        self: Box<Self>,
        notices: &Arc<Notices>,
    ) -> Result<Box<dyn OpenSink>, Box<dyn std::error::Error + Send + Sync>> {
        Ok(Box::new(Journal::open_with(*self, notices)?))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_argument_is_of_a_kind_or_is_told_which_there_are() {
        for argument in ["discard", "stdout", "journal:x", "file:/a:b"] {
            let name = argument.split(':').next().unwrap();
            assert_eq!(find(KINDS.iter(), argument).unwrap().name, name);
        }
        for argument in ["", "nowhere", "journal", "journal:", "file:", "stdout:", "stdout:x"] {
            let refused = find(KINDS.iter(), argument).unwrap_err();
            assert_eq!(refused, "expected discard, stdout, file:PATH or journal:DIR", "{argument}");
        }
    }
}
