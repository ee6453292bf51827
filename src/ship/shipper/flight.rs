//! A record that was sent and is not settled yet.

use crate::carrier::MessageId;
use crate::lane::Step;

/// A record that was sent, or records that are missing, not settled yet.
#[derive(Debug)]
pub(crate) struct Flight {
    /// Ticket of the message. A message that the carrier did not take has the ticket of the next one taken.
    pub(crate) ticket: u64,
    pub(crate) worker: u16,
    pub(crate) step: Step,
    /// ID of the record; `None` for missing records.
    pub(crate) id: Option<MessageId>,
    pub(crate) records: u64,
    pub(crate) datagrams: u64,
    pub(crate) bytes: usize,
    pub(crate) received_unix_ns: u64,
    pub(crate) fate: Option<Fate>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Acknowledged,
    /// The broker refuses it for this reason. It becomes a dead letter once everything in front of it has a
    /// fate: before that it could be sent again with the others, and would become a dead letter twice.
    Refused(String),
    DeadLetter,
    Missing,
}
