//! Settling a round of sends: each result is judged once. Its owner (replies, a load) counts it, or keeps the send to try
//! it again.
//!
//! ```text
//!  entries   │ 0 │ 1 │ 2 │ 3 │ 4 │ …        results of a round: one for each entry tried
//!              ▲ cursor
//!  judged    sent full sent fail │           Settled, Again or Full, by the owner
//!  kept                │ 1 │ 4 │ …           up against the entries not tried yet; the cursor moves there
//! ```

use crate::backend::outgoing::SENDS_MAX;
use crate::backend::tx::{Cursor, Sent};
use crate::batch::arena::{Entry, datagrams_of};

/// The meaning of one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The kernel took the send.
    Sent,
    /// The send buffer has no room now (EAGAIN).
    Full,
    /// A signal interrupted the call (EINTR).
    Interrupted,
    /// The path does not take segmented sends: a segment is over the MTU (EMSGSIZE), the device has no checksum offload
    /// (EIO), or there are too many segments (EINVAL).
    TrainRefused,
    /// The kernel refused the send with this errno.
    Failed(i32),
}

impl Verdict {
    /// Returns the meaning of a result; `train`: the send was segmented.
    #[must_use]
    pub fn of(sent: Sent, train: bool) -> Self {
        match sent {
            Sent::All => Self::Sent,
            Sent::Failed(libc::EAGAIN) => Self::Full,
            Sent::Failed(libc::EINTR) => Self::Interrupted,
            Sent::Failed(libc::EMSGSIZE | libc::EIO | libc::EINVAL) if train => Self::TrainRefused,
            Sent::Failed(errno) => Self::Failed(errno),
        }
    }
}

/// One send of a round, with its result.
#[derive(Clone, Copy, Debug)]
pub struct Judged {
    /// The meaning of the result.
    pub verdict: Verdict,
    /// Index of its entry in the batch.
    pub entry: usize,
    /// The datagram of a train that was sent datagram by datagram; `None`: the whole entry was sent.
    pub piece: Option<usize>,
    /// Number of the send in its round, and how many there were.
    pub place: (usize, usize),
    /// Index of the listener.
    pub listener: usize,
    /// Datagrams of the send.
    pub datagrams: u64,
}

/// The owner's decision about a send.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Counted: sent, failed or given up.
    Settled,
    /// To be tried again at once.
    Again,
    /// To be tried again when there is room.
    Full,
}

/// The owner of a batch of sends.
pub trait SendOwner {
    /// An error that ends the sending.
    type Error;

    /// Returns an entry of the batch.
    fn entry(&self, index: usize) -> Entry;

    /// Counts a send, or says that it is to be tried again.
    ///
    /// # Errors
    /// The sending cannot go on.
    fn judge(&mut self, send: Judged) -> Result<Next, Self::Error>;
}

/// A settled round.
#[derive(Clone, Copy, Debug)]
pub struct Round {
    /// Entries that were tried.
    pub tried: usize,
    /// Whether each of them, counted from the cursor, is to be tried again.
    pub again: [bool; SENDS_MAX],
    /// The verdict on the first of those.
    pub first_kept: Option<Verdict>,
    /// A listener whose send buffer is full.
    pub full: Option<usize>,
}

/// Settles the results of entries that were sent whole, from the cursor on. The owner then keeps the entries that are to
/// be tried again.
///
/// # Errors
/// As [`SendOwner::judge`].
pub fn settle_round<O: SendOwner>(
    owner: &mut O,
    cursor: Cursor,
    results: &[Sent],
) -> Result<Round, O::Error> {
    let (again, tried) = ([false; SENDS_MAX], results.len());
    let mut round = Round { tried, again, first_kept: None, full: None };
    for (distance, sent) in results.iter().enumerate() {
        let index = cursor.entry + distance;
        let entry = owner.entry(index);
        let verdict = Verdict::of(*sent, entry.segment_bytes > 0);
        let listener = usize::from(entry.listener);
        let next = owner.judge(Judged {
            verdict,
            entry: index,
            piece: None,
            place: (distance, tried),
            listener,
            datagrams: datagrams_of(&entry),
        })?;
        if next == Next::Settled {
            continue;
        }
        round.again[distance] = true;
        round.first_kept.get_or_insert(verdict);
        if next == Next::Full {
            round.full = Some(listener);
        }
    }
    Ok(round)
}

