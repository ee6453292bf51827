//! The interface between a shipper and a broker's client.

use std::fmt::{self, Debug, Display};
use std::net::SocketAddr;
use std::time::Duration;

use ringest_records::journal::format::Header;

/// Identifies a record of a journal: the same after a crash, and different from every other record's.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// Public name of the segment, derived from its salt. It differs between journals and does not reveal
    /// the salt: whoever knew that could send a payload that passes for a part of the segment.
    pub segment: u64,
    /// Worker that wrote the segment.
    pub worker: u16,
    /// Number of the segment among this worker's.
    pub sequence: u64,
    /// Offset of the record in the segment, bytes.
    pub offset: u64,
}

impl MessageId {
    /// Returns the ID of a segment's beginning (offset 0).
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

/// A record to be handed to a broker.
#[derive(Clone, Copy, Debug)]
pub struct Message<'a> {
    /// Number by which verdicts name the message: one more than that of the last message taken. After a
    /// [reset](Carrier::reset) it may start anywhere.
    pub ticket: u64,
    /// ID that the broker may use to find duplicates.
    pub id: MessageId,
    /// The sender's address. Records of one peer keep their order.
    pub peer: SocketAddr,
    /// Index of the listen address.
    pub listener: u16,
    /// Receive time of its datagram, ns since 1970.
    pub received_unix_ns: u64,
    /// The payload.
    pub payload: &'a [u8],
}

/// The result of handing a message over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Submitted {
    /// The message is under way. A verdict will follow.
    Taken,
    /// There is no room now: [poll](Carrier::poll), then try again.
    Full,
    /// The client refuses the message. No further verdict follows.
    Refused(Verdict),
}

/// The fate of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The broker has stored it, as durably as it was asked to.
    Acknowledged,
    /// The broker will never accept it, and why (too large, for example). Others may be accepted.
    Rejected(String),
    /// It is unknown whether the broker has it, and why. Everything from this message on must be sent
    /// again, in order, after a [reset](Carrier::reset). For problems that can end: no connection, a topic
    /// that does not exist yet, a wrong password.
    Again(String),
}

/// A broker's client, used by one shipper.
///
/// Messages of one peer must reach the broker's log in the order of their tickets. When one fails, no later
/// one of the same peer may be stored before it is sent again.
pub trait Carrier: Send + Debug {
    /// Hands a message over. Does not block: connecting and waiting for acknowledgements happen in
    /// [`poll`](Self::poll).
    fn submit(&mut self, message: &Message<'_>) -> Submitted;

    /// Makes progress, and appends verdicts on messages under way, in any order. Waits up to `bound` for
    /// the first one.
    fn poll(&mut self, bound: Duration, verdicts: &mut Vec<(u64, Verdict)>);

    /// Forgets all messages under way: no verdict on them follows, and none of them is sent any more.
    fn reset(&mut self);

    /// Returns the problem that keeps the carrier from delivering now, for the operator and without
    /// secrets, or `None`.
    fn trouble(&self) -> Option<String>;
}
