//! A connection that carries one JSON object a line, with bounded lines and bounded waits.

use std::io::{self, Write};
use std::net::TcpStream;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{MsgFlags, recv};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The longest line. The longest message holds the counts of 65536 flows, with 20 digits each.
pub const LINE_BYTES_MAX: usize = 2 << 20;
/// The longest wait for an answer.
pub const PATIENCE: Duration = Duration::from_secs(30);
/// The longest time to write a message.
const WRITE_PATIENCE: Duration = Duration::from_secs(5);
/// Interval at which a wait checks for a stop.
const LOOK_EVERY_MS: u8 = 100;

/// One end of a connection.
#[derive(Debug)]
pub struct Line {
    stream: TcpStream,
    /// Bytes that were received but not yet returned as a line.
    read: Vec<u8>,
}

/// The result of a read.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard<T> {
    /// No whole line yet.
    Nothing,
    /// A line.
    Said(T),
    /// The other side closed the connection.
    HungUp,
}

impl Line {
    /// Takes a connected stream and sets its options. A host that vanishes is noticed within 30 s.
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
        // Longer: a side that does not read would hold the other up.
        stream.set_write_timeout(Some(WRITE_PATIENCE))?;
        Ok(Self { stream, read: Vec::new() })
    }

    /// Returns the socket, to poll it.
    #[must_use]
    pub fn socket(&self) -> &TcpStream {
        &self.stream
    }

    /// Returns whether a received line is waiting.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.read.contains(&b'\n')
    }

    /// Sends one message.
    ///
    /// # Errors
    /// The other side is gone or does not read.
    pub fn say(&mut self, message: &impl Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(message)?;
        line.push(b'\n');
        self.stream.write_all(&line)
    }

    /// Returns a message if there is one; never waits.
    ///
    /// # Errors
    /// The line is too long or not the expected message (`InvalidData`); the connection failed.
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

    /// Waits for a message, for at most `patience` and until `stopped` returns true. Returns `None` if the
    /// other side closed the connection.
    ///
    /// # Errors
    /// Nothing came in time (`TimedOut`), `stopped` returned true (`Interrupted`), or those of
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
    use crate::wire::message::{Reply, Request};
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
