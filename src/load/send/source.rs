//! Where a sender's datagrams come from.

use crate::report::LoadError;
use crate::send::generated::GeneratedSource;
use crate::send::replayed::ReplaySource;
use crate::send::round::Round;
use crate::send::share::Share;
use crate::spec::LoadSpec;

/// Hands out what is due, and knows in the end what should have been.
#[derive(Debug)]
pub(crate) enum Source {
    /// GeneratedSource on the spot.
    GeneratedSource(Box<GeneratedSource>),
    /// Out of a capture.
    ReplaySource(Box<ReplaySource>),
}

impl Source {
    /// # Errors
    /// The capture cannot be read.
    pub(crate) fn new(spec: &LoadSpec, share: &Share) -> Result<Self, LoadError> {
        Ok(match &spec.replay {
            None => Self::GeneratedSource(Box::new(GeneratedSource::new(spec, share))),
            Some(replay) => Self::ReplaySource(Box::new(ReplaySource::new(spec, replay, share)?)),
        })
    }

    /// Everything is due from here on, and nothing from `end_ns` on.
    pub(crate) fn start(&mut self, start_ns: u64, end_ns: u64) {
        match self {
            Self::GeneratedSource(made) => made.start(start_ns, end_ns),
            Self::ReplaySource(played) => played.start(start_ns, end_ns),
        }
    }

    /// Whether all has been staged that ever will be.
    pub(crate) fn is_exhausted(&self) -> bool {
        match self {
            Self::GeneratedSource(made) => made.is_exhausted(),
            Self::ReplaySource(played) => played.is_exhausted(),
        }
    }

    /// When something is due next, `CLOCK_MONOTONIC`.
    pub(crate) fn next_ns(&self) -> u64 {
        match self {
            Self::GeneratedSource(made) => made.next_ns(),
            Self::ReplaySource(played) => played.next_ns(),
        }
    }

    /// Puts into an empty round what is due by now, as much as it takes.
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

    /// The path takes no trains.
    pub(crate) fn refuse_trains(&mut self) {
        match self {
            Self::GeneratedSource(made) => made.refuse_trains(),
            Self::ReplaySource(played) => played.refuse_trains(),
        }
    }

    /// `count` datagrams, the last ones of a flow, were staged and never sent.
    pub(crate) fn take_back(&mut self, flow: usize, count: u64) {
        match self {
            Self::GeneratedSource(made) => made.take_back(flow, count),
            Self::ReplaySource(played) => played.take_back(flow, count),
        }
    }

    /// How many datagrams of each of this thread's flows have been given out.
    pub(crate) fn issued(&self) -> &[u64] {
        match self {
            Self::GeneratedSource(made) => made.issued(),
            Self::ReplaySource(played) => played.issued(),
        }
    }

    /// How many were due by `ended_ns` after the start; `tried` have been sent or refused.
    pub(crate) fn intended(&mut self, ended_ns: u64, tried: u64) -> Result<u64, LoadError> {
        match self {
            Self::GeneratedSource(made) => Ok(made.intended(ended_ns, tried)),
            Self::ReplaySource(played) => played.intended(ended_ns, tried),
        }
    }

    /// The time that what was tried takes at a constant rate, ns; 0 where that is not known.
    pub(crate) fn span_ns(&self, tried: u64) -> u64 {
        match self {
            Self::GeneratedSource(made) => made.span_ns(tried),
            Self::ReplaySource(played) => played.span_ns(),
        }
    }
}
