//! What a shipper shares with the rest of the program.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use crate::account::Account;
use ringest_records::journal::dir::JournalDir;
use ringest_records::journal::keep::commit_index::CommitIndex;
use ringest_records::settle::notices::Notices;
use ringest_records::settle::tally::Tally;

/// Where a shipper works, and what it tells.
#[derive(Debug)]
pub(crate) struct ShipperContext {
    pub(crate) home: JournalDir,
    pub(crate) destination: String,
    /// Its number among the shelf's readers, and its lane in the tallies.
    pub(crate) number: usize,
    pub(crate) shelf: Arc<CommitIndex>,
    /// By worker; where datagrams of this process are settled.
    pub(crate) tallies: Vec<(Arc<Tally>, usize)>,
    pub(crate) account: Arc<Account>,
    pub(crate) notices: Arc<Notices>,
    pub(crate) stop: Arc<AtomicBool>,
    /// Records under way at most.
    pub(crate) window: usize,
    /// Bytes of dead letters at most; `None`: all are kept.
    pub(crate) letters_bytes_max: Option<u64>,
}
