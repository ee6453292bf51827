//! The source of a sender's datagrams.

use crate::report::LoadError;
use crate::send::generated::GeneratedSource;
use crate::send::replayed::ReplaySource;
use crate::send::round::Round;
use crate::send::share::Share;
use crate::spec::LoadSpec;

/// A source: stages datagrams that are due, and knows at the end how many were.
#[derive(Debug)]
pub(crate) enum Source {
    /// Generates them.
    GeneratedSource(Box<GeneratedSource>),
    /// Replays a capture or a journal.
    ReplaySource(Box<ReplaySource>),
}

impl Source {
    /// Returns the source of a thread's share of a load.
    ///
    /// # Errors
    /// The capture cannot be read.
    pub(crate) fn new(spec: &LoadSpec, share: &Share) -> Result<Self, LoadError> {
        Ok(match &spec.replay {
            None => Self::GeneratedSource(Box::new(GeneratedSource::new(spec, share))),
            Some(replay) => Self::ReplaySource(Box::new(ReplaySource::new(spec, replay, share)?)),
        })
    }

    /// Starts the schedule at `start_ns`; nothing is due from `end_ns` on.
    pub(crate) fn start(&mut self, start_ns: u64, end_ns: u64) {
        match self {
            Self::GeneratedSource(made) => made.start(start_ns, end_ns),
            Self::ReplaySource(played) => played.start(start_ns, end_ns),
        }
    }

    /// Returns whether every datagram has been staged.
    pub(crate) fn is_exhausted(&self) -> bool {
        match self {
            Self::GeneratedSource(made) => made.is_exhausted(),
            Self::ReplaySource(played) => played.is_exhausted(),
        }
    }

    /// Returns when the next datagram is due, `CLOCK_MONOTONIC` ns.
    pub(crate) fn next_ns(&self) -> u64 {
        match self {
            Self::GeneratedSource(made) => made.next_ns(),
            Self::ReplaySource(played) => played.next_ns(),
        }
    }

    /// Empties the round, and stages the datagrams due by now, as many as it takes.
    pub(crate) fn stage(&mut self, now_ns: u64, round: &mut Round) -> Result<(), LoadError> {
        round.clear();
        match self {
            Self::GeneratedSource(made) => {
                made.stage(now_ns, round);
                Ok(())
            }
            Self::ReplaySource(played) => played.stage(now_ns, round),
        }
    }

    /// Stops building trains: the path takes none.
    pub(crate) fn refuse_trains(&mut self) {
        match self {
            Self::GeneratedSource(made) => made.refuse_trains(),
            Self::ReplaySource(played) => played.refuse_trains(),
        }
    }

    /// Takes back the last `count` datagrams of a flow, which were staged and never sent.
    pub(crate) fn take_back(&mut self, flow: usize, count: u64) {
        match self {
            Self::GeneratedSource(made) => made.take_back(flow, count),
            Self::ReplaySource(played) => played.take_back(flow, count),
        }
    }

    /// Returns how many datagrams of each of this thread's flows were staged.
    pub(crate) fn issued(&self) -> &[u64] {
        match self {
            Self::GeneratedSource(made) => made.issued(),
            Self::ReplaySource(played) => played.issued(),
        }
    }

    /// Returns how many were due by `ended_ns` after the start; `tried` were sent or refused.
    pub(crate) fn intended(&mut self, ended_ns: u64, tried: u64) -> Result<u64, LoadError> {
        match self {
            Self::GeneratedSource(made) => Ok(made.intended(ended_ns, tried)),
            Self::ReplaySource(played) => played.intended(ended_ns, tried),
        }
    }

    /// Returns the time that `tried` datagrams take at a constant rate, ns; 0 where that is not known.
    pub(crate) fn span_ns(&self, tried: u64) -> u64 {
        match self {
            Self::GeneratedSource(made) => made.span_ns(tried),
            Self::ReplaySource(played) => played.span_ns(),
        }
    }
}
