//! What became of each send: counted, or to be tried again.

use std::io;
use std::sync::atomic::Ordering;

use crate::receive::echo::Echo;
use crate::report::{LoadError, note_error};
use crate::send::sender::Sender;
use ringest_base::sys::clock;
use ringest_engine::backend::outgoing::SENDS_MAX;
use ringest_engine::backend::sockets::Sockets;
use ringest_engine::backend::tx::{Sent, Tx};
use ringest_engine::batch::arena::datagrams_of;
use ringest_engine::socket::connected::Connected;

/// "Port unreachable" within this time of the start means that nobody was ever there.
const REFUSED_NS: u64 = 1_000_000_000;
/// The same for "host unreachable": a neighbour that does not answer is given up after three questions,
/// a second apart (arp(7), mcast_solicit).
const UNREACHABLE_NS: u64 = 5_000_000_000;

/// What one result means for its datagrams.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judged {
    Sent,
    /// Gone, and counted.
    Failed,
    /// To be tried again at once.
    Again,
    /// To be tried again when there is room.
    Full,
}

impl<B: Tx + Sockets<Socket = Connected>, E: Echo<B>> Sender<'_, B, E> {
    /// Accounts for one round; what is to be tried again stays at the cursor. Returns a listener whose
    /// send buffer is full.
    pub(crate) fn settle(&mut self) -> Result<Option<usize>, LoadError> {
        let mut again = [false; SENDS_MAX];
        let mut full = None;
        let results = std::mem::take(&mut self.results);
        let tried = results.len();
        for (distance, sent) in results.iter().enumerate() {
            let index = self.round.cursor.entry + distance;
            let entry = self.round.batch.entries()[index];
            let datagrams = datagrams_of(&entry);
            let listener = usize::from(entry.listener);
            match self.judge(*sent, datagrams, entry.segment_bytes > 0, listener)? {
                Judged::Sent => self.record_lateness(index, (distance, tried)),
                Judged::Failed => {}
                Judged::Again => again[distance] = true,
                Judged::Full => {
                    again[distance] = true;
                    full = Some(listener);
                    self.report.blocked += datagrams * u64::from(self.round.note_full(index));
                }
            }
        }
        if again.contains(&true) {
            self.be_careful();
        }
        self.results = results;
        self.round.keep(tried, &again);
        Ok(full)
    }

    /// The same for a train that was sent datagram by datagram.
    pub(crate) fn settle_split(&mut self) -> Result<Option<usize>, LoadError> {
        let index = self.round.cursor.entry;
        let entry = self.round.current();
        let listener = usize::from(entry.listener);
        let results = std::mem::take(&mut self.results);
        let mut full = None;
        for (distance, sent) in results.iter().enumerate() {
            match self.judge(*sent, 1, false, listener)? {
                Judged::Sent => {
                    let at = self.round.cursor.offset / usize::from(entry.segment_bytes).max(1);
                    let due_ns = self.round.due_ns(index)[at];
                    self.record(due_ns, self.sent_ns((distance, results.len())), 1);
                }
                Judged::Failed => {}
                Judged::Again => break,
                Judged::Full => {
                    full = Some(listener);
                    self.report.blocked += u64::from(self.round.note_full(index));
                    break;
                }
            }
            self.round.step_in_train();
        }
        self.results = results;
        Ok(full)
    }

    /// What one result means, counted.
    fn judge(
        &mut self,
        sent: Sent,
        datagrams: u64,
        train: bool,
        listener: usize,
    ) -> Result<Judged, LoadError> {
        let Sent::Failed(errno) = sent else {
            self.report.sent += datagrams;
            self.told_in_a_row = 0;
            return Ok(Judged::Sent);
        };
        match errno {
            libc::EAGAIN => Ok(Judged::Full),
            libc::EINTR => Ok(Judged::Again),
            // Of an earlier datagram: this one was not sent, and is tried again.
            libc::ECONNREFUSED | libc::EHOSTUNREACH | libc::ENETUNREACH => {
                self.told(errno, listener)?;
                self.told_in_a_row += 1;
                // Each socket may hold one such error. More in a row, and it is this datagram that the
                // kernel refuses: the route has gone.
                if self.told_in_a_row > self.share.flows.len() + 8 {
                    self.report.send_failed += datagrams;
                    note_error(&mut self.report.errors, errno, datagrams);
                    return Ok(Judged::Failed);
                }
                Ok(Judged::Again)
            }
            libc::EMSGSIZE | libc::EIO | libc::EINVAL if train => {
                self.report.trains_refused = true;
                self.source.refuse_trains();
                Ok(Judged::Again)
            }
            libc::EMSGSIZE | libc::EINVAL if self.spec.replay.is_none() => Err(impossible(errno)),
            libc::ENOBUFS => {
                self.report.qdisc_dropped += datagrams;
                Ok(Judged::Failed)
            }
            _ => {
                self.report.send_failed += datagrams;
                note_error(&mut self.report.errors, errno, datagrams);
                Ok(Judged::Failed)
            }
        }
    }

    /// Whether an error that comes back now may still mean that nobody was ever there.
    pub(crate) fn is_greeting(&self, now_ns: u64) -> bool {
        self.spec.needs_receiver && now_ns.saturating_sub(self.start_ns) <= UNREACHABLE_NS
    }

    /// An ICMP error came back, or the route is gone. At the beginning that means nobody is there.
    pub(crate) fn told(&mut self, errno: i32, listener: usize) -> Result<(), LoadError> {
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

    /// When a send of the last transmission was made, of which there were so many: they are spread over
    /// the time that all of them took.
    fn sent_ns(&self, (distance, of): (usize, usize)) -> u64 {
        let (began_ns, ended_ns) = self.sent_between_ns;
        let took_ns = ended_ns.saturating_sub(began_ns);
        began_ns + took_ns / of.max(1) as u64 * distance as u64
    }

    /// An entry was sent: each of its datagrams is so late.
    fn record_lateness(&mut self, entry: usize, place: (usize, usize)) {
        let sent_ns = self.sent_ns(place);
        let mut at = 0;
        while let Some(&due_ns) = self.round.due_ns(entry).get(at) {
            let alike = |other: &&u64| **other == due_ns;
            let times = self.round.due_ns(entry)[at..].iter().take_while(alike).count();
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
