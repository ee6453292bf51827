//! What a shipper asks of a broker's client.

use std::fmt::{self, Debug, Display};
use std::net::SocketAddr;
use std::time::Duration;

/// Which record of which journal: the same after a crash, and never another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct MessageId {
    /// The segment's salt: random, so that journals differ.
    pub salt: u64,
    /// Whose segment it is.
    pub worker: u16,
    /// The segment's number among that worker's.
    pub sequence: u64,
    /// Where in it the record stands, bytes.
    pub offset: u64,
}

impl Display for MessageId {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { salt, worker, sequence, offset } = self;
        write!(out, "{salt:016x}-{worker}-{sequence}-{offset}")
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
