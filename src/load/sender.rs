//! A sender on absolute deadlines: datagram n is due at start + n / rate, whatever happened before.
//! What could not be sent by the end is `unsent`, never stretched in silence.

use std::io;
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nix::time::{ClockId, ClockNanosleepFlags, clock_nanosleep};

use super::stamp;
use crate::datapath::backend::Cursor;
use crate::datapath::batch::{Batch, Frame};
use crate::datapath::clock;
use crate::datapath::mmsg;
use crate::datapath::outgoing::{Door, Outgoing, SENDS_MAX};

/// What to send.
#[derive(Clone, Debug)]
pub struct LoadSpec {
    /// To whom.
    pub target: SocketAddr,
    /// Datagrams a second; `None`: as fast as the kernel takes them.
    pub rate_pps: Option<u64>,
    /// Stop after this many.
    pub count: Option<u64>,
    /// Stop after this long.
    pub duration: Option<Duration>,
    /// Payload bytes of each datagram.
    pub size: usize,
    /// Datagrams per send: 1 sends each alone, more become one segmented send (UDP_SEGMENT).
    pub train: usize,
    /// Sockets, and so source ports, to send from in turn.
    pub flows: usize,
    /// Fill payloads so that a changed byte is seen; costs the sender about 1 ns a byte.
    pub filled: bool,
}

/// What was sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadReport {
    /// Due by the end; 0 without a rate or count.
    pub intended: u64,
    /// The kernel took them.
    pub sent: u64,
    /// The kernel refused them for another reason than a full buffer.
    pub failed: u64,
    /// From the first to the last, ns.
    pub elapsed_ns: u64,
}

impl LoadReport {
    /// Due but not sent.
    #[must_use]
    pub fn unsent(&self) -> u64 {
        self.intended.saturating_sub(self.sent + self.failed)
    }
}

/// The longest sleep before `stop` is looked at again.
const WAIT_MAX_NS: u64 = 100_000_000;
/// Below this a sender spins to its next deadline: a sleep is not that exact.
const SPIN_NS: u64 = 100_000;

/// Sends until count, duration or `stop` ends it.
///
/// # Errors
/// A socket could not be opened, or a size is impossible (over 65507 bytes in one send).
pub fn run(spec: &LoadSpec, stop: &AtomicBool) -> io::Result<LoadReport> {
    let mut sender = Sender::new(spec)?;
    let start_ns = clock::monotonic_ns();
    let end_ns =
        spec.duration.map(|d| start_ns + u64::try_from(d.as_nanos()).unwrap_or(u64::MAX / 2));
    let mut report = LoadReport::default();
    let mut next = 0;
    while !stop.load(Ordering::Relaxed) && spec.count.is_none_or(|count| next < count) {
        let now_ns = clock::monotonic_ns();
        if end_ns.is_some_and(|end| now_ns >= end) {
            break;
        }
        let due = spec.rate_pps.map_or(u64::MAX, |rate| due(now_ns - start_ns, rate));
        let due = due.min(spec.count.unwrap_or(u64::MAX)) - next;
        if due < sender.train as u64 && spec.count.is_none_or(|count| count - next > due) {
            let at = next + sender.train as u64 - 1;
            let due_ns = start_ns + spec.rate_pps.map_or(0, |rate| due_at(at, rate));
            wait_until(due_ns.min(end_ns.unwrap_or(u64::MAX)).min(now_ns + WAIT_MAX_NS));
            continue;
        }
        let (sent, failed) = sender.round(next, due)?;
        report.sent += sent;
        report.failed += failed;
        next += sent + failed;
    }
    report.elapsed_ns = clock::monotonic_ns() - start_ns;
    let by_rate = spec.rate_pps.map(|rate| due(report.elapsed_ns, rate));
    report.intended = match (by_rate, spec.count) {
        (Some(rate), Some(count)) => rate.min(count),
        (Some(intended), None) | (None, Some(intended)) => intended,
        (None, None) => next,
    };
    Ok(report)
}

/// How many datagrams are due after `elapsed_ns`: the first at 0.
fn due(elapsed_ns: u64, rate_pps: u64) -> u64 {
    let due = u128::from(elapsed_ns) * u128::from(rate_pps) / 1_000_000_000;
    u64::try_from(due).unwrap_or(u64::MAX - 1) + 1
}

/// When datagram `number` is due, ns after the start.
fn due_at(number: u64, rate_pps: u64) -> u64 {
    let at = u128::from(number) * 1_000_000_000 / u128::from(rate_pps.max(1));
    u64::try_from(at).unwrap_or(u64::MAX / 2)
}

fn wait_until(deadline_ns: u64) {
    loop {
        let now_ns = clock::monotonic_ns();
        if now_ns >= deadline_ns {
            return;
        }
        if deadline_ns - now_ns > SPIN_NS {
            let wake = Duration::from_nanos(deadline_ns - SPIN_NS / 2);
            let flags = ClockNanosleepFlags::TIMER_ABSTIME;
            // EINTR leads back to the loop.
            let _ = clock_nanosleep(ClockId::CLOCK_MONOTONIC, flags, &wake.into());
        } else {
            std::hint::spin_loop();
        }
    }
}

struct Sender {
    sockets: Vec<UdpSocket>,
    doors: Vec<Door>,
    batch: Batch,
    outgoing: Outgoing,
    scratch: Vec<u8>,
    target: SocketAddr,
    size: usize,
    train: usize,
    filled: bool,
    /// Flow of the next send.
    flow: usize,
}

