//! What the two sides of a bench say to each other: one JSON object a line, over TCP.
//!
//! ```text
//!  client                                server (the host under test)
//!  hello {version, token}          ─►
//!                                  ◄─    welcome {version, host}
//!  prepare {receiver}              ─►    starts a receiver
//!                                  ◄─    ready {address}
//!  … sends the warm-up, then …
//!  mark                            ─►    waits until it has arrived, snapshots every layer
//!                                  ◄─    marked
//!  … sends the load, then …
//!  finish {sent, by flow}          ─►    waits until counts stand still, snapshots, stops
//!                                  ◄─    outcome {…}        or at any time: error {message}
//! ```
//! Lines are bounded, versions and the token are checked before anything else, and a client that goes
//! away takes its receiver with it.

use std::io::{self, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::document::facts::HostFacts;
use crate::document::report::StageRecord;

/// Of the protocol; both sides must have the same. Anything said or heard that changes, changes it.
pub const VERSION: u32 = 1;
/// The longest line. The flows' counts are the longest thing said: 65536 of 20 digits.
pub const LINE_BYTES_MAX: usize = 2 << 20;
/// How long the other side may think.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// How long it may take to read what was said.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// How soon somebody who waits notices that the end was asked for.
const LOOK_EVERY_MS: u8 = 100;

/// From the client.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case", deny_unknown_fields)]
pub enum Request {
    /// The first thing said.
    Hello {
        /// [`VERSION`].
        version: u32,
        /// What the server was started with, if anything.
        token: Option<String>,
    },
    /// Start a receiver; ends the one there is.
    Prepare {
        /// What to start.
        receiver: ReceiverSpec,
    },
    /// The warm-up has been sent.
    Mark {
        /// Datagrams of it that left the sender.
        sent: u64,
        /// As in `finish`.
        settle_ms: u64,
    },
    /// The load has been sent.
    Finish {
        /// Datagrams of it that left the sender.
        sent: u64,
        /// Numbers given out in each flow.
        issued_by_flow: Vec<u64>,
        /// Of those, the ones that never left the sender.
        failed: u64,
        /// How long nothing may come before counts are taken for final, if not all has come, ms.
        settle_ms: u64,
    },
}

/// From the server.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum Reply {
    /// The client may go on.
    Welcome {
        /// [`VERSION`].
        version: u32,
        /// The host under test.
        host: HostFacts,
    },
    /// A receiver stands.
    Ready {
        /// Where it listens.
        address: SocketAddr,
        /// How it is set up.
        setup: Setup,
    },
    /// The warm-up has been taken off the accounts.
    Marked,
    /// A trial's receiving half.
    Outcome {
        /// What was found.
        outcome: Box<Outcome>,
    },
    /// It cannot be done; the connection is closed where the client is at fault.
    Error {
        /// What, why, and the next move.
        message: String,
        /// The client asked for something that cannot be.
        #[serde(default)]
        usage: bool,
    },
}

/// Which receiver to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReceiverSpec {
    /// Who receives.
    pub kind: Kind,
    /// Take trains whole (UDP_GRO).
    pub gro: bool,
    /// Receive buffer to ask for, bytes.
    pub rcvbuf_bytes: usize,
    /// Cores, receivers first; empty: the server chooses.
    pub cores: Vec<usize>,
    /// The run whose datagrams are to be counted as ours.
    pub run: u32,
    /// Its flows.
    pub flows: usize,
    /// The largest payload, bytes: a bare loop has slots for it.
    pub size_max: usize,
    /// Look at every datagram; else only count, as the bare loops do.
    pub tracks: bool,
    /// Split latency into stages by the kernel's receive time.
    pub stages: bool,
    /// Send each datagram back.
    pub echoes: bool,
    /// The kernel's boot id at the sender: with the same one, clocks are shared.
    pub sender_boot_id: String,
}

/// Who receives.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum Kind {
    /// The engine.
    Engine(EngineSpec),
    /// A bare loop around one system call.
    Bare {
        /// `recvmsg`, `recvmmsg`, `recvmmsg_epoll` or `recvmmsg_naps`.
        call: String,
    },
}

/// How to run the engine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EngineSpec {
    /// `auto`, `io_uring` or `recvmmsg`.
    pub backend: String,
    /// Receiver threads.
    pub receivers: usize,
    /// Worker threads; 0: inline.
    pub workers: usize,
    /// Provided buffers per receiver.
    pub slots: usize,
    /// Most latency that gathering may add, us; `None`: the default.
    pub coalesce_us: Option<u64>,
    /// `wait` or `drop`.
    pub overload: String,
    /// Count arrivals by eBPF where that can be had.
    pub arrivals: bool,
    /// Handlers hold their first batch until the trial is over: for finding losses where they are made.
    pub stalled: bool,
}

