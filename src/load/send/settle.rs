//! Counting of a load's sends, over the settling that replies use too ([`ringest_engine::send::settle`]).

use std::io;
use std::sync::atomic::Ordering;

use crate::receive::echo::Echo;
use crate::report::{LoadError, note_error};
use crate::send::sender::Sender;
use ringest_base::sys::clock;
use ringest_engine::backend::sockets::Sockets;
use ringest_engine::backend::tx::Tx;
use ringest_engine::batch::arena::Entry;
use ringest_engine::send::settle::{Judged, Next, SendOwner, Verdict, settle_round, settle_split};
use ringest_engine::socket::connected::Connected;

/// "Port unreachable" within this time of the start means that no receiver was ever there, ns.
const REFUSED_NS: u64 = 1_000_000_000;
/// The same for "host unreachable", ns: a neighbour that does not answer is given up after three questions, a second apart
/// (arp(7), mcast_solicit).
const UNREACHABLE_NS: u64 = 5_000_000_000;

impl<B: Tx + Sockets<Socket = Connected>, E: Echo<B>> SendOwner for Sender<'_, B, E> {
    type Error = LoadError;

    fn entry(&self, index: usize) -> Entry {
        self.round.batch.entries()[index]
    }

    fn judge(&mut self, send: Judged) -> Result<Next, LoadError> {
        let Judged { verdict, datagrams, .. } = send;
        match verdict {
            Verdict::Sent => {
                self.report.sent += datagrams;
                self.errors_in_a_row = 0;
                self.record_lateness(&send);
            }
            Verdict::Full => {
                self.report.blocked += datagrams * u64::from(self.round.note_full(send.entry));
                return Ok(Next::Full);
            }
            Verdict::Interrupted => return Ok(Next::Again),
            Verdict::TrainRefused => {
                self.report.trains_refused = true;
                self.source.refuse_trains();
                return Ok(Next::Again);
            }
            // The error of an earlier datagram: this one was not sent, and is tried again. Each socket may hold one such
            // error. With more in a row the kernel refuses this datagram itself: the route was removed.
            Verdict::Failed(
                errno @ (libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH),
            ) => {
                self.note_unreachable(errno, send.listener)?;
                self.errors_in_a_row += 1;
                if self.errors_in_a_row <= self.share.flows.len() + 8 {
                    return Ok(Next::Again);
                }
                self.count_failed(errno, datagrams);
            }
            Verdict::Failed(errno @ (libc::EMSGSIZE | libc::EINVAL))
                if self.spec.replay.is_none() =>
            {
                return Err(impossible(errno));
            }
            Verdict::Failed(libc::ENOBUFS) => self.report.qdisc_dropped += datagrams,
            Verdict::Failed(errno) => self.count_failed(errno, datagrams),
        }
        if send.piece.is_some() {
            // The next datagram of the train has not found the buffer full yet.
            self.round.forget_full(send.entry);
        }
        Ok(Next::Settled)
    }
}

impl<B: Tx + Sockets<Socket = Connected>, E: Echo<B>> Sender<'_, B, E> {
    /// Settles one round; sends to be tried again stay at the cursor. Returns a listener whose send buffer is full.
    pub(crate) fn settle(&mut self, split: bool) -> Result<Option<usize>, LoadError> {
        let results = std::mem::take(&mut self.results);
        let cursor = self.round.cursor;
        let full = if split {
            let (cursor, full) = settle_split(self, cursor, &results)?;
            self.round.cursor = cursor;
            full
        } else {
            let settled = settle_round(self, cursor, &results)?;
            if settled.again.contains(&true) {
                self.be_careful();
            }
            self.round.keep(settled.tried, &settled.again);
            settled.full
        };
        self.results = results;
        Ok(full)
    }

    fn count_failed(&mut self, errno: i32, datagrams: u64) {
        self.report.send_failed += datagrams;
        note_error(&mut self.report.errors, errno, datagrams);
    }

    /// Returns whether an error that comes back now may still mean that no receiver was ever there.
    pub(crate) fn is_greeting(&self, now_ns: u64) -> bool {
        self.spec.needs_receiver && now_ns.saturating_sub(self.start_ns) <= UNREACHABLE_NS
    }

    /// Notes an ICMP error that came back, or that the route is gone.
    ///
    /// # Errors
    /// The error came so soon after the start that no receiver was ever there.
    pub(crate) fn note_unreachable(
        &mut self,
        errno: i32,
        listener: usize,
    ) -> Result<(), LoadError> {
        let queued = self.backend.sockets().get(listener).map_or(0, |it| it.discard_errors());
        self.report.unreachable += queued.max(1);
        let (target, sent) = (self.spec.target, self.report.sent);
        let since_ns = clock::monotonic_ns().saturating_sub(self.start_ns);
        match errno {
            _ if !self.spec.needs_receiver => Ok(()),
            libc::ECONNREFUSED if since_ns <= REFUSED_NS => {
                Err(LoadError::Refused { target, sent })
            }
            libc::EHOSTUNREACH | libc::ENETUNREACH if since_ns <= UNREACHABLE_NS => {
                Err(LoadError::Unreachable { target, source: io::Error::from_raw_os_error(errno) })
            }
            _ => Ok(()),
        }
    }

    /// Returns when a send of the last transmission was made, ns: the sends are spread evenly over the time that all of
    /// them took.
    fn sent_ns(&self, (distance, of): (usize, usize)) -> u64 {
        let (began_ns, ended_ns) = self.sent_between_ns;
        let took_ns = ended_ns.saturating_sub(began_ns);
        began_ns + took_ns / of.max(1) as u64 * distance as u64
    }

    /// Records how late each datagram of a send was.
    fn record_lateness(&mut self, send: &Judged) {
        let sent_ns = self.sent_ns(send.place);
        if let Some(piece) = send.piece {
            let due_ns = self.round.due_ns(send.entry)[piece];
            return self.record(due_ns, sent_ns, 1);
        }
        let mut at = 0;
        while let Some(&due_ns) = self.round.due_ns(send.entry).get(at) {
            let alike = |other: &&u64| **other == due_ns;
            let times = self.round.due_ns(send.entry)[at..].iter().take_while(alike).count();
            self.record(due_ns, sent_ns, times as u64);
            at += times;
        }
    }

    fn record(&mut self, due_ns: u64, sent_ns: u64, times: u64) {
        if self.flat_out {
            return;
        }
        let late_ns = sent_ns.saturating_sub(due_ns);
        self.report.lateness_ns.saturating_record_n(late_ns, times);
        self.report.behind_at_end_ns = late_ns;
        self.share.progress.behind_ns.store(late_ns, Ordering::Relaxed);
    }
}

fn impossible(errno: i32) -> LoadError {
    let hint = match errno {
        libc::EMSGSIZE => "they are too long for this path; lower --size",
        _ => "please report the command",
    };
    LoadError::Impossible { source: io::Error::from_raw_os_error(errno), hint }
}
