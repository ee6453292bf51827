//! Waiting, and reading what the error queue has: each report counted once, for the peer it is about.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::time::TimeSpec;

use crate::builder::failed;
use crate::client::Client;
use crate::error::{ClientError, Origin, PeerError, PeerErrorKind};
use crate::errqueue;
use crate::errqueue::Report;

/// The kernel lets a poll end late by a thousandth of its timeout, or a two hundredth at a lower priority,
/// and up to 100 ms (fs/select.c, `select_estimate_accuracy`). So a wait longer than this is made of two,
/// of which the second is short. Too long and a deadline is missed by more than a few milliseconds; too
/// short, and the first may end after it.
const SPLIT_WAIT_ABOVE: Duration = Duration::from_secs(1);

/// What reading the error queue brought.
#[derive(Debug, Default)]
pub(crate) struct Told {
    /// What this host said of the send that was just tried.
    pub(crate) local: Option<Report>,
    /// The error asked about was an earlier datagram's.
    pub(crate) was_earlier: bool,
    /// There was something.
    pub(crate) any: bool,
}

/// Whether an error number can be what ICMP made of an earlier datagram (net/ipv4/icmp.c,
/// `icmp_err_convert`; net/ipv6/icmp.c, `icmpv6_err_convert`; `__udp4_lib_err`).
pub(crate) fn may_be_earlier(errno: i32) -> bool {
    matches!(
        errno,
        libc::ECONNREFUSED
            | libc::EHOSTUNREACH
            | libc::ENETUNREACH
            | libc::EACCES
            | libc::EMSGSIZE
            | libc::EPROTO
            | libc::ENOPROTOOPT
            | libc::EOPNOTSUPP
            | libc::EHOSTDOWN
            | libc::ENONET
    )
}

impl Client {
    /// Reads the error queue to its end. `errno`: what a call has just failed with.
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
        if let Some((mtu, index)) = path_mtu.zip(self.peers.find(peer)) {
            self.peers.narrow(index, mtu);
        }
    }

    /// The peer a report is about.
    fn whose(&self, report: &Report) -> Option<SocketAddr> {
        if let [peer] = *self.peers()
            && self.opened.connected
        {
            return Some(peer);
        }
        let index = self.peers.find(report.destination?)?;
        Some(self.peers.address(index))
    }

    /// Counts an error whose report found no room. To one peer it is clear whose it is.
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

    /// Waits until the socket is ready for `events`, an error has come, which is heard then, or the
    /// deadline, of which `false` tells.
    pub(crate) fn wait(
        &mut self,
        events: PollFlags,
        deadline: Instant,
    ) -> Result<bool, ClientError> {
        let mut polled = vec![PollFd::new(self.opened.socket.as_fd(), events)];
        if let Some(interrupt) = &self.builder.interrupt {
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
