//! Keeps records that the broker refuses for good as dead letters.

use std::time::{Duration, Instant};

use crate::shipper::flight::Fate;
use crate::shipper::thread::Shipper;

/// Pause before a dead letter that could not be written is tried again.
const DEAD_LETTER_RETRY: Duration = Duration::from_secs(if cfg!(test) { 0 } else { 1 });

impl Shipper {
    /// Keeps refused records as dead letters, as far as everything in front of them has a fate. A record
    /// that cannot be kept stays refused and is tried again later; the records behind it stay under way and
    /// are not sent again for that.
    pub(crate) fn keep_dead_letters(&mut self) {
        if self.dead_letter_failed_at.is_some_and(|at| at.elapsed() < DEAD_LETTER_RETRY) {
            return;
        }
        self.dead_letter_failed_at = None;
        let (mut put, mut failure) = (Vec::new(), None);
        for (place, flight) in self.window.iter_mut().enumerate() {
            let (fate, id) = (&mut flight.fate, flight.id);
            match fate {
                None => break,
                Some(Fate::Refused(_)) => {}
                Some(_) => continue,
            }
            match id.map_or(Ok(None), |id| self.dead_letters.put(&self.context.journal_dir, id)) {
                Ok(Some(peer)) => put.push((place, peer)),
                Ok(None) => *fate = Some(Fate::Missing),
                Err(error) => {
                    failure = Some(error.to_string());
                    break;
                }
            }
        }
        let (kept, trouble) = self.dead_letters.commit();
        let (name, dir) = (&self.context.destination, self.dead_letters.dir().display());
        for (place, peer) in put.into_iter().take(kept) {
            let fate = self.window[place].fate.replace(Fate::DeadLetter);
            let Some(Fate::Refused(reason)) = fate else { continue };
            self.context.notices.repeated(&format!("{name} dead"), || {
                format!(
                    "{name} refuses a record of {peer} for good: {reason}; it and others like it are kept \
                     in {dir}"
                )
            });
        }
        if let Some(failure) = trouble.or(failure) {
            self.dead_letter_failed_at = Some(Instant::now());
            self.context.notices.repeated(&format!("{name} unburied"), || {
                let waiting = self.waiting();
                format!(
                    "{name}: records that it refuses for good cannot be kept in {dir}: {failure}; retrying; \
                     {waiting}"
                )
            });
        }
    }
}
