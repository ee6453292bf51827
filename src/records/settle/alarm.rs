//! What the journal has to say while it runs, at most once a minute: a disk that is full fails a
//! thousand times a second.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// How often the same trouble is told.
const EVERY: Duration = Duration::from_secs(60);

/// Shared by the workers, the janitor and whoever prints.
#[derive(Debug, Default)]
pub struct Alarms {
    state: Mutex<State>,
}

#[derive(Debug, Default)]
struct State {
    said_at: Option<Instant>,
    /// Datagrams given up that nobody was told of.
    untold: u64,
    /// A failure was told, and no end of it.
    told_failure: bool,
    waiting: Vec<String>,
    /// When other troubles were last told, by their names.
    repeated: BTreeMap<String, Instant>,
}

impl Alarms {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Says something that may be the same again in a moment; `name` tells what is the same. The text is put
    /// together only when it is said.
    pub fn repeated<T: Into<String>>(&self, name: &str, text: impl FnOnce() -> T) {
        let mut state = self.state();
        if state.repeated.get(name).is_some_and(|at| at.elapsed() < EVERY) {
            return;
        }
        state.repeated.insert(name.to_owned(), Instant::now());
        // The text may ask others who hold locks of their own.
        drop(state);
        let text = text().into();
        self.state().waiting.push(text);
    }

    /// The disk failed, and `lost` datagrams were given up for it.
    pub(crate) fn failed(&self, error: &std::io::Error, lost: u64) {
        self.failed_at(error, lost, Instant::now());
    }

    fn failed_at(&self, error: &std::io::Error, lost: u64, now: Instant) {
        let mut state = self.state();
        state.untold += lost;
        if state.said_at.is_some_and(|at| now.duration_since(at) < EVERY) {
            return;
        }
        let untold = std::mem::take(&mut state.untold);
        state.said_at = Some(now);
        state.told_failure = true;
        state.waiting.push(format!(
            "the journal cannot be written: {error}; {untold} datagrams on the way to it were given up, \
             and what arrives until it can be is counted as undelivered"
        ));
    }

    /// The disk takes records again. A disk that is nearly full does so all the time, and fails again: the
    /// next failure still waits for its minute.
    pub(crate) fn resumed(&self) {
        let mut state = self.state();
        if std::mem::take(&mut state.told_failure) {
            state.waiting.push("the journal is written again".to_owned());
        }
    }

    /// What is to be said, in order, once.
    #[must_use]
    pub fn take(&self) -> Vec<String> {
        std::mem::take(&mut self.state().waiting)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_once_and_so_is_its_end() {
        let alarms = Alarms::default();
        let error = std::io::Error::from_raw_os_error(libc::ENOSPC);
        let begun = Instant::now();
        for _ in 0..1000 {
            alarms.failed_at(&error, 3, begun);
        }
        let told = alarms.take();
        assert_eq!(told.len(), 1);
        assert!(told[0].contains("No space left") && told[0].contains("3 datagrams"), "{told:?}");
        alarms.resumed();
        alarms.resumed();
        assert_eq!(alarms.take(), ["the journal is written again"]);
        (0..3).for_each(|_| alarms.repeated("a", || "one"));
        alarms.repeated("b", || "two");
        assert_eq!(alarms.take(), ["one", "two"]);
        // It comes and goes: still once a minute.
        for second in 0..60 {
            alarms.failed_at(&error, 1, begun + Duration::from_secs(second));
            alarms.resumed();
        }
        assert_eq!(alarms.take(), Vec::<String>::new());
        alarms.failed_at(&error, 1, begun + EVERY);
        assert!(alarms.take()[0].contains("3058 datagrams"), "those not told of before, too");
    }
}
