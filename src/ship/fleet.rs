//! Starts, watches and stops the shippers of a journal.

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
    /// Its name, as typed, without secrets. The name of its cursor file is derived from it.
    pub name: String,
    /// The broker's client.
    pub carrier: Box<dyn Carrier>,
}

/// Counts and backlog of one destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShipStats {
    /// Its name.
    pub name: String,
    /// Counts of this process.
    pub counts: ShipCounts,
    /// Records in the journal that it has not settled, including those under way.
    pub backlog: Backlog,
}

impl ShipStats {
    /// Returns the age of the oldest waiting record, or `None` if none waits.
    #[must_use]
    pub fn oldest_age(&self) -> Option<Duration> {
        let now = clock::unix_ns();
        let since = self.counts.oldest_unix_ns;
        (self.backlog.records > 0 && since > 0)
            .then(|| Duration::from_nanos(now.saturating_sub(since)))
    }
}

/// The positions of each destination in a journal, as its cursor files say.
#[derive(Clone, Debug, Default)]
pub struct CursorPositions {
    /// By destination, then by worker. Pass them to
    /// [`JournalSpec::readers`](ringest_records::journal::open::JournalSpec).
    pub positions: Vec<BTreeMap<u16, Position>>,
    /// Messages about damaged cursors: their destinations start again at the oldest record.
    pub damaged: Vec<String>,
}

impl CursorPositions {
    /// Reads the cursors of `destinations` in the journal `dir`.
    ///
    /// # Errors
    /// A cursor cannot be read.
    pub fn read(dir: &Path, destinations: &[Destination]) -> io::Result<Self> {
        let mut cursors = Self::default();
        for one in destinations {
            let positions = match Cursor::new(dir, &one.name).read() {
                Err(error) if error.kind() == io::ErrorKind::InvalidData => {
                    cursors.damaged.push(error.to_string());
                    BTreeMap::new()
                }
                positions => positions?,
            };
            cursors.positions.push(positions);
        }
        Ok(cursors)
    }
}

/// Running shippers. Dropping it stops them: records under way are sent again at the next start.
#[derive(Debug)]
pub struct Fleet {
    watch: Watch,
    tallies: Vec<Arc<Tally>>,
    stop: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
}

/// Status of the shippers. It remains available after they have ended.
#[derive(Clone, Debug)]
pub struct Watch {
    commit_index: Arc<CommitIndex>,
    accounts: Vec<(String, Arc<Account>)>,
}

impl Watch {
    /// Watches destinations of a journal whose shippers are yet to start.
    #[must_use]
    pub fn new(journal: &Journal, destinations: &[Destination]) -> Self {
        let account = |one: &Destination| (one.name.clone(), Arc::new(Account::default()));
        let accounts = destinations.iter().map(account).collect();
        Self { commit_index: Arc::clone(journal.commit_index()), accounts }
    }

    /// Waits until every destination has all records, those of earlier runs included; at most until
    /// `until`.
    pub fn await_empty(&self, until: Instant) {
        loop {
            let changes = self.commit_index.changes();
            let left = until.saturating_duration_since(Instant::now());
            let waits = |number| self.commit_index.backlog(number).records > 0;
            if left.is_zero() || !(0..self.accounts.len()).any(waits) {
                return;
            }
            self.commit_index.wait(changes, left);
        }
    }

    /// Returns counts and backlog of each destination.
    #[must_use]
    pub fn stats(&self) -> Vec<ShipStats> {
        let stats = |(number, (name, account)): (usize, &(String, Arc<Account>))| ShipStats {
            name: name.clone(),
            counts: account.read(),
            backlog: self.commit_index.backlog(number),
        };
        self.accounts.iter().enumerate().map(stats).collect()
    }
}

impl Fleet {
    /// Starts one shipper a destination. `positions` are those that the journal was opened with. `tallies`
    /// are by worker; their lanes from `first_lane` on belong to the destinations.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start(
        journal: &Journal,
        destinations: Vec<Destination>,
        positions: Vec<BTreeMap<u16, Position>>,
        (tallies, first_lane): (&[Arc<Tally>], usize),
        window: usize,
    ) -> Result<Self, Error> {
        let watch = Watch::new(journal, &destinations);
        Self::start_watched(
            journal,
            watch,
            destinations,
            (positions, window),
            (tallies, first_lane),
        )
    }

    /// Starts shippers like [`start`](Self::start), for a [`Watch`] that was made of the same journal and
    /// destinations. `positions` come with the window.
    ///
    /// # Errors
    /// A thread cannot be started.
    pub fn start_watched(
        journal: &Journal,
        watch: Watch,
        destinations: Vec<Destination>,
        (positions, window): (Vec<BTreeMap<u16, Position>>, usize),
        (tallies, first_lane): (&[Arc<Tally>], usize),
    ) -> Result<Self, Error> {
        let tallied = tallies.to_vec();
        let mut fleet = Self { watch, tallies: tallied, stop: Arc::default(), threads: Vec::new() };
        for (number, (one, settled)) in destinations.into_iter().zip(positions).enumerate() {
            let account = fleet.watch.accounts.get(number).map(|(_, account)| Arc::clone(account));
            let account = account.unwrap_or_default();
            let lane = first_lane + number;
            let context = ShipperContext {
                journal_dir: journal.journal_dir().clone(),
                destination: one.name,
                number,
                commit_index: Arc::clone(&fleet.watch.commit_index),
                tallies: tallies.iter().map(|tally| (Arc::clone(tally), lane)).collect(),
                account,
                notices: Arc::clone(journal.notices()),
                stop: Arc::clone(&fleet.stop),
                window: window.max(1),
                dead_letters_bytes_max: journal.retention().spool_bytes,
            };
            let shipper = Shipper::new(context, one.carrier, settled);
            let thread =
                spawn_named(format!("ringest-ship-{number}"), None, move || shipper.run())?;
            fleet.threads.push(thread);
        }
        Ok(fleet)
    }

    /// Returns the status of the shippers.
    #[must_use]
    pub fn watch(&self) -> &Watch {
        &self.watch
    }
}

impl Drop for Fleet {
    fn drop(&mut self) {
        // From now on no unsent segment may be removed: no shipper would count its records as lost.
        self.watch.commit_index.stop_readers();
        self.stop.store(true, Ordering::Release);
        self.watch.commit_index.wake();
        for thread in self.threads.drain(..) {
            // A panic of a shipper is a bug; unsettled records are sent again at the next start.
            let _ = thread.join();
        }
        self.tallies.iter().for_each(|tally| tally.abandon());
    }
}
