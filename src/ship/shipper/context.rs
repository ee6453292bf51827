//! The values that a shipper shares with the rest of the program.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::account::Account;
use ringest_records::journal::dir::JournalDir;
use ringest_records::journal::keep::commit_index::CommitIndex;
use ringest_records::settle::notices::Notices;
use ringest_records::settle::tally::Tally;

/// The values that a shipper shares with the rest of the program.
#[derive(Debug)]
pub(crate) struct ShipperContext {
    pub(crate) journal_dir: JournalDir,
    pub(crate) destination: String,
    /// Number of the destination, which is its reader number in the commit index.
    pub(crate) number: usize,
    pub(crate) commit_index: Arc<CommitIndex>,
    /// Tallies by worker, and the destination's lane in each: datagrams of this process are settled there.
    pub(crate) tallies: Vec<(Arc<Tally>, usize)>,
    pub(crate) account: Arc<Account>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Records under way at most.
    pub(crate) window: usize,
    /// Bytes of dead letters at most; `None` for no bound.
    pub(crate) dead_letters_bytes_max: Option<u64>,
}
