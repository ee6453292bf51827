//! `ringest send`: one datagram a message, and what the peer's host says to it.

use std::ffi::OsString;
use std::io::{self, BufRead, IsTerminal, Read};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;

use clap::Args;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use super::failure::Failure;
use super::paint::{self, count};
use super::values;

const EXAMPLES: &str = "\
Examples:
  ringest send 127.0.0.1:9000 hello            one datagram
  ringest send 127.0.0.1:9000 one 'two words'  two datagrams
  journalctl -f | ringest send '[::1]:514'     one datagram a line

Sent does not mean received: UDP has no acknowledgement, and a datagram can be lost on the way or
dropped by a full receive buffer. Only the opposite is sometimes told: if nothing is bound to the
port, the peer's host may answer 'port unreachable', and this says so and exits with 1.";

/// The largest payload of one UDP datagram over IPv4: 65535 less 20 (IP) less 8 (UDP).
const MESSAGE_BYTES_MAX: usize = 65_507;

/// How long to wait for 'port unreachable' after the last message. Loopback and a LAN answer well
/// within it; longer would be felt in every script.
const ANSWER_WAIT_MS: u8 = 100;

/// Send datagrams, one per message
#[derive(Args, Debug)]
#[command(after_help = EXAMPLES)]
pub(super) struct SendArgs {
    /// To whom: IP:PORT or [IP6]:PORT
    #[arg(value_name = "ADDR", value_parser = values::peer_addr)]
    address: SocketAddr,
    /// What to send, one datagram each; without any, lines are read from stdin, and a line's end is
    /// not sent
    #[arg(value_name = "MESSAGE")]
    messages: Vec<OsString>,
}

pub(super) fn run(args: &SendArgs) -> Result<(), Failure> {
    if let Some(long) = args.messages.iter().find(|m| m.len() > MESSAGE_BYTES_MAX) {
        return Err(Failure::Usage(too_long("a message", long.len())));
    }
    let mut peer = Peer::connect(args.address)?;
    let finished = if args.messages.is_empty() {
        send_lines(&mut peer, io::stdin().lock())
    } else {
        args.messages.iter().try_for_each(|message| peer.send(message.as_bytes()))
    };
    let last_word = finished.and_then(|()| peer.await_answer());
    paint::say(&format!("sent {} to {}\n", datagrams(peer.sent), peer.address));
    last_word?;
    peer.judge()
}

fn too_long(what: &str, bytes: usize) -> String {
    format!(
        "{what} has {bytes} bytes; one datagram carries at most {MESSAGE_BYTES_MAX}, so split it"
    )
}

fn datagrams(number: u64) -> String {
    format!("{} datagram{}", count(number), if number == 1 { "" } else { "s" })
}

/// A connected socket, and what became of what it sent.
#[derive(Debug)]
struct Peer {
    socket: UdpSocket,
    address: SocketAddr,
    sent: u64,
    refused: bool,
    /// Lines over the limit.
    too_long: u64,
}

impl Peer {
    fn connect(address: SocketAddr) -> Result<Self, Failure> {
        let any: SocketAddr = match address {
            SocketAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
            SocketAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
        };
        let socket = UdpSocket::bind(any)
            .and_then(|socket| socket.connect(address).map(|()| socket))
            .map_err(|error| cannot_send(address, &error))?;
        Ok(Self { socket, address, sent: 0, refused: false, too_long: 0 })
    }

    /// Sends one message. On a connected socket the error an earlier datagram earned is reported by
    /// a later send, which then sends nothing (udp(7)); that message is sent again.
    fn send(&mut self, message: &[u8]) -> Result<(), Failure> {
        loop {
            match self.socket.send(message) {
                Ok(_) => {
                    self.sent += 1;
                    return Ok(());
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                // Each report takes one answer away, and there are no more answers than datagrams.
                Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
                    self.note_refusal();
                }
                Err(error) => return Err(cannot_send(self.address, &error)),
            }
        }
    }

    fn note_refusal(&mut self) {
        if !std::mem::replace(&mut self.refused, true) {
            paint::say(&format!(
                "{}: the host answered 'port unreachable', so this and maybe more was not received\n",
                self.address
            ));
        }
    }

    /// Gives the answer to the last message time to come.
    fn await_answer(&mut self) -> Result<(), Failure> {
        if self.refused || self.sent == 0 {
            return Ok(());
        }
        // POLLERR needs no asking for. EINTR: then we waited less, and look all the same.
        let mut polled = [PollFd::new(self.socket.as_fd(), PollFlags::empty())];
        let _ = poll(&mut polled, PollTimeout::from(ANSWER_WAIT_MS));
        match self.socket.take_error() {
            Ok(Some(error)) if error.kind() == io::ErrorKind::ConnectionRefused => {
                self.note_refusal();
                Ok(())
            }
            Ok(Some(error)) | Err(error) => Err(cannot_send(self.address, &error)),
            Ok(None) => Ok(()),
        }
    }

    fn judge(&self) -> Result<(), Failure> {
        if self.refused {
            return Err(Failure::Failed(format!(
                "nothing is bound to UDP port {} at {}; `ss -uln` on that host shows what is, and \
                 `ringest listen {}` there would take it",
                self.address.port(),
                self.address.ip(),
                self.address
            )));
        }
        if self.too_long > 0 {
            return Err(Failure::Failed(format!(
                "{} lines were over {MESSAGE_BYTES_MAX} bytes and not sent",
                count(self.too_long)
            )));
        }
        Ok(())
    }
}

