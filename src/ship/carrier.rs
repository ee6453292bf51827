//! What a shipper asks of a broker's client.

use std::fmt::{self, Debug, Display};
use std::net::SocketAddr;
use std::time::Duration;

use ringest_records::journal::format::Header;

/// Which record of which journal: the same after a crash, and never another's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// What the segment is called outside: follows from its salt, so that journals differ, and does not tell it.
    /// Whoever knew the salt could send a payload that passes for a piece of the segment.
    pub segment: u64,
    /// Whose segment it is.
    pub worker: u16,
    /// The segment's number among that worker's.
    pub sequence: u64,
    /// Where in it the record stands, bytes.
    pub offset: u64,
}

impl MessageId {
    /// That of what stands at the beginning of a segment.
    #[must_use]
    pub fn first_of(header: &Header, worker: u16, sequence: u64) -> Self {
        let hash =
            blake3::derive_key("ringest 2026 message ids of a segment", &header.salt.to_le_bytes());
        let segment = hash.first_chunk().map_or(0, |bytes| u64::from_le_bytes(*bytes));
        Self { segment, worker, sequence, offset: 0 }
    }
}

impl Display for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { segment, worker, sequence, offset } = self;
        write!(out, "{segment:016x}-{worker}-{sequence}-{offset}")
    }
}

/// A record on its way to a broker.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// What a verdict names it by: one more than the one before it that was taken, from any number on after
    /// a [reset](Carrier::reset).
    pub ticket: u64,
    /// What the broker may know it by.
    pub id: MessageId,
    /// Who sent it: records of one peer keep their order.
    pub peer: SocketAddr,
    /// Index of the listen address.
    pub listener: u16,
    /// When its datagram was received, ns since 1970.
    pub received_unix_ns: u64,
    /// The record.
    pub payload: &'a [u8],
}

/// What became of an attempt to hand a message over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// It is under way; a verdict will follow.
    Taken,
    /// There is no room now: [poll](Carrier::poll), and try again.
    Full,
    /// The client refuses it. No verdict follows this one.
    Refused(Verdict),
}

/// What is known of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The broker has it, as durably as it was asked to.
    Acknowledged,
    /// The broker will never take it, and why: it is too large, for example. Others may pass.
    Rejected(String),
    /// It may have it or not, and why: everything from this message on is to be sent again, in order,
    /// after a [reset](Carrier::reset). For what can heal: no connection, no such topic yet, a wrong password.
    Again(String),
}

/// A broker's client, as one shipper uses it.
///
/// Messages of one peer must reach the broker's log in the order of their tickets: also when one in the
/// middle fails, a later one of the same peer must not get in before it is sent again.
pub trait Carrier: Send + Debug {
    /// Hands a message over. Never blocks for long: connecting, and waiting for acknowledgements, is
    /// [`poll`](Self::poll)'s.
    fn submit(&mut self, message: &Message<'_>) -> Submitted;

    /// Moves on, and tells what is known of messages under way, in any order. Waits for that up to `bound`,
    /// unless there is something to tell at once.
    fn poll(&mut self, bound: Duration, verdicts: &mut Vec<(u64, Verdict)>);

    /// Forgets all messages under way: no verdict on them follows, and none of them is sent any more.
    fn reset(&mut self);

    /// What keeps it from its work at the moment, to be told to the operator; without secrets.
    fn trouble(&self) -> Option<String>;
}