/// How a receiver is set up.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Setup {
    /// `io_uring`, `recvmmsg`, or the call of a bare loop.
    pub backend: String,
    /// Where receivers are pinned.
    pub receiver_cores: Vec<usize>,
    /// Where workers are pinned.
    pub worker_cores: Vec<usize>,
    /// Receive buffer granted, bytes.
    pub rcvbuf_bytes: usize,
    /// How arrivals are counted, or why not.
    pub arrivals: String,
}

/// What the receiving side found between mark and finish, in datagrams.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// Reached the sockets, where counted.
    pub arrived: Option<u64>,
    /// Taken from the sockets.
    pub received: u64,
    /// Dropped by the kernel at the sockets.
    pub kernel: u64,
    /// The same as the kernel itself counts it, in buffers.
    pub kernel_buffers: u64,
    /// `kernel` is in datagrams; else in buffers, each perhaps a train.
    pub kernel_exact: bool,
    /// Longer than a slot.
    pub truncated: u64,
    /// No empty batch.
    pub pool: u64,
    /// The worker's queue was full.
    pub queue: u64,
    /// Left in the sockets.
    pub unread: u64,
    /// Given to handlers.
    pub handled: u64,
    /// What the engine's own ledger is off by.
    pub residual: i64,
    /// Times the slots ran out; no loss by itself.
    pub ring_exhausted: u64,
    /// Counts still moved when the time to settle was over.
    pub unsettled: bool,
    /// What the handlers counted, where they looked.
    pub seen: Option<Seen>,
    /// What the kernel counted elsewhere.
    pub layers: crate::subject::layers::Losses,
    /// CPU time of each thread by its name, ns.
    pub threads: Vec<(String, u64)>,
    /// CPU time of the receiving threads, ns.
    pub receiver_cpu_ns: u64,
    /// Of the workers; `None` without any.
    pub worker_cpu_ns: Option<u64>,
    /// Interrupts and softirqs of the whole host, ns.
    pub softirq_ns: u64,
    /// Everything the host did, ns.
    pub host_ns: u64,
    /// Context switches of the receiving threads and workers.
    pub switches: crate::document::report::Switches,
    /// Latency by stage.
    pub stages: Vec<StageRecord>,
}

/// What the handlers saw in the datagrams.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    /// Of the run, each counted once.
    pub distinct: u64,
    /// Came again.
    pub duplicates: u64,
    /// Came after a later one.
    pub reordered: u64,
    /// How far out of order one was at most, datagrams (RFC 4737, section 4.2).
    pub extent_max: u32,
    /// Interarrival jitter, the mean over flows, ns (RFC 3550, section 6.4.1); `None` where datagrams do
    /// not say when they were sent.
    pub jitter_ns: Option<u64>,
    /// Too late to be told from a duplicate.
    pub late: u64,
    /// Not of the run, since the mark.
    pub foreign: u64,
    /// The same and what was too short to say whose it is: foreign too, unless the run's own are so short.
    pub not_named_ours: u64,
    /// Sent and not seen, by the numbers.
    pub lost: u64,
    /// Nothing came that was not sent.
    pub sound: bool,
}

/// One end of the conversation.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    /// Read, and not a whole line yet, or not looked at.
    read: Vec<u8>,
}

/// What there was to hear.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// No whole line yet.
    Nothing,
    /// A line.
    Said(T),
    /// The other side will say nothing more.
    HungUp,
}

impl Line {
    /// Takes a connected stream; a vanished host is noticed within half a minute.
    ///
    /// # Errors
    /// A socket option was refused.
    pub fn new(stream: TcpStream) -> io::Result<Self> {
        stream.set_nodelay(true)?;
        let keepalive = socket2::TcpKeepalive::new()
            .with_time(Duration::from_secs(10))
            .with_interval(Duration::from_secs(5))
            .with_retries(4);
        let socket = socket2::SockRef::from(&stream);
        socket.set_tcp_keepalive(&keepalive)?;
        socket.set_tcp_user_timeout(Some(PATIENCE))?;
        // Longer, and a side that does not read would hold the other up.
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// The socket, to wait on.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Whether a line has been read that was not looked at.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.read.contains(&b'\n')
    }

