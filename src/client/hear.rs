//! Waiting, and reading what the error queue has: each report counted once, for the peer it is about.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::client::Client;
use crate::error::{ClientError, Origin, PeerError, PeerErrorKind, failed};
use crate::errqueue;
use crate::errqueue::Report;

/// The kernel lets a poll end late by a thousandth of its timeout, or a two hundredth at a lower priority,
/// and up to 100 ms (fs/select.c, `select_estimate_accuracy`). So a wait longer than this is made of two,
/// of which the second is short. Too long and a deadline is missed by more than a few milliseconds; too
/// short, and the first may end after it.
const SPLIT_WAIT_ABOVE: Duration = Duration::from_secs(1);

/// The result of reading the error queue.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// This host's report about the send that was just tried.
    pub(crate) local: Option<Report>,
    /// Whether the error asked about was an earlier datagram's.
    pub(crate) was_earlier: bool,
    /// Whether the queue held any report.
    pub(crate) any: bool,
}

impl Client {
    /// Reads the error queue to its end. `errno` is the error that a call has just returned, if one has.
    pub(crate) fn hear(&mut self, errno: Option<i32>) -> Result<Told, ClientError> {
        let mut told = Told::default();
        while let Some(report) =
            errqueue::read(self.opened.socket.as_fd()).map_err(failed("recvmsg(MSG_ERRQUEUE)"))?
        {
            told.any = true;
            if report.is_local() {
                told.local = Some(report);
            } else {
                told.was_earlier |= errno == Some(report.errno);
                self.note(&report);
            }
        }
        Ok(told)
    }

    fn note(&mut self, report: &Report) {
        let Some(peer) = self.whose(report) else {
            self.unattributed += 1;
            return;
        };
        let kind = report.kind(peer.is_ipv6());
        let path_mtu = report.path_mtu.filter(|_| kind == PeerErrorKind::MessageTooLong);
        self.heard.add(PeerError { peer, kind, count: 1, path_mtu, origin: report.origin });
        if let Some((mtu, index)) = path_mtu.zip(self.opened.peers.find(peer)) {
            self.opened.peers.narrow(index, mtu);
        }
    }

    /// Returns the peer that a report is about; `None` if it names none.
    fn whose(&self, report: &Report) -> Option<SocketAddr> {
        if let [peer] = *self.peers()
            && self.opened.connected
        {
            return Some(peer);
        }
        let index = self.opened.peers.find(report.destination?)?;
        Some(self.opened.peers.address(index))
    }

    /// Counts an error whose report found no room. With one peer it is clear whom it is about.
    pub(crate) fn forgotten(&mut self, errno: Option<i32>) {
        let Some(errno) = errno else { return };
        if let [peer] = *self.peers() {
            let kind = PeerErrorKind::of_errno(errno);
            let origin = Origin::Forgotten { errno };
            self.heard.add(PeerError { peer, kind, count: 1, path_mtu: None, origin });
        } else {
            self.unattributed += 1;
        }
    }

    /// Waits until the socket is ready for `events`, an error was queued (it is recorded), or the deadline passed.
    /// Returns `false` on the deadline.
    pub(crate) fn wait(
        &mut self,
        events: PollFlags,
        deadline: Instant,
    ) -> Result<bool, ClientError> {
        let mut polled = vec![PollFd::new(self.opened.socket.as_fd(), events)];
        if let Some(interrupt) = &self.settings.interrupt {
            polled.push(PollFd::new(interrupt.as_fd(), PollFlags::POLLIN));
        }
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let nap = if left > SPLIT_WAIT_ABOVE { left - SPLIT_WAIT_ABOVE / 2 } else { left };
            match ppoll(&mut polled, Some(TimeSpec::from_duration(nap)), None) {
                Ok(0) if nap < left => {}
                Ok(0) => return Ok(false),
                Ok(_) => break,
                Err(Errno::EINTR) => return Ok(true),
                Err(errno) => return Err(failed("ppoll(2)")(errno.into())),
            }
        }
        if polled.get(1).is_some_and(|interrupt| interrupt.any().unwrap_or(false)) {
            return Err(ClientError::Interrupted);
        }
        let in_error = polled[0].revents().is_some_and(|got| got.contains(PollFlags::POLLERR));
        if in_error && !self.hear(None)?.any {
            // Its report found no room, so asking must clear it (SO_ERROR, socket(7)).
            let error = self.opened.socket.take_error().map_err(failed("SO_ERROR"))?;
            self.forgotten(error.and_then(|error| error.raw_os_error()));
        }
        Ok(true)
    }
}
