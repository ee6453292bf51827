//! A row of the ledger table, and the types of its columns.

use crate::count::ledger::Unit;
use crate::count::summary::Summary;

/// One count of a run.
#[derive(Clone, Copy, Debug)]
pub struct Row {
    /// Short name, in tables and on the status line; unique.
    pub name: &'static str,
    /// Name in the ledger's table of a summary.
    pub label: &'static str,
    /// One sentence that says which datagrams are counted here; for the docs and for a metric's `# HELP`.
    pub meaning: &'static str,
    /// Unit of the value.
    pub unit: RowUnit,
    /// Path in the JSON document, `.` between an object and its key; `None` if the document lacks the count.
    pub key: Option<&'static str>,
    /// Name of the metric in Prometheus' text format, with its labels.
    pub metric: &'static str,
    /// Position in the ledger.
    pub part: Part,
    /// Advice for an operator who sees a count above 0.
    pub help: Help,
    /// Returns the value, or `None` if it is not known.
    pub get: fn(&Summary) -> Option<u64>,
}

/// Unit of a row's value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RowUnit {
    /// Datagrams.
    Datagrams,
    /// The ledger's `kernel_unit`: datagrams, or buffers of the kernel.
    Kernel,
    /// Bytes of payload.
    Bytes,
    /// Trains: frames that held two or more datagrams.
    Trains,
    /// Replies.
    Replies,
    /// Records, or parts of a datagram that were no record.
    Records,
    /// Occurrences.
    Times,
}

impl RowUnit {
    /// Returns whether the value counts buffers of the kernel, each of which may hold several datagrams.
    #[must_use]
    pub fn is_buffers(self, kernel: Unit) -> bool {
        self == Self::Kernel && kernel == Unit::Buffers
    }

    /// Returns the word shown behind a count, in the plural.
    #[must_use]
    pub fn word(self, kernel: Unit) -> &'static str {
        match self {
            Self::Datagrams => Unit::Datagrams.as_str(),
            Self::Kernel => kernel.as_str(),
            Self::Bytes => "bytes",
            Self::Trains => "trains",
            Self::Replies => "replies",
            Self::Records => "records",
            Self::Times => "times",
        }
    }
}

/// Position of a row in the ledger, which is a tree: depth 0 is the whole, each deeper line a part of the line
/// above it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Datagrams that went on, shown always.
    Passed(usize),
    /// Datagrams dropped before a handler had them, by cause.
    Dropped(usize),
    /// Other datagrams that were lost or abandoned.
    Lost(usize),
    /// Datagrams whose outcome is open.
    Held(usize),
    /// The check that the ledger balances.
    Check,
    /// Not part of the ledger.
    Beside,
}

/// Advice on a count above 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Help {
    /// Nothing to say.
    None,
    /// A loss: its cause, and the next move.
    Loss(&'static str),
    /// No loss, but a sign of one to come: its cause, and the next move.
    Sign(&'static str),
    /// A loss whose text depends on this host's receive buffers.
    Buffers,
    /// A loss whose cause the sink knows.
    Sink,
}

impl Row {
    /// Returns whether the row counts drops, that is, datagrams that no handler was given.
    #[must_use]
    pub fn is_drop(&self) -> bool {
        matches!(self.part, Part::Dropped(_))
    }

    /// Returns the value, or 0 if it is not known.
    #[must_use]
    pub fn count(&self, summary: &Summary) -> u64 {
        (self.get)(summary).unwrap_or(0)
    }
}