    /// Says one thing.
    ///
    /// # Errors
    /// The other side is gone, or does not read.
    pub fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Takes a line if there is one; never waits.
    ///
    /// # Errors
    /// The line is too long, or it is not what was expected (`InvalidData`); the connection broke.
    pub fn hear_now<T: DeserializeOwned>(&mut self) -> io::Result<Heard<T>> {
        let mut hung_up = false;
        while !hung_up && !self.has_more() {
            let mut bytes = [0; 4096];
            match recv(self.stream.as_raw_fd(), &mut bytes, MsgFlags::MSG_DONTWAIT) {
                Ok(0) => hung_up = true,
                Ok(count) => self.read.extend_from_slice(&bytes[..count]),
                Err(Errno::EINTR) => {}
                Err(Errno::EAGAIN) => return Ok(Heard::Nothing),
                Err(errno) => return Err(errno.into()),
            }
            if self.read.len() > LINE_BYTES_MAX {
                return Err(io::Error::new(io::ErrorKind::InvalidData, "a line is too long"));
            }
        }
        let Some(end) = self.read.iter().position(|&byte| byte == b'\n') else {
            if self.read.is_empty() {
                return Ok(Heard::HungUp);
            }
            return Err(io::Error::new(io::ErrorKind::InvalidData, "the line was cut off"));
        };
        let line: Vec<u8> = self.read.drain(..=end).collect();
        serde_json::from_slice(&line)
            .map(Heard::Said)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
    }

    /// Waits for a line, for `patience` at most and as long as nobody asks for the end. `None`: the
    /// other side has hung up.
    ///
    /// # Errors
    /// Nothing came in time (`TimedOut`), the end was asked for (`Interrupted`), or as
    /// [`hear_now`](Self::hear_now).
    pub fn hear<T: DeserializeOwned>(
        &mut self,
        patience: Duration,
        stopped: &dyn Fn() -> bool,
    ) -> io::Result<Option<T>> {
        let by = Instant::now() + patience;
        loop {
            match self.hear_now()? {
                Heard::Said(heard) => return Ok(Some(heard)),
                Heard::HungUp => return Ok(None),
                Heard::Nothing if stopped() => return Err(io::ErrorKind::Interrupted.into()),
                Heard::Nothing if Instant::now() >= by => {
                    return Err(io::ErrorKind::TimedOut.into());
                }
                Heard::Nothing => {}
            }
            let mut polled = [PollFd::new(self.stream.as_fd(), PollFlags::POLLIN)];
            // EINTR and the timeout lead back to the checks above.
            let _ = poll(&mut polled, PollTimeout::from(LOOK_EVERY_MS));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use ringest_base::sys::threads::spawn_named;
    use std::net::TcpListener;

    fn pair() -> (TcpStream, Line) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let raw = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        (raw, Line::new(listener.accept().unwrap().0).unwrap())
    }

    #[test]
    fn what_is_said_is_heard() {
        let (raw, mut line) = pair();
        let mut other = Line::new(raw).unwrap();
        let request = Request::Finish {
            sent: 7,
            issued_by_flow: vec![u64::MAX; 65_536],
            failed: 0,
            settle_ms: 20,
        };
        let say = move || {
            other.say(&request).unwrap();
            (other, request)
        };
        let said = spawn_named("say".to_owned(), None, say).unwrap();
        let heard: Request = line.hear(PATIENCE, &|| false).unwrap().unwrap();
        let (other, request) = said.join().unwrap();
        assert_eq!(heard, request);
        drop(other);
        assert_eq!(line.hear::<Request>(PATIENCE, &|| false).unwrap(), None);
    }

    #[test]
    fn garbage_long_lines_and_silence_are_errors() {
        let (mut raw, mut line) = pair();
        raw.write_all(b"GET / HTTP/1.1\r\n").unwrap();
        let error = line.hear::<Request>(PATIENCE, &|| false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        let error = line.hear::<Request>(Duration::from_millis(1), &|| false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        let error = line.hear::<Request>(PATIENCE, &|| true).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::Interrupted);
        let pour = move || {
            let _ = raw.write_all(&vec![b'x'; LINE_BYTES_MAX + 2]);
            raw
        };
        let flood = spawn_named("flood".to_owned(), None, pour).unwrap();
        let error = line.hear::<Request>(PATIENCE, &|| false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        drop(line);
        drop(flood.join().unwrap());
    }

    #[test]
    fn a_line_that_comes_byte_by_byte_is_not_waited_for() {
        let (mut raw, mut line) = pair();
        let drip = move || {
            while raw.write_all(b"x").is_ok() {
                std::thread::sleep(Duration::from_millis(1));
            }
        };
        let drip = spawn_named("drip".to_owned(), None, drip).unwrap();
        let error = line.hear::<Request>(Duration::from_millis(50), &|| false).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
        drop(line);
        drip.join().unwrap();
    }

    proptest! {
        #[test]
        fn any_line_is_read_without_panic(text in any::<String>()) {
            let _ = serde_json::from_str::<Request>(&text);
            let _ = serde_json::from_str::<Reply>(&text);
        }
    }
}