/// What a send error means, as far as it is known.
fn cannot_send(address: SocketAddr, error: &io::Error) -> Failure {
    let next = match error.raw_os_error().map(Errno::from_raw) {
        Some(Errno::ENETUNREACH | Errno::EHOSTUNREACH) => {
            format!("; `ip route get {}` shows the way there, if any", address.ip())
        }
        Some(Errno::EPERM) => "; a firewall on this host refuses it, see `nft list ruleset`".into(),
        Some(Errno::EACCES) => "; it is a broadcast address, which this does not send to".into(),
        Some(Errno::EMSGSIZE) => "; it is longer than the path to the peer takes".into(),
        _ => String::new(),
    };
    Failure::Failed(format!("cannot send to {address}: {error}{next}"))
}

/// Sends every line; one that is too long is refused and the next one goes on.
fn send_lines(peer: &mut Peer, mut input: impl BufRead) -> Result<(), Failure> {
    if io::stdin().is_terminal() {
        paint::say("one datagram a line; ^D ends\n");
    }
    let mut line = Vec::new();
    for number in 1u64.. {
        match read_line(&mut input, &mut line) {
            Ok(Line::Whole) => peer.send(&line)?,
            Ok(Line::TooLong(bytes)) => {
                peer.too_long += 1;
                let what = format!("line {number}");
                paint::say(&format!("ringest: {}; not sent\n", too_long(&what, bytes)));
            }
            Ok(Line::End) => break,
            Err(error) => {
                return Err(Failure::Failed(format!("cannot read stdin: {error}")));
            }
        }
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq)]
enum Line {
    /// In the buffer, without its end.
    Whole,
    /// This long, and skipped.
    TooLong(usize),
    End,
}

/// Reads a line without ever holding more than a datagram of it.
fn read_line(input: &mut impl BufRead, line: &mut Vec<u8>) -> io::Result<Line> {
    line.clear();
    // One for the line end, one to see that there is more.
    let room = MESSAGE_BYTES_MAX as u64 + 2;
    if input.by_ref().take(room).read_until(b'\n', line)? == 0 {
        return Ok(Line::End);
    }
    if line.last() == Some(&b'\n') {
        line.pop();
    } else if line.len() > MESSAGE_BYTES_MAX {
        let rest = skip_line(input)?;
        return Ok(Line::TooLong(line.len() + rest));
    }
    if line.len() > MESSAGE_BYTES_MAX {
        return Ok(Line::TooLong(line.len()));
    }
    Ok(Line::Whole)
}

/// Skips to the end of the line; returns how many bytes of it were skipped.
fn skip_line(input: &mut impl BufRead) -> io::Result<usize> {
    let mut skipped = 0;
    loop {
        let buffer = match input.fill_buf() {
            Ok(buffer) => buffer,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        let end = buffer.iter().position(|byte| *byte == b'\n');
        let (line, used) = match end {
            Some(end) => (end, end + 1),
            None => (buffer.len(), buffer.len()),
        };
        input.consume(used);
        skipped += line;
        if end.is_some() || used == 0 {
            return Ok(skipped);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn lines(text: &[u8]) -> Vec<Result<Vec<u8>, usize>> {
        let mut input = io::BufReader::with_capacity(1000, text);
        let (mut line, mut lines) = (Vec::new(), Vec::new());
        loop {
            match read_line(&mut input, &mut line).unwrap() {
                Line::Whole => lines.push(Ok(line.clone())),
                Line::TooLong(bytes) => lines.push(Err(bytes)),
                Line::End => return lines,
            }
        }
    }

    #[test]
    fn lines_lose_their_end_and_nothing_else() {
        let lines = lines(b"one\n\n two \r\n\xff\x00\nlast");
        let wanted: [&[u8]; 5] = [b"one", b"", b" two \r", b"\xff\x00", b"last"];
        assert_eq!(lines, wanted.map(|line| Ok(line.to_vec())));
    }

    #[test]
    fn a_line_over_the_limit_is_skipped_whole() {
        for over in [0, 1, 2, 3, 5000] {
            for end in ["\n", ""] {
                let long = "x".repeat(MESSAGE_BYTES_MAX + over);
                let text = format!("a\n{long}\nb\n{long}{end}");
                let long = if over == 0 { Ok(long.into_bytes()) } else { Err(long.len()) };
                let wanted = [Ok(b"a".to_vec()), long.clone(), Ok(b"b".to_vec()), long];
                assert_eq!(lines(text.as_bytes()), wanted, "{over} {end:?}");
            }
        }
    }

    #[test]
    fn a_refused_port_is_noticed_and_no_message_is_lost_to_it() {
        // Bound and closed again: nothing is there now.
        let address = UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let mut peer = Peer::connect(address).unwrap();
        peer.send(b"one").unwrap();
        peer.await_answer().unwrap();
        assert!(peer.refused);
        // A host that starts to listen gets every later message, though errors are still pending.
        peer.send(b"two").unwrap();
        let Ok(listener) = UdpSocket::bind(address) else { return };
        listener.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        peer.send(b"three").unwrap();
        let mut buffer = [0; 16];
        let length = listener.recv(&mut buffer).unwrap();
        assert_eq!((&buffer[..length], peer.sent), (&b"three"[..], 3));
        assert!(peer.judge().is_err());
    }
}