/// Settles the results of a train at the cursor that was sent datagram by datagram, in order. Returns the cursor at the
/// first datagram to be tried again, or behind the train, and the listener if its send buffer is full.
///
/// # Errors
/// As [`SendOwner::judge`].
pub fn settle_split<O: SendOwner>(
    owner: &mut O,
    mut cursor: Cursor,
    results: &[Sent],
) -> Result<(Cursor, Option<usize>), O::Error> {
    let entry = owner.entry(cursor.entry);
    let segment = usize::from(entry.segment_bytes).max(1);
    let listener = usize::from(entry.listener);
    let mut full = None;
    for (distance, sent) in results.iter().enumerate() {
        let next = owner.judge(Judged {
            verdict: Verdict::of(*sent, false),
            entry: cursor.entry,
            piece: Some(cursor.offset / segment),
            place: (distance, results.len()),
            listener,
            datagrams: 1,
        })?;
        if next != Next::Settled {
            full = (next == Next::Full).then_some(listener);
            break;
        }
        cursor.offset += segment;
    }
    if cursor.offset >= entry.len as usize {
        cursor = Cursor { entry: cursor.entry + 1, offset: 0 };
    }
    Ok((cursor, full))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::batch::arena::{Batch, Frame};
    use std::net::SocketAddr;

    /// Tries again for want of room, and once more after a signal.
    struct Owner(Batch, Vec<Judged>);

    impl SendOwner for Owner {
        type Error = i32;

        fn entry(&self, index: usize) -> Entry {
            self.0.entries()[index]
        }

        fn judge(&mut self, send: Judged) -> Result<Next, i32> {
            self.1.push(send);
            match send.verdict {
                Verdict::Full => Ok(Next::Full),
                Verdict::Interrupted => Ok(Next::Again),
                Verdict::Failed(libc::EBADF) => Err(libc::EBADF),
                _ => Ok(Next::Settled),
            }
        }
    }

    fn owner() -> Owner {
        let mut batch = Batch::new(4096, 8, 0);
        let peer = SocketAddr::from(([192, 0, 2, 1], 9));
        for listener in 0..4 {
            let frame = Frame::datagram(peer, &[7; 100]).at_listener(listener).in_segments(40);
            assert!(batch.push(&frame, 0));
        }
        Owner(batch, Vec::new())
    }

    #[test]
    fn a_round_keeps_what_its_owner_says() {
        let mut owner = owner();
        let failed = Sent::Failed;
        let results = [Sent::All, failed(libc::EINTR), failed(libc::EAGAIN), failed(libc::EIO)];
        let round = settle_round(&mut owner, Cursor::default(), &results).unwrap();
        assert_eq!(round.again[..5], [false, true, true, false, false]);
        assert_eq!((round.tried, round.full), (4, Some(2)));
        assert_eq!(round.first_kept, Some(Verdict::Interrupted));
        assert_eq!(owner.1[3].verdict, Verdict::TrainRefused, "EIO of a train");
        assert!(owner.1.iter().all(|send| send.datagrams == 3 && send.piece.is_none()));
        let ended = settle_round(&mut owner, Cursor::default(), &[failed(libc::EBADF)]);
        assert_eq!(ended.unwrap_err(), libc::EBADF);
    }

    #[test]
    fn a_split_train_stops_at_the_first_piece_kept() {
        let mut owner = owner();
        let start = Cursor { entry: 1, offset: 0 };
        let results = [Sent::All, Sent::Failed(libc::EAGAIN), Sent::All];
        let (cursor, full) = settle_split(&mut owner, start, &results).unwrap();
        assert_eq!((cursor, full), (Cursor { entry: 1, offset: 40 }, Some(1)));
        let results = [Sent::Failed(libc::EMSGSIZE), Sent::All];
        let (cursor, full) = settle_split(&mut owner, cursor, &results).unwrap();
        assert_eq!((cursor, full), (Cursor { entry: 2, offset: 0 }, None), "failed is settled");
        let pieces: Vec<_> = owner.1.iter().map(|send| send.piece).collect();
        assert_eq!(pieces, [Some(0), Some(1), Some(1), Some(2)]);
    }
}
