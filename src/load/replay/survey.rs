//! Surveys a recording before any of it is sent.

use std::collections::HashSet;

use crate::replay::error::{ReplayError, Skipped};
use crate::replay::recording::Tape;
use crate::stamp::FLOWS_MAX;

/// The totals of a recording. They tell the sockets, the memory and the time that a replay takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Survey {
    /// Datagrams that can be replayed.
    pub datagrams: u64,
    /// Payload bytes of all of them.
    pub bytes: u64,
    /// The largest payload, bytes.
    pub payload_max: usize,
    /// Different senders (address and port), at most [`FLOWS_MAX`]; further ones are not counted.
    pub flows: usize,
    /// Time from the first to the last datagram, ns.
    pub span_ns: u64,
    /// Datagrams with a time before that of an earlier one.
    pub backwards: u64,
    /// Skipped packets.
    pub skipped: Skipped,
}

impl Survey {
    /// Reads a recording to its end. Memory is bounded by [`FLOWS_MAX`] addresses.
    ///
    /// # Errors
    /// Those of [`Tape::next_datagram`].
    pub fn of(mut tape: Tape) -> Result<Self, ReplayError> {
        let mut survey = Self::default();
        let mut sources = HashSet::new();
        while let Some(datagram) = tape.next_datagram()? {
            survey.bytes += datagram.payload.len() as u64;
            survey.payload_max = survey.payload_max.max(datagram.payload.len());
            survey.span_ns = datagram.offset_ns;
            if sources.len() < FLOWS_MAX {
                sources.insert(datagram.source);
            }
        }
        survey.datagrams = tape.datagrams();
        survey.flows = sources.len();
        survey.backwards = tape.backwards();
        survey.skipped = tape.skipped();
        Ok(survey)
    }
}
