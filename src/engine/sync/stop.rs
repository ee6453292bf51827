//! The stop signal that every thread of an engine reads once a turn.

use std::sync::atomic::{AtomicU8, Ordering};

/// How an engine stops.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(u8)]
pub enum StopKind {
    /// Takes nothing new and finishes all that was taken.
    Drain = 1,
    /// Leaves everything as it is.
    Abort = 2,
}

/// The stop signal. A stop cannot be taken back, only made stricter.
#[derive(Debug, Default)]
pub struct Stop(AtomicU8);

impl Stop {
    /// Begins a stop of `kind`, unless a stricter one has begun.
    pub fn begin(&self, kind: StopKind) {
        self.0.fetch_max(kind as u8, Ordering::SeqCst);
    }

    /// Returns the kind of stop that has begun; `None`: none has.
    #[must_use]
    pub fn kind(&self) -> Option<StopKind> {
        match self.0.load(Ordering::Relaxed) {
            0 => None,
            1 => Some(StopKind::Drain),
            _ => Some(StopKind::Abort),
        }
    }

    /// Returns whether a stop of any kind has begun.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.kind().is_some()
    }

    /// Returns whether to leave at once.
    #[must_use]
    pub fn is_abort(&self) -> bool {
        self.kind() == Some(StopKind::Abort)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stop_is_only_made_stricter() {
        let stop = Stop::default();
        assert!(!stop.has_begun());
        stop.begin(StopKind::Drain);
        assert_eq!((stop.kind(), stop.is_abort()), (Some(StopKind::Drain), false));
        stop.begin(StopKind::Abort);
        stop.begin(StopKind::Drain);
        assert!(stop.has_begun() && stop.is_abort());
    }
}