impl Sender {
    fn new(spec: &LoadSpec) -> io::Result<Self> {
        let train = spec.train.clamp(1, 64);
        if spec.size * train > 65_507 {
            let reason = format!("{train} x {} bytes do not fit one send of 65507", spec.size);
            return Err(io::Error::new(io::ErrorKind::InvalidInput, reason));
        }
        let bind = |_| {
            let any: SocketAddr = if spec.target.is_ipv6() {
                (std::net::Ipv6Addr::UNSPECIFIED, 0).into()
            } else {
                (std::net::Ipv4Addr::UNSPECIFIED, 0).into()
            };
            let socket = UdpSocket::bind(any)?;
            socket.connect(spec.target)?;
            Ok(socket)
        };
        let sockets = (0..spec.flows.max(1)).map(bind).collect::<io::Result<Vec<_>>>()?;
        let is_v6 = spec.target.is_ipv6();
        Ok(Self {
            doors: sockets.iter().map(|s| Door { fd: s.as_raw_fd(), is_v6 }).collect(),
            sockets,
            batch: Batch::new(SENDS_MAX * spec.size.max(1) * train, SENDS_MAX, 0),
            outgoing: Outgoing::new(),
            scratch: vec![0; spec.size * train],
            target: spec.target,
            size: spec.size,
            train,
            filled: spec.filled,
            flow: 0,
        })
    }

    /// Sends datagrams `first..` of those `due`, at most one system call's worth a flow. Returns
    /// how many the kernel took and how many it refused.
    fn round(&mut self, first: u64, due: u64) -> io::Result<(u64, u64)> {
        self.prepare(first, due);
        let (mut sent, mut failed) = (0, 0);
        self.outgoing.prepare(&self.batch, Cursor::default(), false, &self.doors);
        let mut start = 0;
        while start < self.outgoing.len() {
            let flow = self.outgoing.listener(start);
            let datagrams = |from: usize, count: usize| -> u64 {
                self.batch.entries()[from..from + count]
                    .iter()
                    .map(crate::datapath::batch::datagrams_of)
                    .sum()
            };
            match mmsg::send_run(self.doors[flow].fd, &mut self.outgoing, start) {
                Ok(count) => {
                    sent += datagrams(start, count);
                    start += count;
                }
                Err(error) => match error.raw_os_error() {
                    Some(libc::EAGAIN) => await_room(&self.sockets[flow]),
                    Some(libc::EINTR) => {}
                    // An ICMP error of an earlier datagram; this one was not sent, and is tried again.
                    Some(libc::ECONNREFUSED) => {}
                    Some(libc::EINVAL | libc::EMSGSIZE | libc::EBADF) => return Err(error),
                    _ => {
                        failed += datagrams(start, 1);
                        start += 1;
                    }
                },
            }
        }
        Ok((sent, failed))
    }

    fn prepare(&mut self, first: u64, due: u64) {
        self.batch.clear();
        let now_ns = clock::monotonic_ns();
        let mut number = first;
        for _ in 0..SENDS_MAX {
            let count = (first + due - number).min(self.train as u64);
            if count == 0 {
                return;
            }
            let bytes = usize::try_from(count).unwrap_or(self.train) * self.size;
            for piece in self.scratch[..bytes].chunks_mut(self.size.max(1)) {
                stamp::write(piece, number, now_ns);
                if self.filled {
                    stamp::fill(piece, number);
                }
                number += 1;
            }
            if self.size == 0 {
                number += count;
            }
            let frame = Frame {
                payload: &self.scratch[..bytes],
                peer: self.target,
                local: None,
                listener: u16::try_from(self.flow).unwrap_or(0),
                segment_bytes: if count > 1 { u16::try_from(self.size).unwrap_or(0) } else { 0 },
                truncated: false,
            };
            let fits = self.batch.push(&frame, 0);
            debug_assert!(fits, "the batch was made for a whole round");
            self.flow = (self.flow + 1) % self.sockets.len();
        }
    }
}

/// Waits until a full send buffer has room again.
fn await_room(socket: &UdpSocket) {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
    use std::os::fd::AsFd;
    let writable = PollFd::new(socket.as_fd(), PollFlags::POLLOUT);
    // The caller tries again whatever this returns.
    let _ = poll(&mut [writable], PollTimeout::from(10u8));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sends_every_datagram_once_in_order() {
        let receiver = UdpSocket::bind("127.0.0.1:0").unwrap();
        let spec = LoadSpec {
            target: receiver.local_addr().unwrap(),
            rate_pps: None,
            count: Some(100),
            duration: None,
            size: 100,
            train: 8,
            flows: 1,
            filled: true,
        };
        let report = run(&spec, &AtomicBool::new(false)).unwrap();
        assert_eq!((report.sent, report.failed, report.unsent()), (100, 0, 0));
        let mut buffer = [0; 256];
        for number in 0..100 {
            let len = receiver.recv(&mut buffer).unwrap();
            assert_eq!(len, 100);
            assert!(stamp::is_intact(&buffer[..len]));
            assert_eq!(stamp::Stamp::read(&buffer[..len]).number, Some(number));
        }
    }

    #[test]
    fn a_rate_is_kept_by_deadlines() {
        assert_eq!(due(0, 1000), 1);
        assert_eq!(due(999_999, 1000), 1);
        assert_eq!(due(1_000_000, 1000), 2);
        assert_eq!(due_at(1, 1000), 1_000_000);
        assert_eq!(due(due_at(12_345, 77_777), 77_777), 12_345);
    }

    #[test]
    fn an_impossible_size_is_refused() {
        let spec = LoadSpec {
            target: "127.0.0.1:9".parse().unwrap(),
            rate_pps: None,
            count: Some(1),
            duration: None,
            size: 65_000,
            train: 2,
            flows: 1,
            filled: false,
        };
        assert!(run(&spec, &AtomicBool::new(false)).is_err());
    }
}
