//! A record that was sent and is not settled yet.

use crate::carrier::MessageId;
use crate::lane::Step;

/// Something that was sent, or is to be passed over, and is not settled yet.
#[derive(Debug)]
pub(crate) struct Flight {
    /// The carrier knows it by that, if it took it; else it is that of the next one that it takes.
    pub(crate) ticket: u64,
    pub(crate) worker: u16,
    pub(crate) step: Step,
    /// Which record; `None` for those that are missing.
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
    /// The broker will never take it, for this reason: it is a dead letter as soon as all in front of it are
    /// settled. Not before: it is sent again with them, and would be one again then.
    Refused(String),
    DeadLetter,
    Missing,
}
