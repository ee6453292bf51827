//! Notices for the operator while the engine runs: "the disk is full", "the reader of stdout is behind".
//! Each subject is reported at most once a minute: a full disk fails a thousand times a second.
//!
//! Sinks, the journal's janitor and shippers add notices; whoever prints takes them.
//! One `Notices` serves all sinks of an engine.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Time between two notices about the same subject.
const EVERY: Duration = Duration::from_secs(60);

/// Collects notices from all threads; see the module's description.
#[derive(Debug, Default)]
pub struct Notices {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    /// Notices to print, oldest first.
    waiting: Vec<String>,
    /// When each repeated notice was last given, by its name.
    repeated: BTreeMap<String, Instant>,
    /// Places that failed at least once, by their names in notices.
    failures: BTreeMap<String, Failure>,
}

/// A place that could not be written.
#[derive(Debug, Default)]
struct Failure {
    /// When its last failure was reported.
    reported_at: Option<Instant>,
    /// Datagrams given up since then, which no notice has counted.
    unreported: u64,
    /// A failure was reported, and its end was not.
    is_open: bool,
}

impl Notices {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a notice unless one of the same `name` was added within the last minute. `text` is called only
    /// when the notice is added, without the lock held.
    pub fn repeated<T: Into<String>>(&self, name: &str, text: impl FnOnce() -> T) {
        let mut state = self.state();
        if state.repeated.get(name).is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        state.repeated.insert(name.to_owned(), Instant::now());
        // The text may need locks of its own.
        drop(state);
        let text = text().into();
        self.state().waiting.push(text);
    }

    /// Reports that `place` ("the journal") could not be written, which cost `lost` datagrams. At most one
    /// report a minute and place; the next report adds up the losses since the last one.
    pub fn failed(&self, place: &str, error: &std::io::Error, lost: u64) {
        self.failed_at(place, error, lost, Instant::now());
    }

    fn failed_at(&self, place: &str, error: &std::io::Error, lost: u64, now: Instant) {
        let mut state = self.state();
        let failure = state.failures.entry(place.to_owned()).or_default();
        failure.unreported += lost;
        if failure.reported_at.is_some_and(|at| now.duration_since(at) < EVERY) {
            return;
        }
        let lost = std::mem::take(&mut failure.unreported);
        failure.reported_at = Some(now);
        failure.is_open = true;
        state.waiting.push(format!(
            "{place} cannot be written: {error}; {lost} datagrams that waited for it were given up, and \
             datagrams that arrive until it can be written are counted as undelivered"
        ));
    }

    /// Reports that `place` is written again, if its failure was reported. A disk that is nearly full fails
    /// and recovers all the time: the next failure still waits for its minute.
    pub fn resumed(&self, place: &str) {
        let mut state = self.state();
        let Some(failure) = state.failures.get_mut(place) else { return };
        if std::mem::take(&mut failure.is_open) {
            state.waiting.push(format!("{place} is written again"));
        }
    }

    /// Removes and returns the notices added since the last call, oldest first.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state().waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_reported_once_and_so_is_its_end() {
        let notices = Notices::default();
        let error = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let begun = Instant::now();
        for _ in 0..1000 {
            notices.failed_at("the journal", &error, 3, begun);
        }
        let told = notices.take();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("No space left") && told[0].contains("3 datagrams"), "{told:?}");
        notices.resumed("the journal");
        notices.resumed("the journal");
        assert_eq!(notices.take(), ["the journal is written again"]);
        (0..3).for_each(|_| notices.repeated("a", || "one"));
        notices.repeated("b", || "two");
        assert_eq!(notices.take(), ["one", "two"]);
        // It comes and goes: still once a minute.
        for second in 0..60 {
            notices.failed_at("the journal", &error, 1, begun + Duration::from_secs(second));
            notices.resumed("the journal");
        }
        assert_eq!(notices.take(), Vec::<String>::new());
        notices.failed_at("the journal", &error, 1, begun + EVERY);
        assert!(notices.take()[0].contains("3058 datagrams"), "earlier losses are added up");
    }

    #[test]
    fn places_fail_and_recover_apart() {
        let notices = Notices::default();
        let error = std::io::Error::from_raw_os_error(libc::ENOSPC);
        notices.failed("one", &error, 1);
        notices.resumed("two");
        notices.failed("two", &error, 1);
        assert_eq!(notices.take().len(), 2);
        notices.resumed("one");
        assert_eq!(notices.take(), ["one is written again"]);
    }
}
