//! All shippers of a journal: where they had come, started, stopped.

use std::collections::BTreeMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use crate::account::{Account, ShipCounts};
use crate::carrier::Carrier;
use crate::cursor::Cursor;
use crate::shipper::context::ShipperContext;
use crate::shipper::thread::Shipper;
use ringest_base::sys::clock;
use ringest_base::sys::threads::spawn_named;
use ringest_engine::error::Error;
use ringest_records::journal::keep::commit_index::{Backlog, CommitIndex, Position};
use ringest_records::journal::open::Journal;
use ringest_records::settle::tally::Tally;

/// A destination that a journal is shipped to.
#[derive(Debug)]
pub struct Destination {
    /// Its name: what was typed, without secrets. Its cursor goes by it.
    pub name: String,
    /// The broker's client.
    pub carrier: Box<dyn Carrier>,
}

/// The figures of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipStats {
    /// Its name.
    pub name: String,
    /// What became of records in this process.
    pub counts: ShipCounts,
    /// What waits for it in the journal, records under way included.
    pub backlog: Backlog,
}

impl ShipStats {
    /// How long the oldest record that waits has waited; `None` where none does.
    #[must_use]
    pub fn oldest_age(&self) -> Option<Duration> {
        let now = clock::unix_ns();
        let since = self.counts.oldest_unix_ns;
        (self.backlog.records > 0 && since > 0)
            .then(|| Duration::from_nanos(now.saturating_sub(since)))
    }
}

/// How far each destination had come in a journal.
#[derive(Clone, Debug, Default)]
pub struct CursorPositions {
    /// By destination, by worker: for [`JournalSpec::readers`](ringest_records::journal::open::JournalSpec).
    pub positions: Vec<BTreeMap<u16, Position>>,
    /// Cursors that are damaged, and why: their destinations begin at the oldest record again.
    pub damaged: Vec<String>,
}

impl CursorPositions {
    /// Reads the cursors of destinations in the journal `dir`.
    ///
    /// # Errors
    /// A cursor cannot be read.
    pub fn take(dir: &Path, destinations: &[Destination]) -> io::Result<Self> {
        let mut bearings = Self::default();
        for one in destinations {
            let positions = match Cursor::new(dir, &one.name).read() {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    bearings.damaged.push(error.to_string());
                    BTreeMap::new()
                }
                positions => positions?,
            };
            bearings.positions.push(positions);
        }
        Ok(bearings)
    }
}

/// Shippers at work. Stopped when dropped: what is under way is left, and sent again at the next start.
#[derive(Debug)]
pub struct Fleet {
    watch: Watch,
    tallies: Vec<Arc<Tally>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// What is known of shippers, also after they have ended.
#[derive(Clone, Debug)]
pub struct Watch {
    shelf: Arc<CommitIndex>,
    accounts: Vec<(String, Arc<Account>)>,
}

impl Watch {
    /// Waits until every destination has all there is, those of earlier runs too; no longer than `until`.
    pub fn await_empty(&self, until: Instant) {
        loop {
            let changes = self.shelf.changes();
            let left = until.saturating_duration_since(Instant::now());
            let waits = |number| self.shelf.backlog(number).records > 0;
            if left.is_zero() || !(0..self.accounts.len()).any(waits) {
                return;
            }
            self.shelf.wait(changes, left);
        }
    }

    /// The figures of each destination.
    #[must_use]
    pub fn stats(&self) -> Vec<ShipStats> {
        let stats = |(number, (name, account)): (usize, &(String, Arc<Account>))| ShipStats {
            name: name.clone(),
            counts: account.read(),
            backlog: self.shelf.backlog(number),
        };
        self.accounts.iter().enumerate().map(stats).collect()
    }
}

impl Fleet {
    /// Starts a shipper for each destination. `positions` are those the journal was opened with, `tallies` by worker: their
    /// lanes from `first_lane` on are the destinations'.
    ///
    /// # Errors
    /// A thread cannot be had.
    pub fn start(
        journal: &Journal,
        destinations: Vec<Destination>,
        positions: Vec<BTreeMap<u16, Position>>,
        (tallies, first_lane): (&[Arc<Tally>], usize),
        window: usize,
    ) -> Result<Self, Error> {
        let watch = Watch { shelf: Arc::clone(journal.shelf()), accounts: Vec::new() };
        let tallied = tallies.to_vec();
        let mut fleet = Self { watch, tallies: tallied, stop: Arc::default(), threads: Vec::new() };
        for (number, (one, settled)) in destinations.into_iter().zip(positions).enumerate() {
            let account = Arc::new(Account::default());
            fleet.watch.accounts.push((one.name.clone(), Arc::clone(&account)));
            let lane = first_lane + number;
            let post = ShipperContext {
                home: journal.home().clone(),
                destination: one.name,
                number,
                shelf: Arc::clone(&fleet.watch.shelf),
                tallies: tallies.iter().map(|tally| (Arc::clone(tally), lane)).collect(),
                account,
                notices: Arc::clone(journal.notices()),
                stop: Arc::clone(&fleet.stop),
                window: window.max(1),
                letters_bytes_max: journal.retention().spool_bytes,
            };
            let shipper = Shipper::new(post, one.carrier, settled);
            let thread =
                spawn_named(format!("ringest-ship-{number}"), None, move || shipper.run())?;
            fleet.threads.push(thread);
        }
        Ok(fleet)
    }

    /// What is known of them.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // Nothing unsent is removed from now on: they would not count it any more.
        self.watch.shelf.leave();
        self.stop.store(true, Ordering::Release);
        self.watch.shelf.wake();
        for thread in self.threads.drain(..) {
            // A panic there is a bug; what it had not settled is sent again at the next start.
            let _ = thread.join();
        }
        self.tallies.iter().for_each(|tally| tally.abandon());
    }
}
